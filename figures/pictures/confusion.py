"""Confusion matrices in a row, and below them, if there are several, the unweighted average recalls."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.heatmap import ANNOTATED, annotate, paint
from figures.labels import head, label_columns, label_rows, room_below, shorten, widest
from figures.style import BARE, COLUMN_WIDTH, INK, PAGE_WIDTH, PALETTE, TITLE, colours, place, sheet, style
from figures.words import percentage, with_ends
from kdprobe.results import Result

_HEAD = 24.0  # points above a matrix: name and accuracy
_GAP = 12.0  # points between two matrices
_BAR = 13.0  # points per bar
_FEW = 10  # images of a class


@style()
def draw_confusion(result: Result) -> Figure:
    """Draw saved evaluations.

    Args:
        result: of kind "evaluation"; `confusion` [models, true class, predicted class] counts,
            `accuracy` and `uar` [models, 3] (value, low, high) as fractions.

    Returns:
        the figure: rows of the matrix coloured by the share of their true class, counts written up
        to 12 classes; one bar per model if there are several.
    """
    confusion = result.arrays["confusion"]
    names = [shorten(name) for name in result.facts["names"]]
    classes = [shorten(name, 22) for name in result.facts["classes"]]
    true = with_counts(classes, confusion[0])

    across = {1: 1, 2: 2, 4: 2}.get(len(names), 3)
    down = math.ceil(len(names) / across)
    total = COLUMN_WIDTH if len(names) == 1 else PAGE_WIDTH
    left = widest(true) + TITLE + 16
    side = (total - left - 8 - _GAP * (across - 1)) / across
    foot = room_below(classes, side / len(classes)) + 4
    bars = 40 + _BAR * len(names) if len(names) > 1 else 0.0
    base = bars + TITLE + 6
    figure = sheet(total, base + down * (_HEAD + side + foot))
    for index, name in enumerate(names):
        row, column = divmod(index, across)
        bottom = base + (down - 1 - row) * (_HEAD + side + foot) + foot
        axes = place(figure, left + column * (side + _GAP), bottom, side, side)
        _paint(axes, confusion[index], side / len(classes))
        label_columns(axes, classes, side / len(classes))
        label_rows(axes, true if column == 0 else [], side / len(classes))
        _head(axes, name, result.arrays["accuracy"][index], result.arrays["uar"][index], side)
    _title_axes(figure, left, base, total)
    if len(names) > 1:
        _bars(figure, names, result.arrays["uar"], float(result.facts["confidence"]))
    return figure


def with_counts(classes: Sequence[str], confusion: NDArray[np.int64]) -> list[str]:
    """Names of true classes; those of few images with their number, as a share of few says little."""
    counts = confusion.sum(axis=1).tolist()
    return [f"{name} (n = {n})" if n < _FEW else name for name, n in zip(classes, counts, strict=True)]


def row_shares(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row divided by its sum; NaN in the row of a class without images."""
    sums = confusion.sum(axis=1, keepdims=True).astype(np.float64)
    return confusion / np.where(sums == 0, np.nan, sums)


def _paint(axes: Axes, confusion: NDArray[np.int64], pitch: float) -> None:
    shares = row_shares(confusion)
    axes.set_facecolor(BARE)
    image = paint(axes, shares, (0.0, 1.0), colours(0.0, 1.0))
    if len(confusion) <= ANNOTATED:
        shown = np.where(confusion == 0, np.nan, shares)  # empty cells stay without text
        annotate(axes, image, shown, [[str(count) for count in row] for row in confusion], pitch)


def _head(axes: Axes, name: str, accuracy: NDArray[np.float64], uar: NDArray[np.float64], side: float) -> None:
    words = f"accuracy {percentage(accuracy[0])}, UAR {percentage(uar[0])}"
    head(axes, name, words, side, 4)


def _title_axes(figure: Figure, left: float, base: float, total: float) -> None:
    width, height = figure.get_size_inches() * 72
    figure.text((left + total - 8) / 2 / width, (base - TITLE) / height, "predicted class", size=TITLE, ha="center")
    middle = (base + height) / 2
    figure.text(3 / width, middle / height, "true class", size=TITLE, rotation=90, ha="left", va="center")


def _bars(figure: Figure, names: list[str], uar: NDArray[np.float64], confidence: float) -> None:
    left = widest(names) + 16
    axes = place(figure, left, 26, PAGE_WIDTH - left - 84, _BAR * len(names))
    places = np.arange(len(names))[::-1]
    value, low, high = 100 * uar.T
    axes.barh(places, value, height=0.62, color=PALETTE[0])
    axes.hlines(places, low, high, color=INK, linewidth=1.2)
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.5, len(names) - 0.5)
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"unweighted average recall (UAR) in %, with {100 * confidence:g} % interval", labelpad=2)
    for row, position in enumerate(places):
        axes.annotate(
            with_ends((value[row], low[row], high[row]), " "),
            (1.0, position),
            (8, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
        )
