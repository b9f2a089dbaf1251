"""General parts of teacher and student, pair of layers by pair of layers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figures.report.elements import Chart, Panel, Results, Table, one_at_a_time
from figures.report.intervals import interval_table, interval_words
from figures.report.traces import HOVER, SERIES, THEMED_INK, error_bars, hover, numbers
from figures.words import intervals, lower_bounds, number, with_ends
from kdprobe.results import Result

SIDES = ("teacher", "student")
PAIR = "teacher layer / student layer"
_GROUP = 0.8  # of the distance of two groups: what the bars of one take
_PATTERNS = ("", "/", ".", "x")  # of bars
_NUMBER = 10  # percent of the axis that a number beside the longest bar takes


def knowledge_panels(results: Results) -> list[Panel]:
    """One panel for all results of kind "knowledge"."""
    note = (
        "General is what the other network can have as well; what is left to 100 % is specific. Behind ≥ the samples "
        "were too few for all directions of the other network, and the share is at least this large. What is general "
        "in single samples is predicted out of fold; its variance is not the share."
    )
    return one_at_a_time(results, _chart, choose="Pair", note=note)


def _chart(name: str, result: Result) -> Chart:
    facts, general = result.facts, [100 * result.arrays[f"{who}_general"] for who in SIDES]
    pairs, lower = layer_pairs(result), [lower_bounds(result, who) for who in SIDES]
    return Chart(
        f"{facts['teacher']} → {facts['student']} ({name})",
        f"Bars of the general share of variance in % of {len(pairs)} pairs of layers: "
        f"{interval_words(pairs, SIDES, general, lower)}.",
        f"By the {facts['method']} method on {_held(facts)}{_samples(facts)} of {facts['data']}; {intervals(facts)}.",
        [
            bars(f"general, {who} {facts[who]}", facts[f"{who}_layers"], percent, index, lower[index])
            for index, (who, percent) in enumerate(zip(SIDES, general, strict=True))
        ],
        bars_layout(120 + 64 * len(pairs), general, lower),
        {"xaxis": "general share of variance in %"},
        {"yaxis": pairs},
        _table(result, pairs, interval_table([PAIR, *(f"{who} in %" for who in SIDES)], pairs, general, lower)),
    )


def _held(facts: dict[str, Any]) -> str:
    """Which features of the samples were split; older results do not say it."""
    return f"{facts['reduce']} features of " if "reduce" in facts else ""


def _samples(facts: dict[str, Any]) -> str:
    """How many samples there were, and how many of them count."""
    n, independent = facts["n_samples"], facts.get("n_independent", facts["n_samples"])
    return f"{n} samples" if n == independent else f"{n} samples, of which {independent} are independent,"


def _table(result: Result, pairs: list[str], shares: Table) -> Table:
    """The shares, and beside them CKA and, where they are known, how many directions explained and what was left."""
    arrays = result.arrays
    columns = {"CKA": [number(value, 3) for value in arrays["cka"][:, 0, 0]]}
    if "teacher_used" in arrays:
        used = [arrays[f"{who}_used"] for who in SIDES]
        n = result.facts.get("n_independent", result.facts["n_samples"])
        columns["d of teacher, student"] = [f"{one}, {other}" for one, other in zip(*used, strict=True)]
        columns["n - d - 1 of each as target"] = [f"{n - d - 1}, {n - c - 1}" for c, d in zip(*used, strict=True)]
    rows = [[*row, *more] for row, *more in zip(shares.rows, *columns.values(), strict=True)]
    return Table([*shares.header, *columns], rows, shares.note)


def layer_pairs(result: Result) -> list[str]:
    """Names of the pairs of layers."""
    sides = (result.facts[f"{who}_layers"] for who in SIDES)
    return [f"{one} / {other}" for one, other in zip(*sides, strict=True)]


def bars(
    name: str, layers: Sequence[str], percent: NDArray[np.float64], index: int, lower: Sequence[bool]
) -> dict[str, Any]:
    """Bars to the right with intervals, one per layer or pair of layers: percent [layers, 3] (value, low, high).

    Those of `index` have a colour of their own, and a pattern where all colours have been used before it.
    """
    shape = _PATTERNS[index // len(SERIES) % len(_PATTERNS)]
    return {
        "type": "bar",
        "orientation": "h",
        "name": hover(name),
        "showlegend": True,
        "x": numbers(percent[:, 0], 3),
        "y": list(range(len(layers))),
        "marker": {"color": SERIES[index % len(SERIES)], "pattern": {"shape": shape, "fillmode": "overlay"}},
        "error_x": error_bars(percent, THEMED_INK, 1.5),
        "text": [
            hover(name, layer, with_ends(row, " %", lower_bound=bound))
            for layer, row, bound in zip(layers, percent, lower, strict=True)
        ],
        "textposition": "none",
        "hovertemplate": HOVER,
    }


def bars_layout(
    height: int, percents: Sequence[NDArray[np.float64]], lower: Sequence[Sequence[bool]]
) -> dict[str, Any]:
    """Layout of groups of such bars, the first one at the top, with `≥` and the number beside those that are bounds.

    Args:
        height: of the chart.
        percents: of each bar of a group [layers, 3]; shares may lie below zero.
        lower: which of them are lower bounds.
    """
    lowest = min(0.0, *(float(np.nanmin(values)) for values in percents))
    marks = list(_bounds(percents, lower))
    return {
        "height": height,
        "barmode": "group",
        "xaxis": {"range": [lowest, 100 + _NUMBER * bool(marks)]},
        "yaxis": {"autorange": "reversed"},
        **({"annotations": marks} if marks else {}),
    }


def _bounds(percents: Sequence[NDArray[np.float64]], lower: Sequence[Sequence[bool]]) -> Iterator[dict[str, Any]]:
    """A mark to the right of the interval of each lower bound."""
    for place, (percent, bounds) in enumerate(zip(percents, lower, strict=True)):
        middle = _GROUP * ((place + 0.5) / len(percents) - 0.5)
        for row in np.flatnonzero(np.array(bounds, bool) & ~np.isnan(percent[:, 0])).tolist():
            at = {"x": round(float(np.nanmax(percent[row])), 3), "y": row + middle, "xanchor": "left", "xshift": 3}
            yield {**at, "text": f"≥ {number(percent[row, 0], 1)}", "showarrow": False}
