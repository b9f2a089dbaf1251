"""Accuracy over two dropout rates: the teacher's upwards, the student's to the right, the best cell framed."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from figures.cells import annotate, part_cells
from figures.checks import require, require_length
from figures.labels import LEADING, label_columns, label_rows, room_below, widest
from figures.style import BARE, COLUMN, LABEL, PAGE, PALETTE, TITLE, colours, place, sheet, style
from kdprobe.errors import ResultError
from kdprobe.results import Result
from kdprobe.statistics import mean_interval

_BAR_ROOM = 54.0  # points to the right of the grid: gap, colour bar, its numbers and its title
_ONE_COLUMN = 5  # rates up to which one column of a page is wide enough


@style()
def draw(result: Result) -> Figure:
    """Draw a saved sweep over dropout rates.

    Args:
        result: of kind "dropout-sweep"; `accuracy` [teacher rates, student rates, seeds] as fractions,
            NaN where a cell was not trained; the answers in `equal_rate` and `best` are written below if it has them.

    Returns:
        the figure: mean and half-width of the 95 % interval in each cell, empty where nothing was trained.

    Raises:
        ResultError: if the result lacks something, its rates do not match, or no cell was trained.
    """
    require(result, {"accuracy": 3}, ("kind", "rates_teacher", "rates_student"))
    means, halves = summarise(result.arrays["accuracy"])
    rows = [f"{rate:g}" for rate in require_length(result, "rates_teacher", len(means), "rows")]
    columns = [f"{rate:g}" for rate in require_length(result, "rates_student", means.shape[1], "columns")]

    total = COLUMN if max(means.shape) <= _ONE_COLUMN else PAGE
    left = widest(rows) + TITLE + 16
    width = total - left - _BAR_ROOM
    height = max(110.0, width * float(np.clip(len(rows) / len(columns), 0.5, 1.0)))
    notes = answers(result)
    below = len(notes) * LABEL * LEADING + 4 * bool(notes)
    bottom = below + room_below(columns, width / len(columns)) + TITLE + 9
    figure = sheet(total, bottom + height + 16)
    axes = place(figure, left, bottom, width, height)
    axes.set_facecolor(BARE)
    image = axes.imshow(
        np.ma.masked_invalid(100 * means),
        cmap=colours(0.0, 1.0),
        norm=Normalize(*_range(100 * means)),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    axes.spines[:].set_visible(False)
    part_cells(axes, means.shape)
    annotate(axes, image, 100 * means, _texts(means, halves), width / len(columns))
    label_rows(axes, rows, height / len(rows))
    label_columns(axes, columns, width / len(columns))
    _frame_best(axes, means)
    _title_axes(axes, str(result.facts["kind"]), below)
    for line, note in enumerate(reversed(notes)):
        axes.annotate(
            note, (3, 3 + line * LABEL * LEADING), xycoords="figure points", size=LABEL, annotation_clip=False
        )
    bar = figure.colorbar(image, cax=place(figure, left + width + 7, bottom, 8, height))
    bar.set_label("accuracy in %", labelpad=3)
    bar.outline.set_visible(False)
    return figure


def summarise(accuracy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over seeds and half-width of its 95 % interval, each [teacher rates, student rates].

    Raises:
        ResultError: if no cell has a value.
    """
    if np.isnan(accuracy).all():
        raise ResultError("a 'dropout-sweep' result needs at least one trained cell, but has none")
    cells = np.array([[mean_interval(seeds) for seeds in row] for row in accuracy])
    return cells[..., 0], cells[..., 1]


def answers(result: Result) -> list[str]:
    """Whether the equal rate wins, and the best cell's least certain lead over a neighbour; nothing if not known."""
    facts, lines = result.facts, []
    if entries := facts.get("equal_rate"):
        counted = [[entry["wins"] for entry in entries if entry["fixed"] == fixed] for fixed in ("teacher", "student")]
        rows, columns = (f"{sum(wins)} of {len(wins)}" for wins in counted)
        lines.append(f"equal rate best in {rows} rows, {columns} columns")
    leads = [entry for entry in (facts.get("best") or {}).get("neighbours", ()) if entry["difference"] is not None]
    if leads:
        least = min(leads, key=lambda entry: entry["difference"] if entry["low"] is None else entry["low"])
        ends = "" if least["low"] is None else f" [{100 * least['low']:.2f}, {100 * least['high']:.2f}]"
        lines.append(f"best over neighbours, least clear: {100 * least['difference']:+.2f}{ends} points")
    return lines


def best_cell(means: NDArray[np.float64]) -> tuple[int, int]:
    """Row and column of the highest mean, the first of equal ones."""
    row, column = np.unravel_index(np.nanargmax(means), means.shape)
    return int(row), int(column)


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _texts(means: NDArray[np.float64], halves: NDArray[np.float64]) -> list[list[str]]:
    def text(mean: float, half: float) -> str:
        number = f"{100 * mean:.2f}"
        return number if np.isnan(half) else f"{number}\n± {100 * half:.2f}"

    return [[text(*cell) for cell in zip(*rows, strict=True)] for rows in zip(means, halves, strict=True)]


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


def _title_axes(axes: Axes, kind: str, below: float) -> None:
    looks: dict[str, Any] = {"size": TITLE, "annotation_clip": False}
    student, teacher = (f"{kind} dropout rate, {network}" for network in ("student", "teacher"))
    axes.annotate(
        student, (0.5, 3 + below), xycoords=("axes fraction", "figure points"), ha="center", va="bottom", **looks
    )
    axes.annotate(
        teacher, (3, 0.5), xycoords=("figure points", "axes fraction"), ha="left", va="center", rotation=90, **looks
    )
