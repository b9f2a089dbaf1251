"""General parts of teacher and student, pair of layers by pair of layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figures.report.elements import Chart, Panel, Results, one_at_a_time
from figures.report.intervals import interval_table, interval_words
from figures.report.traces import HOVER, SERIES, THEMED_INK, error_bars, hover, numbers
from figures.words import intervals, with_ends
from kdprobe.results import Result

SIDES = ("teacher", "student")
PAIR = "teacher layer / student layer"


def knowledge_panels(results: Results) -> list[Panel]:
    """One panel for all results of kind "knowledge"."""
    note = "General is what the other network can have as well; what is left to 100 % is specific."
    return one_at_a_time(results, _chart, choose="Pair", note=note)


def _chart(name: str, result: Result) -> Chart:
    facts, general = result.facts, [100 * result.arrays[f"{who}_general"] for who in SIDES]
    pairs = layer_pairs(result)
    return Chart(
        f"{facts['teacher']} → {facts['student']} ({name})",
        f"Bars of the general share of variance in % of {len(pairs)} pairs of layers: "
        f"{interval_words(pairs, SIDES, general)}.",
        f"On {facts['data']}; {intervals(facts)}.",
        [
            bars(f"general, {who} {facts[who]}", facts[f"{who}_layers"], percent, SERIES[index])
            for index, (who, percent) in enumerate(zip(SIDES, general, strict=True))
        ],
        bars_layout(120 + 64 * len(pairs), general),
        {"xaxis": "general share of variance in %"},
        {"yaxis": pairs},
        interval_table([PAIR, *(f"{who} in %" for who in SIDES)], pairs, general),
    )


def layer_pairs(result: Result) -> list[str]:
    """Names of the pairs of layers."""
    sides = (result.facts[f"{who}_layers"] for who in SIDES)
    return [f"{one} / {other}" for one, other in zip(*sides, strict=True)]


def bars(name: str, layers: Sequence[str], percent: NDArray[np.float64], colour: Any) -> dict[str, Any]:
    """Bars to the right with intervals, one per layer or pair of layers: percent [layers, 3] (value, low, high)."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": hover(name),
        "showlegend": True,
        "x": numbers(percent[:, 0], 3),
        "y": list(range(len(layers))),
        "marker": {"color": colour},
        "error_x": error_bars(percent, THEMED_INK, 1.5),
        "text": [hover(name, layer, with_ends(row, " %")) for layer, row in zip(layers, percent, strict=True)],
        "textposition": "none",
        "hovertemplate": HOVER,
    }


def bars_layout(height: int, percents: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """Layout of groups of such bars, the first one at the top; shares may lie below zero."""
    lowest = min(0.0, *(float(np.nanmin(values)) for values in percents))
    return {
        "height": height,
        "barmode": "group",
        "xaxis": {"range": [lowest, 100]},
        "yaxis": {"autorange": "reversed"},
    }
