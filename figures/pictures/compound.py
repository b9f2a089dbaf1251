"""Compound accuracies: a panel per reading of the ranking, a mark and an interval per model."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.labels import shorten, widest
from figures.rows import BETWEEN, frame_rows, mark
from figures.style import PAGE_WIDTH, PALETTE, TITLE, place, sheet, style
from kdprobe.results import Result

READING_LABELS = {"both": "Acc-both", "single": "Acc-single", "single_top2": "Acc-single-top2"}
_ROW = 24.0  # points per model


@style()
def draw_compound(result: Result) -> Figure:
    """Draw saved compound accuracies.

    Args:
        result: of kind "compound"; `both`, `single`, `single_top2` [models, 3] (value, low, high) as fractions.

    Returns:
        the figure, one page wide.
    """
    names = [shorten(name) for name in result.facts["names"]]
    left = widest(names, TITLE) + 12
    width = (PAGE_WIDTH - left - 14 - BETWEEN * (len(READING_LABELS) - 1)) / len(READING_LABELS)
    height = _ROW * len(names) + 6
    figure = sheet(PAGE_WIDTH, 30 + height + 6)
    for index, (reading, label) in enumerate(READING_LABELS.items()):
        axes = place(figure, left + index * (width + BETWEEN), 30, width, height)
        _panel(axes, 100 * result.arrays[reading], PALETTE[index])
        axes.set_xlabel(f"{label} in %", labelpad=2)
        axes.set_yticks(range(len(names)), names if index == 0 else [], fontsize=TITLE)
    return figure


def _panel(axes: Axes, percent: NDArray[np.float64], colour: str) -> None:
    for row, (value, low, high) in enumerate(percent):
        mark(axes, row, (value, low, high), f"{value:.1f}", colour)
    frame_rows(axes, len(percent) - 0.5, 0.15)
