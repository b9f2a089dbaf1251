"""Accuracy over two dropout rates: the teacher's upwards, the student's to the right, the best cell framed."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from figures.heatmap import annotate, colour_bar, paint
from figures.labels import LEADING, fit, label_columns, label_rows, note_under, room_below, title_axes, widest
from figures.picture import on_axes
from figures.sheet import Sheet, size_of
from figures.style import ACCENT, BARE, LABEL, TITLE, colours, look_of, pt
from kdprobe.mean_interval import all_equal, clearness, seeds_interval, worded
from kdprobe.results import Result

_BAR_ROOM = 54.0  # points to the right of the grid: gap, colour bar, its numbers and its title
_ABOVE = 16.0  # points above it: the legend
_BETWEEN = 10.0  # points between two grids
_ONE_COLUMN = 5  # rates up to which one column of a page is wide enough


@on_axes
def draw_dropout(result: Result, ax: Axes | None, fig: FigureBase | None) -> Axes:
    """Draw a saved sweep over dropout rates.

    Args:
        result: of kind "dropout-sweep"; `accuracy` [teacher rates, student rates, seeds] as fractions,
            NaN where a cell was not trained; `equal_rate` and `best`, if it has them, are answers written below.
        ax: to draw into; it makes room for the colour bar.
        fig: to fill; without both, a new figure of one column or one page.

    Returns:
        the axes: mean and half-width of the 95 % interval in each cell, empty where nothing was trained.
    """
    if ax is not None:
        grid = _grid(result, size_of(ax)[0])
        _paint(ax, grid, None, (0.0, 0.0), size_of(ax))
        return ax
    sheet = Sheet(fig, columns=2 if max(result.arrays["accuracy"].shape[:2]) > _ONE_COLUMN else 1)
    grid = _grid(result, sheet.width)
    height = sheet.cut(grid.bottom + _ABOVE, grid.height, 60.0)
    return _lay(sheet, grid, 0.0, grid.bottom, height)


def draw_beside(left: Result, right: Result, titles: tuple[str, str]) -> FigureBase:
    """Draw two sweeps beside each other, each in colours of its own range.

    Args:
        left: as for `draw_dropout`.
        right: as for `draw_dropout`.
        titles: above each.

    Returns:
        a new figure, one page wide.
    """
    with look_of(given=False, palette=None):
        sheet = Sheet(None)
        grids = [_grid(result, (sheet.width - _BETWEEN) / 2) for result in (left, right)]
        bottom = max(grid.bottom for grid in grids)
        height = sheet.cut(bottom + _ABOVE + TITLE + 6, max(grid.height for grid in grids), 60.0)
        for grid, title, start in zip(grids, titles, (0.0, grids[0].total + _BETWEEN), strict=True):
            _lay(sheet, grid, start, bottom, min(height, grid.height))
            text = fit(title, TITLE, grid.total - 8)
            sheet.write(start + 3, sheet.height - 3, text, size=TITLE, va="top")
        return sheet.figure


@dataclass(frozen=True)
class _Grid:
    """What stands in a grid, and the room that it takes in points."""

    kind: str
    rows: list[str]
    columns: list[str]
    means: NDArray[np.float64]
    texts: list[list[str]]
    notes: list[str]
    total: float

    @property
    def left(self) -> float:
        return widest(self.rows) + TITLE + 16

    @property
    def width(self) -> float:
        return self.total - self.left - _BAR_ROOM

    @property
    def height(self) -> float:
        return max(110.0, self.width * float(np.clip(len(self.rows) / len(self.columns), 0.5, 1.0)))

    @property
    def below(self) -> float:
        return len(self.notes) * LABEL * LEADING + 4 * bool(self.notes)

    @property
    def bottom(self) -> float:
        return self.below + room_below(self.columns, self.width / len(self.columns)) + TITLE + 9


def _grid(result: Result, total: float) -> _Grid:
    ends = summarise(result)
    texts = worded_cells(ends, "\n")
    rows = [f"{rate:g}" for rate in result.facts["rates_teacher"]]
    columns = [f"{rate:g}" for rate in result.facts["rates_student"]]
    return _Grid(str(result.facts["kind"]), rows, columns, 100 * ends[..., 0], texts, answers(result), total)


def _lay(sheet: Sheet, grid: _Grid, start: float, bottom: float, height: float) -> Axes:
    """Draw a grid into a sheet, `start` points from the left and `bottom` above the lower edge."""
    axes = sheet.place(start + grid.left, bottom, grid.width, height)
    bar = sheet.place(start + grid.left + grid.width + 7, bottom, 8, height)
    _paint(axes, grid, bar, (grid.left, grid.bottom), (grid.total, grid.bottom + height + _ABOVE))
    return axes


def _paint(axes: Axes, grid: _Grid, bar: Axes | None, at: tuple[float, float], room: tuple[float, float]) -> None:
    """Draw a grid into axes that stand `at` this place of their room."""
    axes.set_facecolor(BARE)
    image = paint(axes, grid.means, _range(grid.means), colours(0.0, 1.0), upwards=True)
    colour_bar(image, "accuracy in %", bar)
    width, height = size_of(axes)
    annotate(image, grid.means, grid.texts)
    label_rows(axes, grid.rows, height / len(grid.rows))
    label_columns(axes, grid.columns, width / len(grid.columns))
    _frame_best(axes, grid.means)
    across, up = (f"{grid.kind} dropout rate, {network}" for network in ("student", "teacher"))
    title_axes(axes, across, up, at, room)
    note_under(axes, grid.notes, room[0] - 6, max(0.0, at[0] - 3))


def summarise(result: Result) -> NDArray[np.float64]:
    """Mean over seeds and the ends of its 95 % interval [teacher rates, student rates, 3]."""
    n_images = result.facts.get("n_images")
    return np.array([[seeds_interval(seeds, n_images=n_images) for seeds in row] for row in result.arrays["accuracy"]])


def worded_cells(ends: NDArray[np.float64], line_break: str = " ") -> list[list[str]]:
    """What `summarise` found, in percent, empty for nothing; a `line_break` instead of spaces makes it narrow."""

    def text(cell: list[float]) -> str:
        words = "" if np.isnan(cell[0]) else worded(cell, scale=100)
        return re.sub(r" (?=[±[])|(?<=,) ", line_break, words)

    return [[text(cell) for cell in row] for row in ends.tolist()]


def answers(result: Result) -> list[str]:
    """Whether the equal rate wins, and the best cell's least certain lead over a neighbour, if they are known."""
    facts, lines = result.facts, []
    if entries := facts.get("equal_rate"):
        counted = [[entry["wins"] for entry in entries if entry["fixed"] == fixed] for fixed in ("teacher", "student")]
        rows, columns = (f"{sum(wins)} of {len(wins)}" for wins in counted)
        lines.append(f"equal rate best in {rows} rows, {columns} columns")
    leads = [entry for entry in facts.get("best", {}).get("neighbours", ()) if entry["difference"] is not None]
    if leads:
        least = min(leads, key=clearness)
        low, high = least["low"], least["high"]
        ends = "" if low is None or high is None else f" [{100 * low:.2f}, {100 * high:.2f}]"
        lines.append(f"best cell's least certain lead: {100 * least['difference']:+.2f}{ends} points")
    cells = result.arrays["accuracy"].reshape(-1, result.arrays["accuracy"].shape[-1])
    if facts.get("n_images") is None and (ties := sum(map(all_equal, cells))):
        lines.append(f"no interval for {ties} cell{'s' if ties > 1 else ''} whose seeds are all equal")
    return lines


def best_cell(means: NDArray[np.float64]) -> tuple[int, int]:
    """Row and column of the highest mean, the first of equal ones."""
    row, column = np.unravel_index(np.nanargmax(means), means.shape)
    return int(row), int(column)


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _frame_best(axes: Axes, means: NDArray[np.float64]) -> None:
    row, column = best_cell(means)
    looks: dict[str, Any] = {"fill": False, "edgecolor": ACCENT, "linewidth": pt(1.6), "zorder": 3, "clip_on": False}
    frame = axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, label="highest mean", **looks))
    axes.legend(
        handles=[frame],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        handlelength=1.2,
        borderpad=0.2,
        borderaxespad=0.1,
    )
