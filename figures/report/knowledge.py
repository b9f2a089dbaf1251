"""General parts of teacher and student, pair of layers by pair of layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figures.checks import naming, require, require_length
from figures.report.chart import INK, SERIES, Chart, Panel, Table, hover, numbers
from kdprobe.results import Result

_FACTS = ("teacher", "student", "teacher_layers", "student_layers", "confidence", "data")


def panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """One panel for all decompositions.

    Args:
        results: short file names and results of kind "knowledge".
    """
    charts = []
    for name, result in results:
        with naming(name):
            charts.append(_chart(name, result))
    note = "General is what the other network can have as well; what is left to 100 % is specific."
    return [Panel("", note, charts, choose="Pair")]


def _chart(name: str, result: Result) -> Chart:
    require(result, {"teacher_general": 2, "student_general": 2}, _FACTS)
    facts, general = result.facts, {key: 100 * result.arrays[f"{key}_general"] for key in ("teacher", "student")}
    layers = {key: require_length(result, f"{key}_layers", len(general[key]), "pairs") for key in general}
    pairs = [f"{one} / {other}" for one, other in zip(layers["teacher"], layers["student"], strict=True)]
    traces = [
        bars(f"general, {key} {facts[key]}", layers[key], general[key], SERIES[index])
        for index, key in enumerate(general)
    ]
    layout = {
        "height": 120 + 64 * len(pairs),
        "barmode": "group",
        "xaxis": {"range": [min(0.0, float(np.nanmin(list(general.values())))), 100]},
        "yaxis": {"autorange": "reversed"},
    }
    rows = [
        [pair, *("{:.1f} [{:.1f}, {:.1f}]".format(*general[key][index]) for key in general)]
        for index, pair in enumerate(pairs)
    ]
    each = "; ".join(f"{row[0]}: teacher {row[1]}, student {row[2]}" for row in rows)
    return Chart(
        f"{facts['teacher']} → {facts['student']} ({name})",
        f"Bars of the general share of variance in % of {len(pairs)} pairs of layers: {each}.",
        f"On {facts['data']}; {100 * facts['confidence']:g} % intervals.",
        traces,
        layout,
        {"xaxis": "general share of variance in %"},
        {"yaxis": pairs},
        Table(["teacher layer / student layer", "teacher in %", "student in %"], rows),
    )


def bars(name: str, layers: Sequence[str], percent: NDArray[np.float64], colour: Any) -> dict[str, Any]:
    """Bars to the right with intervals, one per layer or pair of layers: percent [layers, 3] (value, low, high)."""
    value, low, high = percent.T
    return {
        "type": "bar",
        "orientation": "h",
        "name": hover(name),
        "showlegend": True,
        "x": numbers(value, 3),
        "y": list(range(len(layers))),
        "marker": {"color": colour},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": numbers(high - value, 3),
            "arrayminus": numbers(value - low, 3),
            "thickness": 1.5,
            "color": INK,
            "width": 4,
        },
        "text": [
            hover(name, layer, "{:.1f} % [{:.1f}, {:.1f}]".format(*row))
            for layer, row in zip(layers, percent, strict=True)
        ],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
    }
