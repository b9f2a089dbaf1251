"""Lines over epochs: training loss, accuracy, CKA."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figures.checks import naming, require, require_epochs, require_length
from figures.pictures.cka import colour_label
from figures.report.chart import SERIES, Chart, Panel, Table, hover, numbers
from kdprobe.results import Result

_DASHES = ("solid", "dash", "dot", "dashdot")


def training_panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """Loss and accuracy side by side for each result.

    Args:
        results: short file names and results of kind "training".
    """
    panels = []
    for name, result in results:
        with naming(name):
            require(result, {"epoch": 1, "train_loss": 2, "accuracy": 2}, ("names",))
            require_epochs(result)
            names = require_length(result, "names", len(result.arrays["accuracy"]), "runs")
        epoch = result.arrays["epoch"]
        charts = [
            lines("training loss", epoch, result.arrays["train_loss"], names),
            lines("accuracy in %", epoch, 100 * result.arrays["accuracy"], names),
        ]
        panels.append(Panel(name if len(results) > 1 else "", "", charts))
    return panels


def over_time_panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """CKA of chosen layer pairs over epochs, one student at a time.

    Args:
        results: short file names and results of kind "cka-over-time".
    """
    charts = []
    for name, result in results:
        with naming(name):
            require(result, {"epoch": 1, "cka": 2}, ("teacher", "student", "teacher_layers", "student_layers"))
            require_epochs(result)
            teacher_layers = require_length(result, "teacher_layers", len(result.arrays["cka"]), "pairs")
            student_layers = require_length(result, "student_layers", len(result.arrays["cka"]), "pairs")
        facts = result.facts
        pairs = [f"{one}, {other}" for one, other in zip(teacher_layers, student_layers, strict=True)]
        chosen = f"{facts['teacher']} → {facts['student']} ({name})"
        charts.append(lines(colour_label(facts), result.arrays["epoch"], result.arrays["cka"], pairs, name=chosen))
    return [Panel("", "Each line is a teacher layer and a student layer.", charts, choose="Pair")]


def lines(
    label: str, epoch: NDArray[np.int64], values: NDArray[np.float64], names: Sequence[str], *, name: str = ""
) -> Chart:
    """A chart of lines over epochs.

    Args:
        label: of the vertical axis.
        epoch: [epochs].
        values: [lines, epochs], NaN where absent.
        names: of the lines.
        name: of the chart; the label if not given.
    """
    traces = [_trace(index, line, epoch, row) for index, (line, row) in enumerate(zip(names, values, strict=True))]
    table = Table(
        ["epoch", *names],
        [
            [str(number), *("-" if np.isnan(value) else f"{value:.3f}" for value in column)]
            for number, column in zip(epoch.tolist(), values.T, strict=True)
        ],
    )
    last = ", ".join(f"{line} {_last(row)}" for line, row in zip(names, values, strict=True))
    alt = f"{label} over {len(epoch)} epochs; last values: {last}."
    layout = {"height": 300 + 18 * -(-len(names) // 3), "xaxis": {"showgrid": False}}
    return Chart(name or label, alt, "", traces, layout, {"xaxis": "epoch", "yaxis": label}, {}, table)


def _last(row: NDArray[np.float64]) -> str:
    seen = row[~np.isnan(row)]
    return f"{seen[-1]:.3f}" if seen.size else "none"


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
