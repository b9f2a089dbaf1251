"""Reliability: how often a network is right at each level of confidence, and how often it is that confident."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.labels import head, shorten
from figures.style import COLUMN_WIDTH, INK, LABEL, MUTED, PAGE_WIDTH, PALETTE, place, sheet, style
from figures.words import percentage
from kdprobe.results import Result

_LEFT, _GAP, _HEAD, _COUNTS, _FOOT = 36.0, 12.0, 26.0, 26.0, 28.0  # points


@style()
def draw_reliability(result: Result) -> Figure:
    """Draw a saved calibration.

    Args:
        result: of kind "reliability"; `edges` [bins + 1] of confidence, `accuracy` [models, bins]
            (fractions, NaN in an empty bin), `count` [models, bins] images, `ece` [models] expected
            calibration error (fraction).

    Returns:
        the figure, up to four models in a row: bars against the diagonal, counts below.
    """
    names = [shorten(name) for name in result.facts["names"]]
    total, across = (COLUMN_WIDTH, 1) if len(names) == 1 else (PAGE_WIDTH, min(len(names), 4))
    down = math.ceil(len(names) / across)
    side = (total - _LEFT - 8 - _GAP * (across - 1)) / across
    height = min(side, 170.0)
    block = _FOOT + _COUNTS + 4 + height + _HEAD
    figure = sheet(total, down * block)
    for index, name in enumerate(names):
        row, column = divmod(index, across)
        left, bottom = _LEFT + column * (side + _GAP), (down - 1 - row) * block + _FOOT
        bars = place(figure, left, bottom + _COUNTS + 4, side, height)
        counts = place(figure, left, bottom, side, _COUNTS)
        _bars(bars, result.arrays["edges"], result.arrays["accuracy"][index])
        _counts(counts, result.arrays["edges"], result.arrays["count"][index])
        head(bars, name, f"ECE {percentage(result.arrays['ece'][index])}", side, 5)
        if column:
            bars.set_yticklabels([])
        else:
            bars.set_ylabel("accuracy in %")
            counts.set_ylabel("images", size=LABEL)
            for axes in (bars, counts):
                axes.yaxis.set_label_coords(-23 / side, 0.5)
    return figure


def _bars(axes: Axes, edges: NDArray[np.float64], accuracy: NDArray[np.float64]) -> None:
    middles, widths = 50 * (edges[:-1] + edges[1:]), 100 * np.diff(edges)
    axes.bar(middles, 100 * np.nan_to_num(accuracy), width=0.92 * widths, color=PALETTE[0])
    axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=[0, 25, 50, 75, 100], yticks=[0, 25, 50, 75, 100])
    axes.set_xticklabels([])
    axes.grid()


def _counts(axes: Axes, edges: NDArray[np.float64], count: NDArray[np.int64]) -> None:
    middles, widths = 50 * (edges[:-1] + edges[1:]), 100 * np.diff(edges)
    axes.bar(middles, count, width=0.92 * widths, color=MUTED, alpha=0.7)
    axes.set(xlim=(0, 100), xticks=[25, 50, 75], yticks=[])
    axes.set_xlabel("confidence in %", labelpad=2)
