"""Names along an axis and above it: as large as they can be, never on top of each other, never cut off."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.textpath import TextPath

from figures.style import LABEL, SMALLEST, TITLE, pt

LEADING = 1.3  # distance of two lines of text as a multiple of the font size
LEGEND_LEADING = 1.6  # the same between the lines of a legend
_NARROWEST = 0.2  # least width of a letter as a multiple of the font size: more letters can never fit
PAD = 5.0  # points between the axis and its labels, tick included


def shorten(name: str, limit: int = 34) -> str:
    """A name of at most `limit` characters; a longer one loses its middle."""
    name = " ".join(name.split())
    if len(name) <= limit:
        return name
    head = (limit - 1) // 2
    return f"{name[:head]}…{name[len(name) - (limit - 1 - head) :]}"


def shorten_all(names: Sequence[str], limit: int = 34) -> list[str]:
    """Names of at most `limit` characters; different ones stay different."""
    return told_apart([shorten(name, limit) for name in names], names)


def told_apart(shown: Sequence[str], names: Sequence[str]) -> list[str]:
    """Shortened names, numbered where different ones have become the same."""
    alike: dict[str, list[str]] = {}
    for text, name in zip(shown, names, strict=True):
        if name not in alike.setdefault(text, []):
            alike[text].append(name)
    return [
        f"{shorten(text, max(len(text) - 4, 4))} ({alike[text].index(name) + 1})" if len(alike[text]) > 1 else text
        for text, name in zip(shown, names, strict=True)
    ]


def fit(text: str, size: float, room: float) -> str:
    """A line of text shortened to `room` points, but never to fewer than ten characters."""
    most = min(len(text), 10 + int(room / (size * _NARROWEST)))
    if most <= 10 or text_width(shorten(text, most), size) <= room:
        return shorten(text, most)
    # widths are slow to find: halved, not tried one after the other
    least = 10
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if text_width(shorten(text, middle), size) <= room else (least, middle)
    return shorten(text, least)


def fitting(size: float, room: float, *texts: str) -> str:
    """The first of some wordings, longest first, that `room` points hold; else the last, shortened."""
    return next((text for text in texts if text_width(text, size) <= room), fit(texts[-1], size, room))


def in_lines(texts: Sequence[str], size: float, room: float) -> list[str]:
    """Sentences in lines of `room` points at most, broken between words."""
    lines: list[str] = []
    for text in texts:
        words = text.split(" ")
        lines.append(words[0])
        for word in words[1:]:
            longer = f"{lines[-1]} {word}"
            if text_width(longer, size) <= room:
                lines[-1] = longer
            else:
                lines.append(word)
    return [fit(line, size, room) for line in lines]


def wrap(text: str, size: float, room: float) -> str:
    """A line of text in two of about the same length where `room` points are not enough; each fits."""
    words = text.split(" ")
    if text_width(text, size) <= room or len(words) == 1:
        return fit(text, size, room)
    pairs = [(" ".join(words[:place]), " ".join(words[place:])) for place in range(1, len(words))]
    return "\n".join(fit(line, size, room) for line in min(pairs, key=lambda lines: widest(lines, size)))


def note_under(axes: Axes, notes: Sequence[str], room: float, left: float = 0.0) -> None:
    """Write lines of text below the title of the horizontal axis, from `left` points before the axes, `room` wide."""
    for line, note in enumerate(notes):
        axes.annotate(
            fit(note, LABEL, room),
            (0, 0),
            (-pt(left), -pt(3 + line * LABEL * LEADING)),
            xycoords=("axes fraction", axes.xaxis.label),
            textcoords="offset points",
            va="top",
            size=pt(LABEL),
            annotation_clip=False,
        )


def title_axes(axes: Axes, across: str, up: str, at: tuple[float, float], room: tuple[float, float]) -> None:
    """Name the axes, each title centred on its side unless it is too long for that.

    Args:
        axes: to name.
        across: title of the horizontal axis.
        up: title of the vertical axis.
        at: where in the room the axes' lower left corner is, in points.
        room: width and height that the titles have.
    """
    box = axes.get_window_extent()
    figure = axes.get_figure(root=True)
    assert figure is not None
    sides = (side * 72 / figure.dpi / pt(1) for side in (box.width, box.height))
    texts, places = [], []
    for text, start, whole, side in zip((across, up), at, room, sides, strict=True):
        texts.append(fit(text, TITLE, whole - 10))
        half = text_width(texts[-1], TITLE) / 2 + 5
        centre = max(min(max(start + side / 2, half), whole - half), whole / 2 if 2 * half > whole else 0)
        places.append((centre - start) / side)
    axes.set_xlabel(texts[0], x=places[0], ha="center")
    axes.set_ylabel(texts[1], y=places[1], ha="center")


def text_width(text: str, size: float) -> float:
    """Width in points of a line of text."""
    return _width_per_point(text, *map(str, mpl.rcParams["font.family"])) * size


def widest(names: Sequence[str], size: float = LABEL) -> float:
    """Width in points of the widest of some names."""
    return max((text_width(name, size) for name in names), default=0.0)


def room_below(names: Sequence[str], pitch: float) -> float:
    """Points that `label_columns` needs below the axes, ticks included."""
    return PAD + (LABEL * LEADING if _lies_flat(names, pitch) else widest(names, _fit(pitch)[0]))


def label_rows(axes: Axes, names: Sequence[str], pitch: float) -> None:
    """Write names at the ticks 0, 1, ... of the vertical axis, `pitch` points apart."""
    size, step = _fit(pitch)
    axes.set_yticks(range(0, len(names), step), names[::step], fontsize=pt(size))


def label_columns(axes: Axes, names: Sequence[str], pitch: float) -> None:
    """Write names at the ticks 0, 1, ... of the horizontal axis, upright where they would not fit flat."""
    flat = _lies_flat(names, pitch)
    size, step = (LABEL, 1) if flat else _fit(pitch)
    axes.set_xticks(range(0, len(names), step), names[::step], fontsize=pt(size), rotation=0 if flat else 90)


def head(axes: Axes, name: str, words: str, room: float, gap: float) -> None:
    """Write a name above the axes, `room` points wide at most, and smaller words below it, `gap` points above them."""
    for text, size, above in ((fit(name, TITLE, room), TITLE, gap + 9), (fit(words, LABEL, room), LABEL, gap)):
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
        axes.annotate(text, (0, 1), (0, pt(above)), size=pt(size), **place)


def _lies_flat(names: Sequence[str], pitch: float) -> bool:
    return widest(names) + 0.6 * LABEL <= pitch


def _fit(pitch: float) -> tuple[float, int]:
    """Font size, and the number of names from one that is written to the next."""
    size = min(LABEL, max(SMALLEST, pitch / LEADING))
    return size, max(1, math.ceil(size * LEADING / pitch - 1e-9))


@cache
def _width_per_point(text: str, *_family: str) -> float:
    if not text.strip():
        return 0.0
    across = TextPath((0, 0), text, size=100).vertices[:, 0]  # outlines with their control points: never too small
    return float(across.max() - across.min()) / 100
