"""What is general in students of several methods, at equal layers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from figures.checks import naming, require, require_length
from figures.report.chart import SERIES, Chart, Panel, Table
from figures.report.knowledge import bars
from kdprobe.results import Result

_FACTS = ("names", "teacher", "teacher_layers", "student_layers", "confidence", "data")
_SHARES = {who: f"general share of the {who}'s variance in %" for who in ("teacher", "student")}


def panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """Two charts beside each other for each result: what students share of the teacher's, and the teacher of theirs.

    Args:
        results: short file names and results of kind "knowledge-comparison".
    """
    found = []
    for name, result in results:
        with naming(name):
            charts = [_chart(result, who) for who in _SHARES]
        note = f"Teacher {result.facts['teacher']}, on {result.facts['data']}; "
        note += f"{100 * result.facts['confidence']:g} % intervals over folds."
        found.append(Panel(name if len(results) > 1 else "", note, charts))
    return found


def _chart(result: Result, who: str) -> Chart:
    require(result, {"teacher_general": 3, "student_general": 3}, _FACTS)
    percent: NDArray[np.float64] = 100 * result.arrays[f"{who}_general"]
    names = require_length(result, "names", len(percent), "students")
    sides = (require_length(result, f"{one}_layers", percent.shape[1], "pairs") for one in ("teacher", "student"))
    pairs = [f"{one} / {other}" for one, other in zip(*sides, strict=True)]
    rows = [
        [pair, *("{:.1f} [{:.1f}, {:.1f}]".format(*student[index]) for student in percent)]
        for index, pair in enumerate(pairs)
    ]
    each = "; ".join(f"{row[0]}: " + ", ".join(map(" ".join, zip(names, row[1:], strict=True))) for row in rows)
    layout = {
        "height": 110 + (24 + 14 * len(names)) * len(pairs),
        "barmode": "group",
        "xaxis": {"range": [min(0.0, float(np.nanmin(percent))), 100]},
        "yaxis": {"autorange": "reversed"},
    }
    return Chart(
        _SHARES[who],
        f"Bars of the {_SHARES[who]} by pair of layers. {each}.",
        f"The {_SHARES[who]}.",
        [
            bars(name, pairs, student, SERIES[i % len(SERIES)])
            for i, (name, student) in enumerate(zip(names, percent, strict=True))
        ],
        layout,
        {"xaxis": f"general in {who}, in %"},
        {"yaxis": pairs},
        Table(["teacher layer / student layer", *names], rows),
    )
