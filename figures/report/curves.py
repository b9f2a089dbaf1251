"""Lines over epochs: training loss, accuracy, CKA."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figures.calibrated import beside_null
from figures.pictures.cka import colour_label
from figures.pictures.curves import panels_of
from figures.report.elements import Chart, Panel, Results, Table, one_at_a_time, one_below_the_other
from figures.report.traces import SERIES, hover, numbers, whole_steps
from figures.words import each_with_ends, number
from kdprobe.results import Result

_DASHES = ("solid", "dash", "dot", "dashdot")


def training_panels(results: Results) -> list[Panel]:
    """Loss and, with labels, accuracy side by side for each result of kind "training"."""
    return one_below_the_other(results, _training)


def over_time_panels(results: Results) -> list[Panel]:
    """CKA of pairs of layers over epochs, one result of kind "cka-over-time" at a time."""
    note = "Each line is a teacher layer and a student layer."
    return one_at_a_time(results, _over_time, choose="Pair", note=note)


def _training(heading: str, result: Result) -> Panel:
    epoch, names = result.arrays["epoch"], result.facts["names"]
    return Panel(heading, "", [_lines(label, epoch, values, names) for label, values in panels_of(result).items()])


def _over_time(name: str, result: Result) -> Chart:
    facts, epoch, values = result.facts, result.arrays["epoch"], result.arrays["cka"]
    pairs = [f"{one}, {other}" for one, other in zip(facts["teacher_layers"], facts["student_layers"], strict=True)]
    chart = _lines(colour_label(facts), epoch, values, pairs, name=f"{facts['teacher']} → {facts['student']} ({name})")
    told = each_with_ends(values.T, result.arrays["low"].T, result.arrays["high"].T)
    rows = [[str(at), *row] for at, row in zip(epoch.tolist(), told, strict=True)]
    chart = replace(chart, table=Table(["epoch", *pairs], rows))
    beside = beside_null(result)
    if beside is None:
        return chart
    for trace, within in zip(chart.traces, beside.chance.tolist(), strict=True):
        trace["marker"]["symbol"] = ["circle-open" if one else "circle" for one in within]
    return replace(chart, caption=f"Hollow points are {beside.words}, of all pairs and epochs together.")


def _lines(
    label: str, epoch: NDArray[np.int64], values: NDArray[np.float64], names: Sequence[str], *, name: str = ""
) -> Chart:
    """A chart of lines over epochs.

    Args:
        label: the vertical axis' title.
        epoch: [epochs].
        values: [lines, epochs], NaN where absent.
        names: the lines' names.
        name: the chart's name; the label if not given.
    """
    traces = [_trace(index, line, epoch, row) for index, (line, row) in enumerate(zip(names, values, strict=True))]
    rows = [[str(at), *(number(value, 3) for value in row)] for at, row in zip(epoch.tolist(), values.T, strict=True)]
    last = "; ".join(f"{line} {_last(row)}" for line, row in zip(names, values, strict=True))
    alt = f"{label} over {len(epoch)} epochs; last values: {last}."
    layout = {"height": 300 + 18 * -(-len(names) // 3), "xaxis": {"showgrid": False, **whole_steps(epoch.tolist())}}
    titles = {"xaxis": "epoch", "yaxis": label}
    return Chart(name or label, alt, "", traces, layout, titles, {}, Table(["epoch", *names], rows))


def _last(row: NDArray[np.float64]) -> str:
    present = row[~np.isnan(row)]
    return f"{present[-1]:.3f}" if present.size else "none"


def _trace(index: int, name: str, epoch: NDArray[np.int64], values: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": hover(name),
        "showlegend": True,
        "x": epoch.tolist(),
        "y": numbers(values),
        "line": {"color": SERIES[index % len(SERIES)], "width": 2, "dash": _DASHES[index // len(SERIES) % 4]},
        "marker": {"size": 4},
        "hovertemplate": "%{fullData.name}<br>epoch %{x}: %{y:.3f}<extra></extra>",
    }
