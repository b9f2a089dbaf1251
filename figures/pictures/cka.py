"""CKA heatmap: the teacher's layers upwards, the student's layers to the right, shallow to deep."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.calibrated import beside_null
from figures.heatmap import ANNOTATED, MARK, annotate, colour_bar, mark_cells, paint
from figures.labels import LEADING, fit, label_columns, label_rows, note_below, room_below, shorten, text_width, widest
from figures.style import (
    COLUMN_WIDTH,
    LABEL,
    PAGE_WIDTH,
    TITLE,
    colours,
    place,
    sheet,
    style,
)
from figures.words import neighbours
from kdprobe.results import Result

_BAR_ROOM = 50.0  # points to the right of the matrix: gap, colour bar, its numbers and its title
_LEAST = 40.0  # points that the widest names leave to the matrix
_ONE_COLUMN = 8  # layers up to which one column of a page is wide enough


@style()
def draw_cka(result: Result) -> Figure:
    """Draw a saved CKA matrix.

    Args:
        result: of kind "cka" or "similarity"; `matrix` [teacher layers, student layers], NaN where undefined. Of a
            calibrated one, the calibrated values, grey where they do not exceed their null.

    Returns:
        the figure, one column or one page wide.
    """
    beside, undefined = beside_null(result), np.isnan(result.arrays["matrix"])
    chance = beside.chance if beside else np.zeros_like(undefined)
    matrix = np.where(chance, np.nan, beside.values if beside else result.arrays["matrix"])
    n_rows, n_columns = matrix.shape
    total = COLUMN_WIDTH if max(matrix.shape) <= _ONE_COLUMN else PAGE_WIDTH
    most = total - _BAR_ROOM - TITLE - 16 - _LEAST
    rows = [fit(shorten(name), LABEL, most) for name in result.facts["teacher_layers"]]
    columns = [shorten(name) for name in result.facts["student_layers"]]

    left = widest(rows) + TITLE + 16
    width = total - left - _BAR_ROOM
    label, steepest = colour_label(result.facts, calibrated=beside is not None), 1.3 if total == COLUMN_WIDTH else 1.0
    height = max(text_width(label, TITLE) + 2, width * float(np.clip(n_rows / n_columns, 0.5, steepest)))
    notes = [note] if (note := neighbours(result.facts)) else []
    below = (LABEL * LEADING + 2) * len(notes)
    bottom = below + room_below(columns, width / n_columns) + TITLE + 9
    marks = [
        (mask, label, hatch)
        for mask, label, hatch in ((undefined, "undefined", "//////"), (chance, beside.words if beside else "", ""))
        if mask.any()
    ]
    figure = sheet(total, bottom + height + 6 + MARK * len(marks))
    axes = place(figure, left, bottom, width, height)
    defined = matrix[~np.isnan(matrix)]
    ends = min(0.0, float(defined.min(initial=0.0))), max(1.0, float(defined.max(initial=1.0)))
    image = paint(axes, matrix, ends, colours(*ends), upwards=True)
    label_rows(axes, rows, height / n_rows)
    label_columns(axes, columns, width / n_columns)
    note_below(figure, notes)
    _title_axes(figure, result, (left + width / 2, bottom + height / 2), below)
    _part_stages(axes, result.facts["teacher_layers"], result.facts["student_layers"])
    if max(matrix.shape) <= ANNOTATED:
        annotate(axes, image, matrix, [[_two_digits(value) for value in row] for row in matrix], width / n_columns)
    if marks:
        mark_cells(axes, marks)
    colour_bar(figure, image, (left + width, bottom, height), label)
    return figure


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


def _title_axes(figure: Figure, result: Result, centre: tuple[float, float], below: float) -> None:
    """Name the networks at the edges, above notes, centred on the matrix unless the text is too long for that."""
    width, height = figure.get_size_inches() * 72
    student = fit(f"student: {result.facts['student']}, layer", TITLE, width - 12)
    teacher = fit(f"teacher: {result.facts['teacher']}, layer", TITLE, height - 12)
    x, y = _within(centre[0], student, width), _within(centre[1], teacher, height)
    figure.text(x / width, (3 + below) / height, student, size=TITLE, ha="center", va="bottom")
    figure.text(3 / width, y / height, teacher, size=TITLE, rotation=90, ha="left", va="center")


def _within(centre: float, title: str, room: float) -> float:
    half = text_width(title, TITLE) / 2 + 5
    return min(max(centre, half), room - half)


def _part_stages(axes: Axes, teacher_layers: Sequence[str], student_layers: Sequence[str]) -> None:
    for index in stage_ends(teacher_layers):
        axes.axhline(index - 0.5, color="white", linewidth=1.6)
    for index in stage_ends(student_layers):
        axes.axvline(index - 0.5, color="white", linewidth=1.6)


def _two_digits(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")
