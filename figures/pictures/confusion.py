"""Confusion matrices in a row, and below them, if there are several, the unweighted average recalls."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from numpy.typing import NDArray

from figures.grid import Grid, grid_of
from figures.heatmap import ANNOTATED, annotate, paint
from figures.labels import fit, fitting, head, label_columns, label_rows, room_below, shorten_all, widest
from figures.picture import on_figure
from figures.sheet import Sheet
from figures.style import BARE, INK, LABEL, TITLE, colours, pt
from figures.words import percentage, with_ends
from kdprobe.results import Result

_HEAD = 24.0  # points above a matrix: name and accuracy
_GAP = 12.0  # points between two matrices
_BAR = 13.0  # points per bar
_NARROWEST = 90.0  # points of a matrix that stands beside another one, at least
_FEW = 10  # images of a class


@on_figure
def draw_confusion(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw saved evaluations.

    Args:
        result: of kind "evaluation"; `confusion` [models, true class, predicted class] counts,
            `accuracy` and `uar` [models, 3] (value, low, high) as fractions.
        fig: to fill; a new figure of one column or one page if not given.

    Returns:
        the figure: rows of the matrix coloured by the share of their true class, counts written up
        to 12 classes; one bar per model if there are several, in the same colours.
    """
    confusion = result.arrays["confusion"]
    names = shorten_all(result.facts["names"])
    classes = shorten_all(result.facts["classes"], 22)
    sheet = Sheet(fig, columns=1 if len(names) == 1 else 2)
    true = [fit(name, LABEL, 0.3 * sheet.width) for name in with_counts(classes, confusion[0])]
    most = {1: 1, 2: 2, 4: 2}.get(len(names), 3)
    grid = grid_of(len(names), sheet.width, left=widest(true) + TITLE + 16, gap=_GAP, least=_NARROWEST, most=most)
    across = grid.width / len(classes)
    foot = room_below(classes, across) + 4
    base = TITLE + 6 + (40 + _BAR * len(names) if len(names) > 1 else 0.0)
    fixed = base + grid.down * (_HEAD + foot)
    height = sheet.cut(fixed, grid.down * grid.width, grid.down * grid.width / 2) / grid.down
    for index, axes in enumerate(grid.place(sheet, base, foot, height, _HEAD)):
        _paint(axes, confusion[index])
        label_columns(axes, classes, across)
        label_rows(axes, [] if index % grid.across else true, height / len(classes))
        _head(axes, names[index], result.arrays["accuracy"][index], result.arrays["uar"][index], grid.width)
    _title_axes(sheet, grid, base)
    if len(names) > 1:
        _bars(sheet, names, result.arrays["uar"], float(result.facts["confidence"]))
    return sheet.figure


def with_counts(classes: Sequence[str], confusion: NDArray[np.int64]) -> list[str]:
    """Names of true classes; those of few images with their number, as a share of few says little."""
    counts = confusion.sum(axis=1).tolist()
    return [f"{name} (n = {n})" if n < _FEW else name for name, n in zip(classes, counts, strict=True)]


def row_shares(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row divided by its sum; NaN in the row of a class without images."""
    sums = confusion.sum(axis=1, keepdims=True).astype(np.float64)
    return confusion / np.where(sums == 0, np.nan, sums)


def _paint(axes: Axes, confusion: NDArray[np.int64]) -> None:
    shares = row_shares(confusion)
    axes.set_facecolor(BARE)
    image = paint(axes, shares, (0.0, 1.0), colours(0.0, 1.0))
    if len(confusion) <= ANNOTATED:
        shown = np.where(confusion == 0, np.nan, shares)  # empty cells stay without text
        annotate(image, shown, [[str(count) for count in row] for row in confusion])


def _head(axes: Axes, name: str, accuracy: NDArray[np.float64], uar: NDArray[np.float64], side: float) -> None:
    right, recall = percentage(accuracy[0]), percentage(uar[0])
    words = f"accuracy {right}, UAR {recall}", f"{right}, UAR {recall}"
    head(axes, name, fitting(LABEL, side, *words), side, 4)


def _title_axes(sheet: Sheet, grid: Grid, base: float) -> None:
    sheet.write((grid.left + sheet.width - 8) / 2, base - TITLE, "predicted class", size=TITLE, ha="center")
    sheet.write(3, (base + sheet.height) / 2, "true class", size=TITLE, rotation=90, ha="left", va="center")


def _bars(sheet: Sheet, names: list[str], uar: NDArray[np.float64], confidence: float) -> None:
    names = [fit(name, LABEL, 0.3 * sheet.width) for name in names]
    left = widest(names) + 16
    axes = sheet.place(left, 26, sheet.width - left - 84, _BAR * len(names))
    places = np.arange(len(names))[::-1]
    value, low, high = 100 * uar.T
    axes.barh(places, value, height=0.62, color=colours(0.0, 1.0)(uar[:, 0]))
    axes.hlines(places, low, high, color=INK, linewidth=pt(1.2))
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.5, len(names) - 0.5)
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0)
    interval = f"with {100 * confidence:g} % interval"
    labels = f"unweighted average recall (UAR) in %, {interval}", f"UAR in %, {interval}"
    axes.set_xlabel(fitting(TITLE, sheet.width - 12, *labels), x=(sheet.width / 2 - left) / (sheet.width - left - 84))
    for row, position in enumerate(places):
        axes.annotate(
            with_ends((value[row], low[row], high[row]), " "),
            (1.0, position),
            (pt(8), 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            size=pt(LABEL),
        )
