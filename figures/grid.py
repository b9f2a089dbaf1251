"""Panels of one size below and beside each other."""

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.axes import Axes

from figures.sheet import Sheet


@dataclass(frozen=True)
class Grid:
    """Where panels stand: `n` of them, `across` in a row.

    Attributes:
        n: number of panels.
        across: in a row.
        width: of a panel, in points.
        left: from the sheet's left edge to the first panel.
        gap: from a panel to the next one.
    """

    n: int
    across: int
    width: float
    left: float
    gap: float

    @property
    def down(self) -> int:
        """Number of rows."""
        return -(-self.n // self.across)

    def place(self, sheet: Sheet, base: float, foot: float, height: float, head: float) -> Iterator[Axes]:
        """The panels, row by row from the top; the lowest row ends `base` points above the sheet's lower edge.

        Args:
            sheet: cut to its height.
            base: below the lowest row.
            foot: below each panel.
            height: of each panel.
            head: above each panel.
        """
        for number in range(self.n):
            row, column = divmod(number, self.across)
            bottom = base + (self.down - 1 - row) * (foot + height + head) + foot
            yield sheet.place(self.left + column * (self.width + self.gap), bottom, self.width, height)


def grid_of(n: int, width: float, *, left: float, gap: float, least: float, most: int, right: float = 8.0) -> Grid:
    """As many panels in a row as there is room for.

    Args:
        n: number of panels.
        width: of the sheet.
        left: points before the first panel.
        gap: points between panels.
        least: points that a panel is wide at least, where more than one stand in a row.
        most: panels in a row at most.
        right: points behind the last panel.
    """
    room = width - left - right
    fits = max(1, min(most, int((room + gap) // (least + gap))))
    across = min(n, fits)
    return Grid(n, across, (room - gap * (across - 1)) / across, left, gap)
