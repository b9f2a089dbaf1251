"""Rows of marks with an interval each, as of models or methods below each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from figures.style import INK, LABEL

BETWEEN = 22.0  # points between panels side by side: half a number of each stands out below
_TICK = 20.0  # points from one number below to the next, at least


def mark(
    axes: Axes, row: int, ends: Sequence[float] | NDArray[np.float64], text: str, colour: str, **looks: Any
) -> None:
    """Draw a mark, its interval and its number.

    Args:
        axes: where to draw.
        row: 0, 1, ... from the top.
        ends: value, low and high; the last two are NaN if there is no interval.
        text: what is written above the mark.
        colour: the colour of mark and interval.
        looks: matplotlib's options for the text.
    """
    value, low, high = ends
    if not np.isnan(low):
        axes.hlines(row, low, high, color=colour, linewidth=1.4)
    axes.plot(value, row, "D", color=colour, markersize=4.6, mec="white", mew=0.7)
    axes.annotate(text, (value, row), (0, 5), textcoords="offset points", ha="center", size=LABEL, color=INK, **looks)


def frame_rows(axes: Axes, bottom: float, margin: float) -> None:
    """Set up axes for rows, the first one at the top and `bottom` below the last, with a margin beside the marks."""
    axes.grid(axis="x")
    axes.margins(x=margin)
    width = axes.bbox.width / axes.figure.dpi * 72
    axes.locator_params(axis="x", nbins=max(2, min(5, int(width / _TICK))))
    axes.set_ylim(bottom, -0.75)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
