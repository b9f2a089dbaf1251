"""Rows of marks with an interval each, as of models or methods below each other."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from figures.grid import grid_of
from figures.labels import fit, shorten, told_apart, widest
from figures.sheet import Sheet, size_of
from figures.style import INK, LABEL, TITLE, pt

BETWEEN = 22.0  # points between panels side by side: half a number of each stands out below
_TICK = 20.0  # points from one number below to the next, at least
_NARROWEST = 78.0  # points of a panel that stands beside another one, at least
_DENSEST = 19.0  # points from one row to the next, at least
NAMES_SHARE = 0.34  # of the width of the whole that names take at most


class Rows:
    """Panels of the same rows, whose names stand beside the first panel of each line of panels.

    Args:
        sheet: to draw into.
        names: of the rows.
        n: number of panels.
        most: panels in a line at most.
        pitch: points from one row to the next, where there is room.
        foot: points below each panel.

    Attributes:
        grid: where the panels stand.
        names: as they are written.
    """

    def __init__(self, sheet: Sheet, names: Sequence[str], *, n: int, most: int, pitch: float, foot: float) -> None:
        self.names = told_apart([fit(shorten(name), TITLE, NAMES_SHARE * sheet.width) for name in names], names)
        self.grid = grid_of(
            n, sheet.width, left=widest(self.names, TITLE) + 12, gap=BETWEEN, least=_NARROWEST, most=most, right=12
        )
        self._sheet, self._pitch, self._foot = sheet, pitch, foot

    def cut(self, above: float, below: float = 0.0) -> Iterator[Axes]:
        """The panels, with room above and below all of them."""
        down, n_rows = self.grid.down, len(self.names)
        fixed = above + below + down * (self._foot + 6)
        room = self._sheet.cut(fixed, down * self._pitch * n_rows, down * _DENSEST * n_rows)
        yield from self.grid.place(self._sheet, below, self._foot, room / down + 6, 0.0)

    def name(self, axes: Axes, number: int) -> None:
        """Write the names beside a panel, if it is the first one in its line."""
        names = [] if number % self.grid.across else self.names
        axes.set_yticks(range(len(names)), names, fontsize=pt(TITLE))


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
        axes.hlines(row, low, high, color=colour, linewidth=pt(1.4))
        axes.plot([low, high], [row, row], "|", color=colour, markersize=pt(8), mew=pt(1.0))  # above a wider mark too
    axes.plot(value, row, "D", color=colour, markersize=pt(4.6), mec="white", mew=pt(0.7))
    where: dict[str, Any] = {"xytext": (0, pt(5)), "textcoords": "offset points", "ha": "center"}
    axes.annotate(text, (value, row), size=pt(LABEL), color=INK, **where, **looks)


def frame_rows(axes: Axes, bottom: float, margin: float) -> None:
    """Set up axes for rows, the first one at the top and `bottom` below the last, with a margin beside the marks."""
    axes.grid(axis="x")
    axes.margins(x=margin)
    axes.locator_params(axis="x", nbins=max(2, min(5, int(size_of(axes)[0] / _TICK))))
    axes.set_ylim(bottom, -0.75)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
