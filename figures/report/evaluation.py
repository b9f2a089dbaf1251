"""Confusion matrices one at a time, accuracy and unweighted average recall side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from figures.checks import naming, require, require_length
from figures.confusion import percent, row_shares
from figures.report.chart import SERIES, Chart, Panel, Table, hover, numbers, scale
from kdprobe.results import Result

_QUANTITIES = {"accuracy": "accuracy", "uar": "unweighted average recall (UAR)"}


def panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """The intervals of each evaluation, then all confusion matrices in one panel.

    Args:
        results: short file names and results of kind "evaluation".
    """
    for name, result in results:
        with naming(name):
            _check(result)
    matrices = [_matrix(name, result, index) for name, result in results for index in range(len(result.facts["names"]))]
    note = "Each row is shared out over the predicted classes: the diagonal is the recall of a class."
    return [
        *(_intervals(name if len(results) > 1 else "", result) for name, result in results),
        Panel("Confusion", note, matrices, choose="Model"),
    ]


def _check(result: Result) -> None:
    require(result, {"confusion": 3, "accuracy": 2, "uar": 2}, ("names", "classes", "data", "confidence"))
    require_length(result, "names", len(result.arrays["confusion"]), "matrices")
    require_length(result, "classes", result.arrays["confusion"].shape[1], "classes")


def _intervals(name: str, result: Result) -> Panel:
    facts = result.facts
    rows = [
        [model, *(_worded(result.arrays[key][index]) for key in _QUANTITIES)]
        for index, model in enumerate(facts["names"])
    ]
    table = Table(["model", "accuracy in %", "UAR in %"], rows)
    note = f"On {facts['data']}; {100 * facts['confidence']:g} % intervals."
    charts = [_interval_chart(result, key, SERIES[i]) for i, key in enumerate(_QUANTITIES)]
    return Panel(name, note, charts, table=table)


def _worded(interval: Any) -> str:
    value, low, high = (100 * float(number) for number in interval)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _interval_chart(result: Result, key: str, colour: Any) -> Chart:
    names, values = result.facts["names"], 100 * result.arrays[key]
    told = [hover(model, f"{key} in % {_worded(result.arrays[key][i])}") for i, model in enumerate(names)]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(values[:, 0], 3),
        "y": list(range(len(names))),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": numbers(values[:, 2] - values[:, 0], 3),
            "arrayminus": numbers(values[:, 0] - values[:, 1], 3),
            "thickness": 2,
            "width": 5,
            "color": colour,
        },
        "marker": {"size": 10, "symbol": "diamond", "color": colour},
        "text": told,
        "hovertemplate": "%{text}<extra></extra>",
    }
    layout = {
        "height": 100 + 34 * len(names),
        "yaxis": {"range": [len(names) - 0.5, -0.5]},
    }
    best = int(np.argmax(values[:, 0]))
    alt = (
        f"{_QUANTITIES[key]} with intervals of {len(names)} models; highest {names[best]} with {values[best, 0]:.1f} %."
    )
    table = Table(["model", f"{key} in %"], [[n, _worded(result.arrays[key][i])] for i, n in enumerate(names)])
    return Chart(
        _QUANTITIES[key], alt, "", [trace], layout, {"xaxis": f"{_QUANTITIES[key]} in %"}, {"yaxis": names}, table
    )


def _matrix(name: str, result: Result, index: int) -> Chart:
    confusion, classes = result.arrays["confusion"][index], result.facts["classes"]
    model, shares = result.facts["names"][index], row_shares(confusion)
    told = [
        [
            hover(
                f"true {true}",
                f"predicted {predicted}",
                f"{confusion[i, j]} images, {percent(float(np.nan_to_num(shares[i, j])))} of the row",
            )
            for j, predicted in enumerate(classes)
        ]
        for i, true in enumerate(classes)
    ]
    few = len(classes) <= 12
    heat = {
        "type": "heatmap",
        "z": numbers(shares, 4),
        "zmin": 0,
        "zmax": 1,
        "colorscale": scale(0.0, 1.0),
        "customdata": told,
        "text": [[str(count) if count else "" for count in row] for row in confusion.tolist()] if few else None,
        "texttemplate": "%{text}" if few else None,
        "hovertemplate": "%{customdata}<extra></extra>",
        "xgap": 1 if few else 0,
        "ygap": 1 if few else 0,
        "colorbar": {"title": {"text": "share of the true class", "side": "right"}, "thickness": 12, "outlinewidth": 0},
    }
    layout = {
        "height": int(np.clip(34 * len(classes), 240, 520)) + 130,
        "width": max(480, 44 * len(classes) + 230),
        "yaxis": {"autorange": "reversed"},
    }
    accuracy, uar = (float(result.arrays[key][index, 0]) for key in ("accuracy", "uar"))
    images = int(confusion.sum())
    alt = f"Confusion matrix of {model} over {len(classes)} classes; accuracy {percent(accuracy)}, UAR {percent(uar)}."
    return Chart(
        f"{model} ({name})",
        alt,
        f"{images} images of {result.facts['data']}; accuracy {percent(accuracy)}, UAR {percent(uar)}.",
        [heat],
        layout,
        {"xaxis": "predicted class", "yaxis": "true class"},
        {"xaxis": classes, "yaxis": classes},
        Table(
            ["true class", *classes], [[c, *map(str, row)] for c, row in zip(classes, confusion.tolist(), strict=True)]
        ),
    )
