"""Reliability: how often a network is right at each level of confidence, and how often it is that confident."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from numpy.typing import NDArray

from figures.grid import grid_of
from figures.labels import head, shorten_all
from figures.picture import on_figure
from figures.sheet import Sheet
from figures.style import INK, LABEL, MUTED, hue, pt
from figures.words import percentage
from kdprobe.results import Result

_LEFT, _GAP, _HEAD, _COUNTS, _FOOT = 36.0, 12.0, 26.0, 26.0, 28.0  # points
_NARROWEST = 80.0  # points of a panel that stands beside another one, at least


@on_figure
def draw_reliability(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw a saved calibration.

    Args:
        result: of kind "reliability"; `edges` [bins + 1] of confidence, `accuracy` [models, bins]
            (fractions, NaN in an empty bin), `count` [models, bins] images, `ece` [models] expected
            calibration error (fraction).
        fig: to fill; a new figure of one column or one page if not given.

    Returns:
        the figure, up to four models in a row: bars against the diagonal, counts below.
    """
    names = shorten_all(result.facts["names"])
    sheet = Sheet(fig, columns=1 if len(names) == 1 else 2)
    grid = grid_of(len(names), sheet.width, left=_LEFT, gap=_GAP, least=_NARROWEST, most=4)
    fixed = grid.down * (_FOOT + _COUNTS + 4 + _HEAD)
    height = sheet.cut(fixed, grid.down * min(grid.width, 170.0), grid.down * 50.0) / grid.down
    panels = grid.place(sheet, 0.0, _FOOT + _COUNTS + 4, height, _HEAD)
    below = grid.place(sheet, 0.0, _FOOT, _COUNTS, 4 + height + _HEAD)
    for index, (name, bars, counts) in enumerate(zip(names, panels, below, strict=True)):
        _bars(bars, result.arrays["edges"], result.arrays["accuracy"][index])
        _counts(counts, result.arrays["edges"], result.arrays["count"][index])
        head(bars, name, f"ECE {percentage(result.arrays['ece'][index])}", grid.width, 5)
        if index % grid.across:
            bars.set_yticklabels([])
        else:
            bars.set_ylabel("accuracy in %")
            counts.set_ylabel("images", size=pt(LABEL))
            for axes in (bars, counts):
                axes.yaxis.set_label_coords(-23 / grid.width, 0.5)
    return sheet.figure


def _bars(axes: Axes, edges: NDArray[np.float64], accuracy: NDArray[np.float64]) -> None:
    middles, widths = 50 * (edges[:-1] + edges[1:]), 100 * np.diff(edges)
    axes.bar(middles, 100 * np.nan_to_num(accuracy), width=0.92 * widths, color=hue(0))
    axes.plot([0, 100], [0, 100], color=INK, linewidth=pt(0.8), linestyle=(0, (4, 2)))
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=[0, 25, 50, 75, 100], yticks=[0, 25, 50, 75, 100])
    axes.set_xticklabels([])
    axes.grid()


def _counts(axes: Axes, edges: NDArray[np.float64], count: NDArray[np.int64]) -> None:
    middles, widths = 50 * (edges[:-1] + edges[1:]), 100 * np.diff(edges)
    axes.bar(middles, count, width=0.92 * widths, color=MUTED, alpha=0.7)
    axes.set(xlim=(0, 100), xticks=[25, 50, 75], yticks=[])
    axes.set_xlabel("confidence in %")
