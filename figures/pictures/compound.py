"""Compound accuracies: a panel per reading of the ranking, a mark and an interval per model."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from numpy.typing import NDArray

from figures.picture import on_figure
from figures.rows import Rows, frame_rows, mark
from figures.sheet import Sheet
from figures.style import hue
from kdprobe.results import Result

READING_LABELS = {"both": "Acc-both", "single": "Acc-single", "single_top2": "Acc-single-top2"}


@on_figure
def draw_compound(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw saved compound accuracies.

    Args:
        result: of kind "compound"; `both`, `single`, `single_top2` [models, 3] (value, low, high) as fractions.
        fig: to fill; a new figure of one page if not given.

    Returns:
        the figure.
    """
    sheet = Sheet(fig)
    rows = Rows(sheet, result.facts["names"], n=len(READING_LABELS), most=3, pitch=24.0, foot=30.0)
    for index, (axes, (reading, label)) in enumerate(zip(rows.cut(6.0), READING_LABELS.items(), strict=True)):
        _panel(axes, 100 * result.arrays[reading], hue(index))
        axes.set_xlabel(f"{label} in %")
        rows.name(axes, index)
    return sheet.figure


def _panel(axes: Axes, percent: NDArray[np.float64], colour: str) -> None:
    for row, (value, low, high) in enumerate(percent):
        mark(axes, row, (value, low, high), f"{value:.1f}", colour)
    frame_rows(axes, len(percent) - 0.5, 0.15)
