"""CKA heatmaps with values under the pointer, one pair at a time."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figures.calibrated import Beside, beside_null, calibration_words
from figures.heatmap import ANNOTATED
from figures.pictures.cka import colour_label
from figures.report.depth import over_depth
from figures.report.elements import Chart, Panel, Results, Table
from figures.report.traces import HOVER, THEMED_MUTED, heatmap, hover, numbers, themed
from figures.style import CHANCE, DARK_CHANCE
from figures.words import each_with_ends, intervals, neighbours
from kdprobe.formats.counts import counted
from kdprobe.results import Result


def cka_panels(results: Results) -> list[Panel]:
    """A panel with the heatmaps of all results of kind "cka", and one with the calibrated ones over depth."""
    note = (
        "How alike the two networks represent the same images, layer by layer: 1 is equal up to rotation and "
        "scale, 0 is unrelated. Shallow layers are below and to the left."
    )
    return _panels(results, note, choose="Pair")


def similarity_panels(results: Results) -> list[Panel]:
    """The same of all results of kind "similarity", whatever their measure."""
    note = "How alike the two networks represent the same images by measures other than CKA, layer by layer."
    return _panels(results, note + _incomparable(results), choose="Pair and measure")


def _panels(results: Results, note: str, *, choose: str) -> list[Panel]:
    heatmaps = Panel("", note, _heatmaps(results), choose=choose)
    depth = [over_depth(titled(result, name, "over depth"), result) for name, result in results if beside_null(result)]
    profiles = "The most alike teacher layer of each student layer, beside the most alike one by chance."
    return [heatmaps, *([Panel("Over depth", profiles, depth, choose=choose)] if depth else [])]


def _incomparable(results: Results) -> str:
    """A warning of results by the same measure whose values depend on numbers in which they differ."""
    counted: dict[str, set[str]] = {}
    for _, result in results:
        if words := neighbours(result.facts):
            counted.setdefault(result.facts["measure"], set()).add(words)
    return "".join(
        f" Values of {measure} are not to be compared here, as they depend on the numbers of neighbours and samples: "
        f"{'; '.join(sorted(words))}."
        for measure, words in counted.items()
        if len(words) > 1
    )


def _heatmaps(results: Results) -> list[Chart]:
    """The heatmap of each result; of a calibrated one that of its calibrated values, and the plain one."""
    found = []
    for name, result in results:
        if beside := beside_null(result):
            found.append(replace(_chart(name, result, beside), of=name))
        found.append(replace(_chart(name, result), of=name))
    return found


def _chart(name: str, result: Result, beside: Beside | None = None) -> Chart:
    facts, matrix = result.facts, result.arrays["matrix"]
    rows, columns = facts["teacher_layers"], facts["student_layers"]
    cells, undefined = _cells(result), np.isnan(matrix)
    if beside:
        matrix = np.where(beside.chance, np.nan, beside.values)
    defined = matrix[~np.isnan(matrix)]
    ends = min(0.0, float(defined.min(initial=0))), max(1.0, float(defined.max(initial=1)))
    texts = [["" if np.isnan(value) else f"{value:.2f}" for value in row] for row in matrix]
    heat = heatmap(
        matrix,
        [[hover(*cell) for cell in row] for row in cells],
        colour_label(facts, calibrated=beside is not None),
        ends=ends,
        texts=texts if max(matrix.shape) <= ANNOTATED else None,
        lines=max(matrix.shape) <= 2 * ANNOTATED,
    )
    empty = [*by_chance(beside, heat), *_undefined(undefined, cells)]
    words = np.where(beside.chance, "within its null", "undefined") if beside else np.full(matrix.shape, "undefined")
    nothing = np.full(matrix.shape, np.nan)  # calibrated values have no interval
    low, high = (nothing if beside else result.arrays.get(key, nothing) for key in ("low", "high"))
    told = each_with_ends(matrix, low, high)
    table = [
        [row, *(word if np.isnan(value) else text for value, word, text in zip(*cells, strict=True))]
        for row, *cells in zip(rows, matrix, words, told, strict=True)
    ]
    return Chart(
        name=titled(result, name, "calibrated" if beside else ""),
        alt=_alt(result, matrix, calibrated=beside is not None),
        caption=_caption(facts) + (f" {calibration_words(facts)}" if beside else ""),
        traces=[heat | {"hoverongaps": False}, *empty],
        layout={
            "height": int(np.clip(26 * len(rows), 240, 640)) + 130,
            "width": max(480, 64 * len(columns) + 230),
        },
        titles={"xaxis": f"student: {facts['student']}, layer", "yaxis": f"teacher: {facts['teacher']}, layer"},
        ticks={"xaxis": columns, "yaxis": rows},
        table=Table(["teacher layer", *columns], table[::-1]),
    )


def titled(result: Result, file: str, shown: str) -> str:
    """What tells a chart of two networks from the others: them, the measure unless it is CKA, and what is shown."""
    facts = result.facts
    parts = [str(facts["measure"])] if "measure" in facts else []
    return f"{facts['teacher']} → {facts['student']} ({', '.join([*parts, *([shown] if shown else []), file])})"


def _cells(result: Result) -> list[list[tuple[str, ...]]]:
    """What the pointer shows of each cell, line by line."""
    facts, arrays, nothing = result.facts, result.arrays, np.full(result.arrays["matrix"].shape, np.nan)
    ends = [arrays.get(key, nothing) for key in ("low", "high")]
    reasons = {(cell["teacher_layer"], cell["student_layer"]): cell["reason"] for cell in facts["undefined"]}
    beside = beside_null(result)
    rows: list[list[tuple[str, ...]]] = []
    for row, teacher_layer in enumerate(facts["teacher_layers"]):
        cells: list[tuple[str, ...]] = []
        for column, student_layer in enumerate(facts["student_layers"]):
            value, low, high = (float(values[row, column]) for values in (arrays["matrix"], *ends))
            number = f"{_measure(facts)} {value:.3f}" + ("" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]")
            more: tuple[str, ...] = ()
            if np.isnan(value):
                number = "undefined: " + reasons.get((teacher_layer, student_layer), "no reason stated")
            elif beside:
                mean, threshold, calibrated, p_value = (
                    float(arrays[key][row, column]) for key in ("null_mean", "threshold", "calibrated", "p_adjusted")
                )
                more = (
                    f"null: mean {mean:.3f}, threshold {threshold:.3f}",
                    f"calibrated {calibrated:.3f}, p = {p_value:.3f} for all pairs",
                )
            cells.append((f"teacher {teacher_layer}", f"student {student_layer}", number, *more))
        rows.append(cells)
    return rows


def by_chance(beside: Beside | None, heat: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells that do not exceed their null, grey."""
    if beside is None or not beside.chance.any():
        return []
    grey = themed([[0, CHANCE], [1, CHANCE]], [[0, DARK_CHANCE], [1, DARK_CHANCE]])
    looks = {"z": numbers(np.where(beside.chance, 0.0, np.nan)), "colorscale": grey, "text": None, "texttemplate": None}
    legend = {"showscale": False, "showlegend": True, "name": beside.words, "hoverongaps": False}
    return [{key: value for key, value in heat.items() if key != "colorbar"} | looks | legend]


