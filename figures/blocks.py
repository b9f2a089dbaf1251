"""Blocks of images below one another, each image with a few words under it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import FigureBase
from numpy.typing import NDArray

from figures.labels import LEADING, fit
from figures.sheet import Sheet
from figures.style import LABEL, MUTED, TITLE, hue, pt

_ROOM, _SPACE = 57.0, 4.0  # points of an image at least, and between images
_HEAD, _FOOT = 16.0, 16.0
_INDENT = 15.0  # of a heading, behind its coloured square


class ImageBlock(NamedTuple):
    """Images [n, h, w, 3] under a heading, each with its lines of words."""

    heading: str
    images: NDArray[np.uint8]
    words: Sequence[str]


def draw_blocks(figure: FigureBase | None, blocks: Sequence[ImageBlock], note: str, *, lines: int) -> FigureBase:
    """Draw blocks of images, the first one on top, one page wide.

    Args:
        figure: to draw into.
        blocks: at least one.
        note: a line at the lower edge.
        lines: of words below each image.
    """
    sheet = Sheet(figure)
    per_row = max(1, int((sheet.width - 8) // _ROOM))
    side = (sheet.width - 8) / per_row - _SPACE
    words = lines * LABEL + 2 + 2 * lines
    rows = [-(-len(block.images) // per_row) for block in blocks]
    notes = sheet.lines([note])
    headings = [sheet.lines([block.heading], TITLE, _INDENT) for block in blocks]
    heads = [_HEAD + TITLE * LEADING * (len(heading) - 1) for heading in headings]
    fixed = _FOOT + LABEL * LEADING * (len(notes) - 1) + sum(heads) + words * sum(rows)
    height = sheet.cut(fixed, side * sum(rows), side * sum(rows) / 2) / sum(rows)
    sheet.note(notes, color=MUTED)
    top = sheet.height
    for index, (block, n_rows, heading, head) in enumerate(zip(blocks, rows, headings, heads, strict=True)):
        sheet.write(6, top - 8, "\N{BLACK SQUARE}", size=TITLE, va="center", color=hue(index))
        for line, text in enumerate(heading):
            sheet.write(_INDENT, top - 8 - line * TITLE * LEADING, text, size=TITLE, va="center")
        for number, (image, told) in enumerate(zip(block.images, block.words, strict=True)):
            row, column = divmod(number, per_row)
            bottom = top - head - row * (height + words) - height
            axes = sheet.place(6 + column * (side + _SPACE), bottom, side, height)
            axes.imshow(image, interpolation="nearest")
            axes.axis("off")
            axes.annotate(
                "\n".join(fit(line, LABEL - 0.5, side + _SPACE - 2) for line in told.split("\n")),
                (0.5, 0),
                (0, -pt(2)),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                va="top",
                size=pt(LABEL - 0.5),
                color=MUTED,
            )
        top -= head + n_rows * (height + words)
    return sheet.figure
