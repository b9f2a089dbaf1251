"""CKA heatmaps with values under the pointer, one pair at a time."""

from typing import Any

import numpy as np

from figures.heatmap import ANNOTATED
from figures.pictures.cka import colour_label
from figures.report.elements import Chart, Panel, Results, Table, one_at_a_time
from figures.report.traces import HOVER, THEMED_MUTED, heatmap, hover
from figures.words import intervals
from kdprobe.results import Result


def cka_panels(results: Results) -> list[Panel]:
    """One panel for all results of kind "cka"."""
    note = (
        "How alike the two networks represent the same images, layer by layer: 1 is equal up to rotation and "
        "scale, 0 is unrelated. Shallow layers are below and to the left."
    )
    return one_at_a_time(results, _chart, choose="Pair", note=note)


def similarity_panels(results: Results) -> list[Panel]:
    """One panel for all results of kind "similarity", whatever their measure."""
    note = "How alike the two networks represent the same images by measures other than CKA, layer by layer."
    return one_at_a_time(results, _chart, choose="Pair and measure", note=note)


def _chart(name: str, result: Result) -> Chart:
    facts, matrix = result.facts, result.arrays["matrix"]
    rows, columns = facts["teacher_layers"], facts["student_layers"]
    cells = _cells(result)
    defined = matrix[~np.isnan(matrix)]
    ends = min(0.0, float(defined.min(initial=0))), max(1.0, float(defined.max(initial=1)))
    texts = [["" if np.isnan(value) else f"{value:.2f}" for value in row] for row in matrix]
    heat = heatmap(
        matrix,
        [[hover(*cell) for cell in row] for row in cells],
        colour_label(facts),
        ends=ends,
        texts=texts if max(matrix.shape) <= ANNOTATED else None,
        lines=max(matrix.shape) <= 2 * ANNOTATED,
    )
    table = [
        [row, *("undefined" if np.isnan(value) else f"{value:.3f}" for value in values)]
        for row, values in zip(rows, matrix, strict=True)
    ]
    return Chart(
        name=f"{facts['teacher']} → {facts['student']} ({', '.join([*_other(facts), name])})",
        alt=_alt(result),
        caption=_caption(facts),
        traces=[heat | {"hoverongaps": False}, *_undefined(matrix, cells)],
        layout={
            "height": int(np.clip(26 * len(rows), 240, 640)) + 130,
            "width": max(480, 64 * len(columns) + 230),
        },
        titles={"xaxis": f"student: {facts['student']}, layer", "yaxis": f"teacher: {facts['teacher']}, layer"},
        ticks={"xaxis": columns, "yaxis": rows},
        table=Table(["teacher layer", *columns], table[::-1]),
    )


def _cells(result: Result) -> list[list[tuple[str, ...]]]:
    """What the pointer shows of each cell, line by line."""
    facts, arrays, nothing = result.facts, result.arrays, np.full(result.arrays["matrix"].shape, np.nan)
    ends = [arrays.get(key, nothing) for key in ("low", "high")]
    reasons = {(cell["teacher_layer"], cell["student_layer"]): cell["reason"] for cell in facts["undefined"]}
    rows: list[list[tuple[str, ...]]] = []
    for row, teacher_layer in enumerate(facts["teacher_layers"]):
        cells: list[tuple[str, ...]] = []
        for column, student_layer in enumerate(facts["student_layers"]):
            value, low, high = (float(values[row, column]) for values in (arrays["matrix"], *ends))
            number = f"{_measure(facts)} {value:.3f}" + ("" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]")
            if np.isnan(value):
                number = "undefined: " + reasons.get((teacher_layer, student_layer), "no reason stated")
            cells.append((f"teacher {teacher_layer}", f"student {student_layer}", number))
        rows.append(cells)
    return rows


def _undefined(matrix: Any, cells: list[list[tuple[str, ...]]]) -> list[dict[str, Any]]:
    places = np.argwhere(np.isnan(matrix))
    if not len(places):
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "undefined",
            "showlegend": True,
            "x": places[:, 1].tolist(),
            "y": places[:, 0].tolist(),
            "text": [hover(*cells[row][column]) for row, column in places],
            "hovertemplate": HOVER,
            "marker": {"symbol": "x-thin", "size": 7, "line": {"width": 1.2, "color": THEMED_MUTED}},
        }
    ]


def _alt(result: Result) -> str:
    facts, matrix = result.facts, result.arrays["matrix"]
    text = "Heatmap of {} between {} layers of teacher {} and {} layers of student {}".format(
        _measure(facts), matrix.shape[0], facts["teacher"], matrix.shape[1], facts["student"]
    )
    if np.isnan(matrix).all():
        return f"{text}; undefined everywhere."
    row, column = np.unravel_index(np.nanargmax(matrix), matrix.shape)
    places = f"{facts['teacher_layers'][row]} and {facts['student_layers'][column]}"
    return f"{text}; from {np.nanmin(matrix):.2f} to {np.nanmax(matrix):.2f}, highest between {places}."


def _measure(facts: dict[str, Any]) -> str:
    return str(facts.get("measure", "CKA"))


def _other(facts: dict[str, Any]) -> list[str]:
    """The measure, where it is not CKA."""
    return [str(facts["measure"])] if "measure" in facts else []


def _caption(facts: dict[str, Any]) -> str:
    parts = [f"{facts['n_samples']} images of {facts['data']}"]
    if "measure" not in facts:
        parts.append(f"{facts['n_minibatches']} minibatches of {facts['batch_size']}")
        parts += [f"{facts[key]} {key}" for key in ("kernel", "estimator")]
    parts.append(f"{facts['reduce']} features")
    if "measure" not in facts:
        parts.append(intervals(facts))
    if facts["undefined"]:
        reasons = sorted({cell["reason"] for cell in facts["undefined"]})
        parts.append(f"{len(facts['undefined'])} cells undefined ({'; '.join(reasons[:3])})")
    return ", ".join(parts) + "."