def _undefined(undefined: NDArray[np.bool_], cells: list[list[tuple[str, ...]]]) -> list[dict[str, Any]]:
    places = np.argwhere(undefined)
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


def _alt(result: Result, matrix: NDArray[np.float64], *, calibrated: bool) -> str:
    facts = result.facts
    text = "Heatmap of {}{} between {} layers of teacher {} and {} layers of student {}".format(
        "calibrated " if calibrated else "",
        _measure(facts),
        matrix.shape[0],
        facts["teacher"],
        matrix.shape[1],
        facts["student"],
    )
    if np.isnan(matrix).all():
        return f"{text}; {'within the null or undefined' if calibrated else 'undefined'} everywhere."
    row, column = np.unravel_index(np.nanargmax(matrix), matrix.shape)
    places = f"{facts['teacher_layers'][row]} and {facts['student_layers'][column]}"
    return f"{text}; from {np.nanmin(matrix):.2f} to {np.nanmax(matrix):.2f}, highest between {places}."


def _measure(facts: dict[str, Any]) -> str:
    return str(facts.get("measure", "CKA"))


def _caption(facts: dict[str, Any]) -> str:
    parts = [f"{facts['n_samples']} images of {facts['data']}"]
    if "measure" not in facts:
        parts.append(f"{counted(facts['n_minibatches'], 'minibatch')} of {facts['batch_size']}")
        parts += [f"{facts[key]} {key}" for key in ("kernel", "estimator")]
    parts.append(f"{facts['reduce']} features")
    parts += [words] if (words := neighbours(facts)) else []
    if "measure" not in facts:
        parts.append(intervals(facts))
    if facts["undefined"]:
        reasons = sorted({cell["reason"] for cell in facts["undefined"]})
        parts.append(f"{len(facts['undefined'])} cells undefined ({'; '.join(reasons[:3])})")
    return ", ".join(parts) + "."
