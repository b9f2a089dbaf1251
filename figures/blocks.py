"""Blocks of images below one another, each image with a few words under it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.labels import fit
from figures.style import LABEL, MUTED, PAGE_WIDTH, TITLE, place, sheet

_PER_ROW, _SPACE = 8, 4.0


class ImageBlock(NamedTuple):
    """Images [n, h, w, 3] under a heading, each with its lines of words."""

    heading: str
    images: NDArray[np.uint8]
    words: Sequence[str]


def draw_blocks(blocks: Sequence[ImageBlock], note: str, *, lines: int) -> Figure:
    """Draw blocks of images, the first one on top, one page wide.

    Args:
        blocks: at least one.
        note: a line at the lower edge.
        lines: of words below each image.
    """
    side = (PAGE_WIDTH - 8) / _PER_ROW - _SPACE
    pitch = side + lines * LABEL + 2 + 2 * lines
    heights = [16 + -(-len(block.images) // _PER_ROW) * pitch for block in blocks]
    total = 16 + sum(heights)
    figure = sheet(PAGE_WIDTH, total)
    figure.text(6 / PAGE_WIDTH, 7 / total, note, size=LABEL, va="center", color=MUTED)
    top = total
    for block, height in zip(blocks, heights, strict=True):
        heading = fit(block.heading, TITLE, PAGE_WIDTH - 12)
        figure.text(6 / PAGE_WIDTH, (top - 8) / total, heading, size=TITLE, va="center")
        for number, (image, words) in enumerate(zip(block.images, block.words, strict=True)):
            x = 6 + (number % _PER_ROW) * (side + _SPACE)
            y = top - 16 - (number // _PER_ROW) * pitch - side
            axes = place(figure, x, y, side, side)
            axes.imshow(image, interpolation="nearest")
            axes.axis("off")
            axes.annotate(
                words,
                (0.5, 0),
                (0, -2),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                va="top",
                size=LABEL - 0.5,
                color=MUTED,
            )
        top -= height
    return figure
