"""CKA heatmap: the teacher's layers upwards, the student's layers to the right, shallow to deep."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from numpy.typing import NDArray

from figures.calibrated import beside_null
from figures.heatmap import ANNOTATED, MARK, annotate, colour_bar, mark_cells, paint
from figures.labels import (
    LEADING,
    fit,
    label_columns,
    label_rows,
    note_under,
    room_below,
    shorten,
    shorten_all,
    text_width,
    title_axes,
    told_apart,
    widest,
)
from figures.picture import on_axes
from figures.sheet import Sheet, size_of
from figures.style import LABEL, TITLE, colours, pt
from figures.words import neighbours
from kdprobe.results import Result

_BAR_ROOM = 50.0  # points to the right of the matrix: gap, colour bar, its numbers and its title
_LEAST = 40.0  # points that the widest names leave to the matrix
_ONE_COLUMN = 8  # layers up to which one column of a page is wide enough


class _Shown(NamedTuple):
    """What a matrix shows, and what is said of it."""

    matrix: NDArray[np.float64]
    marks: list[tuple[NDArray[np.bool_], str, str]]
    label: str
    notes: list[str]


class _Room(NamedTuple):
    """Where the axes stand in what room, and the axes of the colour bar; all points."""

    at: tuple[float, float]
    whole: tuple[float, float]
    bar: Axes | None


@on_axes
def draw_cka(result: Result, ax: Axes | None, fig: FigureBase | None) -> Axes:
    """Draw a saved CKA matrix.

    Args:
        result: of kind "cka" or "similarity"; `matrix` [teacher layers, student layers], NaN where undefined. Of a
            calibrated one, the calibrated values, grey where they do not exceed their null.
        ax: to draw into; it makes room for the colour bar.
        fig: to fill; without both, a new figure of one column or one page.

    Returns:
        the axes of the matrix.
    """
    shown = _shown(result)
    axes, room = _placed(result, shown, fig) if ax is None else (ax, None)
    n_rows, n_columns = shown.matrix.shape
    defined = shown.matrix[~np.isnan(shown.matrix)]
    ends = min(0.0, float(defined.min(initial=0.0))), max(1.0, float(defined.max(initial=1.0)))
    image = paint(axes, shown.matrix, ends, colours(*ends), upwards=True)
    bar = colour_bar(image, "", room.bar if room else None)
    width, height = size_of(axes)
    at, whole = (room.at, room.whole) if room else ((0.0, 0.0), (width, height))
    bar.set_label(fit(shown.label, TITLE, max(height, whole[1] - 6)), labelpad=pt(3))
    label_rows(axes, _rows(result, whole[0] - _BAR_ROOM - TITLE - 16 - _LEAST if room else width), height / n_rows)
    label_columns(axes, shorten_all(result.facts["student_layers"]), width / n_columns)
    across, up = (f"{who}: {result.facts[who]}, layer" for who in ("student", "teacher"))
    title_axes(axes, across, up, at, whole)
    note_under(axes, shown.notes, whole[0] - 6, at[0] - 3 if room else 0.0)
    _part_stages(axes, result.facts["teacher_layers"], result.facts["student_layers"])
    if max(shown.matrix.shape) <= ANNOTATED:
        annotate(image, shown.matrix, [[_two_digits(value) for value in row] for row in shown.matrix])
    if shown.marks:
        mark_cells(axes, shown.marks)
    return axes


def _shown(result: Result) -> _Shown:
    beside, undefined = beside_null(result), np.isnan(result.arrays["matrix"])
    chance = beside.chance if beside else np.zeros_like(undefined)
    matrix = np.where(chance, np.nan, beside.values if beside else result.arrays["matrix"])
    marks = [(undefined, "undefined", "//////"), (chance, beside.words if beside else "", "")]
    label = colour_label(result.facts, calibrated=beside is not None)
    notes = [note] if (note := neighbours(result.facts)) else []
    return _Shown(matrix, [mark for mark in marks if mark[0].any()], label, notes)


def _rows(result: Result, most: float) -> list[str]:
    layers: list[str] = result.facts["teacher_layers"]
    return told_apart([fit(shorten(name), LABEL, most) for name in layers], layers)


def _placed(result: Result, shown: _Shown, fig: FigureBase | None) -> tuple[Axes, _Room]:
    """Axes of a sheet, as high as the colour bar's title needs."""
    n_rows, n_columns = shown.matrix.shape
    one_column = max(n_rows, n_columns) <= _ONE_COLUMN
    sheet = Sheet(fig, columns=1 if one_column else 2)
    left = widest(_rows(result, sheet.width - _BAR_ROOM - TITLE - 16 - _LEAST)) + TITLE + 16
    width = sheet.width - left - _BAR_ROOM
    columns = shorten_all(result.facts["student_layers"])
    bottom = (LABEL * LEADING + 2) * len(shown.notes) + room_below(columns, width / n_columns) + TITLE + 9
    above = 6 + MARK * len(shown.marks)
    natural = width * float(np.clip(n_rows / n_columns, 0.5, 1.3 if one_column else 1.0))
    height = sheet.cut(bottom + above, max(text_width(shown.label, TITLE) + 2, natural), 60.0)
    axes = sheet.place(left, bottom, width, height)
    bar = sheet.place(left + width + 7, bottom, 8, height)
    return axes, _Room((left, bottom), (sheet.width, sheet.height), bar)


def colour_label(facts: Mapping[str, Any], *, calibrated: bool = False) -> str:
    """What the colours mean: the estimator of CKA, its kernel unless it is linear, and how minibatches count.

    For another measure, its name. In front of either, whether it is calibrated; how minibatches count is then left to
    the result's remarks, as a longer label would stretch the picture.
    """
    how = "calibrated " if calibrated else ""
    if "measure" in facts:
        return f"{how}{facts['measure']}, {facts['reduce']} features"
    kernel = [] if facts["kernel"] == "linear" else [f"{facts['kernel']} kernel"]
    weighting = [] if calibrated else ["minibatches by their samples"]
    return f"{how}CKA ({', '.join([facts['estimator'], *kernel, *weighting])})"


def stage_ends(layers: Sequence[str]) -> list[int]:
    """Indices of the layers that begin a new stage.

    A stage is what shares the name up to its first number (`layer2`, `stages.1`). There are no stages if every layer,
    or the whole network, would be one.
    """
    stages = [re.split(r"(?<=\d)(?!\d)", name, maxsplit=1)[0] for name in layers]
    ends = [index for index in range(1, len(stages)) if stages[index] != stages[index - 1]]
    return ends if len(ends) < len(stages) - 1 else []


def _part_stages(axes: Axes, teacher_layers: Sequence[str], student_layers: Sequence[str]) -> None:
    for index in stage_ends(teacher_layers):
        axes.axhline(index - 0.5, color="white", linewidth=pt(1.6))
    for index in stage_ends(student_layers):
        axes.axvline(index - 0.5, color="white", linewidth=pt(1.6))


def _two_digits(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")
