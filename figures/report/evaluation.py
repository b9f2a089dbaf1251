"""Accuracy and unweighted average recall with intervals; confusion matrices one at a time."""

from collections.abc import Sequence

import numpy as np

from figures.checks import naming, require, require_length
from figures.pictures.confusion import percent, row_shares
from figures.report.chart import Chart, Panel, Table, hover, numbers, scale
from figures.report.intervals import interval_chart
from kdprobe.results import Result

_QUANTITIES = {"accuracy": "accuracy", "uar": "UAR"}


def panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """The intervals of all evaluations in one panel, all confusion matrices in another.

    Args:
        results: short file names and results of kind "evaluation".
    """
    for name, result in results:
        with naming(name):
            _check(result)
    matrices = [_matrix(name, result, index) for name, result in results for index in range(len(result.facts["names"]))]
    note = "Each row is shared out over the predicted classes: the diagonal is the recall of a class."
    intervals = [_intervals(name, result) for name, result in results]
    table = intervals[0].table if len(results) == 1 else None
    return [
        Panel("", "", intervals, choose="Evaluation", table=table),
        Panel("Confusion", note, matrices, choose="Model"),
    ]


def _check(result: Result) -> None:
    require(result, {"confusion": 3, "accuracy": 2, "uar": 2}, ("names", "classes", "data", "confidence"))
    require_length(result, "names", len(result.arrays["confusion"]), "matrices")
    require_length(result, "classes", result.arrays["confusion"].shape[1], "classes")


def _intervals(name: str, result: Result) -> Chart:
    facts = result.facts
    shares = {label: result.arrays[key] for key, label in _QUANTITIES.items()}
    caption = f"On {facts['data']}; {100 * facts['confidence']:g} % intervals."
    return interval_chart(name, facts["names"], shares, caption)


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
