"""Training curves: loss and accuracy over epochs, a line per run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from figures.grid import grid_of
from figures.labels import LEADING, shorten_all
from figures.picture import on_figure
from figures.remarks import first_few, remarks_on
from figures.sheet import Sheet, legend_of
from figures.style import LABEL, hue, n_hues, pt
from kdprobe.results import Result

DASHES: Sequence[str | tuple[int, tuple[float, ...]]] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
_HEIGHT, _FOOT = 132.0, 28.0  # points of the panels, and below them
_GAP = 44.0  # points between them, for the second one's numbers and title


@on_figure
def draw_curves(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw saved training curves.

    Args:
        result: of kind "training"; `epoch` [epochs], `train_loss` and `accuracy` [runs, epochs]
            (fractions), NaN where an epoch was not trained or not evaluated.
        fig: to fill; a new figure of one page if not given.

    Returns:
        the figure.
    """
    sheet, panels = Sheet(fig), panels_of(result)
    remarks = sheet.lines(first_few(remarks_on(result)))
    names = shorten_all(result.facts["names"])
    handles = [Line2D([], [], label=name, **look(index)) for index, name in enumerate(names)]
    legend = legend_of(handles, sheet.width - 34)
    grid = grid_of(len(panels), sheet.width, left=40, gap=_GAP, least=90, most=2)
    base = LABEL * LEADING * len(remarks)
    fixed = base + grid.down * _FOOT + (grid.down - 1) * 8 + legend.height + 2
    height = sheet.cut(fixed, grid.down * _HEIGHT, grid.down * 40) / grid.down
    sheet.note(remarks)
    for axes, (label, values) in zip(grid.place(sheet, base, _FOOT, height, 8), panels.items(), strict=True):
        _lines(axes, result.arrays["epoch"], values, label)
    sheet.explain(legend, 34)
    return sheet.figure


def panels_of(result: Result) -> dict[str, NDArray[np.float64]]:
    """What there is to draw, by its label; runs without labels have no accuracy."""
    panels = {"training loss": result.arrays["train_loss"], "accuracy in %": 100 * result.arrays["accuracy"]}
    return {label: values for label, values in panels.items() if label == "training loss" or not np.isnan(values).all()}


def look(index: int) -> dict[str, Any]:
    """Colour and dashes of one of many lines; no two of the first 28 are alike."""
    dashes = DASHES[(index // n_hues()) % len(DASHES)]
    return {"color": hue(index), "linestyle": dashes, "linewidth": pt(1.2)}


def _lines(axes: Axes, epoch: NDArray[np.int64], values: NDArray[np.float64], label: str) -> None:
    for index, row in enumerate(values):
        seen = ~np.isnan(row)
        marker = "o" if seen.sum() < 3 else None
        axes.plot(epoch[seen], row[seen], marker=marker, markersize=pt(3), **look(index))
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.grid()
