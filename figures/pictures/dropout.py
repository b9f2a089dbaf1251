"""Accuracy over two dropout rates: the teacher's upwards, the student's to the right, the best cell framed."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from figures.heatmap import annotate, colour_bar, paint
from figures.labels import LEADING, fit, label_columns, label_rows, room_below, widest
from figures.style import BARE, COLUMN_WIDTH, LABEL, PAGE_WIDTH, PALETTE, TITLE, colours, place, sheet, style
from kdprobe.mean_interval import all_equal, seeds_interval, worded
from kdprobe.results import Result

_BAR_ROOM = 54.0  # points to the right of the grid: gap, colour bar, its numbers and its title
_ABOVE = 16.0  # points above it: the legend
_BETWEEN = 10.0  # points between two grids
_ONE_COLUMN = 5  # rates up to which one column of a page is wide enough


@style()
def draw_dropout(result: Result) -> Figure:
    """Draw a saved sweep over dropout rates.

    Args:
        result: of kind "dropout-sweep"; `accuracy` [teacher rates, student rates, seeds] as fractions,
            NaN where a cell was not trained; `equal_rate` and `best`, if it has them, are answers written below.

    Returns:
        the figure: mean and half-width of the 95 % interval in each cell, empty where nothing was trained.
    """
    grid = _grid(result, PAGE_WIDTH if max(result.arrays["accuracy"].shape[:2]) > _ONE_COLUMN else COLUMN_WIDTH)
    figure = sheet(grid.total, grid.bottom + grid.height + _ABOVE)
    _paint(figure, grid, 0.0, grid.bottom)
    return figure


@style()
def draw_beside(left: Result, right: Result, titles: tuple[str, str]) -> Figure:
    """Draw two sweeps beside each other, each in colours of its own range.

    Args:
        left: as for `draw_dropout`.
        right: as for `draw_dropout`.
        titles: above each.

    Returns:
        the figure, one page wide.
    """
    grids = [_grid(result, (PAGE_WIDTH - _BETWEEN) / 2) for result in (left, right)]
    bottom = max(grid.bottom for grid in grids)
    height = bottom + max(grid.height for grid in grids) + _ABOVE + TITLE + 6
    figure = sheet(PAGE_WIDTH, height)
    for grid, title, start in zip(grids, titles, (0.0, grids[0].total + _BETWEEN), strict=True):
        _paint(figure, grid, start, bottom)
        text = fit(title, TITLE, grid.total - 8)
        figure.text((start + 3) / PAGE_WIDTH, 1 - 3 / height, text, size=TITLE, va="top")
    return figure


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


def _paint(figure: Figure, grid: _Grid, start: float, bottom: float) -> None:
    """Draw a grid whose lower left corner is `start` points from the left and `bottom` above the lower edge."""
    across, up = grid.width / len(grid.columns), grid.height / len(grid.rows)
    axes = place(figure, start + grid.left, bottom, grid.width, grid.height)
    axes.set_facecolor(BARE)
    image = paint(axes, grid.means, _range(grid.means), colours(0.0, 1.0), upwards=True)
    annotate(axes, image, grid.means, grid.texts, across)
    label_rows(axes, grid.rows, up)
    label_columns(axes, grid.columns, across)
    _frame_best(axes, grid.means)
    _title_axes(axes, grid, start, bottom)
    colour_bar(figure, image, (start + grid.left + grid.width, bottom, grid.height), "accuracy in %")


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
        least = min(leads, key=lambda entry: entry["difference"] if entry["low"] is None else entry["low"])
        low, high = least["low"], least["high"]
        ends = "" if low is None or high is None else f" [{100 * low:.2f}, {100 * high:.2f}]"
        lines.append(f"best over neighbours, least clear: {100 * least['difference']:+.2f}{ends} points")
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
    looks: dict[str, Any] = {"fill": False, "edgecolor": PALETTE[1], "linewidth": 1.6, "zorder": 3, "clip_on": False}
    frame = axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, label="highest mean", **looks))
    axes.legend(
        handles=[frame],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        handlelength=1.2,
        borderpad=0.2,
        borderaxespad=0.1,
    )


def _title_axes(axes: Axes, grid: _Grid, start: float, bottom: float) -> None:
    """The axes' titles, and below them the answers."""
    student, teacher = (f"{grid.kind} dropout rate, {network}" for network in ("student", "teacher"))
    lowest = bottom - grid.bottom + 3
    looks: dict[str, Any] = {"annotation_clip": False}
    axes.annotate(
        student,
        (0.5, lowest + grid.below),
        xycoords=("axes fraction", "figure points"),
        ha="center",
        va="bottom",
        size=TITLE,
        **looks,
    )
    axes.annotate(
        teacher,
        (start + 3, 0.5),
        xycoords=("figure points", "axes fraction"),
        ha="left",
        va="center",
        rotation=90,
        size=TITLE,
        **looks,
    )
    for line, note in enumerate(reversed(grid.notes)):
        axes.annotate(note, (start + 3, lowest + line * LABEL * LEADING), xycoords="figure points", size=LABEL, **looks)
