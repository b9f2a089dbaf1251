"""Accuracy and unweighted average recall with intervals; confusion matrices one at a time."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from figures.heatmap import ANNOTATED
from figures.pictures.confusion import row_shares, with_counts
from figures.report.behind import Behind, confusion_sets, images_key, standing_for
from figures.report.elements import Chart, Panel, Results, Table, each_network
from figures.report.intervals import interval_chart
from figures.report.traces import heatmap, hover
from figures.words import intervals, percentage
from kdprobe.results import Result


def evaluation_panels(results: Results) -> list[Panel]:
    """The intervals of all results of kind "evaluation" in one panel, all confusion matrices in another."""
    matrices = [_matrix(*one) for one in each_network(results)]
    note = "Each row shows how the images of a true class are shared among the predicted classes: the diagonal is the "
    note += "recall of a class."
    marks = [replace(_intervals(name, result), of=name) for name, result in results]
    tables = [mark.table for mark in marks if mark.table] if len(results) == 1 else []
    return [
        Panel("", "", marks, choose="Evaluation", tables=tables),
        Panel("Confusion", note, matrices, choose="Model"),
    ]


def _intervals(name: str, result: Result) -> Chart:
    facts, shares = result.facts, {"accuracy": result.arrays["accuracy"], "UAR": result.arrays["uar"]}
    probes = [": ".join(pair) for pair in zip(facts["names"], facts.get("probe", {}).get("words", ()), strict=False)]
    caption = "; ".join([f"On {facts['data']}", intervals(facts), *probes]) + "."
    return interval_chart(name, facts["names"], shares, caption)


def _matrix(name: str, result: Result, index: int) -> Chart:
    confusion, classes = result.arrays["confusion"][index], result.facts["classes"]
    accuracy, uar = (percentage(result.arrays[key][index, 0]) for key in ("accuracy", "uar"))
    model, counts = result.facts["names"][index], confusion.tolist()
    few = len(classes) <= ANNOTATED
    sets, places = confusion_sets(result.arrays["targets"], result.arrays["predictions"][index], classes)
    shares = row_shares(confusion)
    heat = heatmap(
        shares if few else np.where(confusion == 0, np.nan, shares),  # empty cells of large matrices take much room
        _pointed(confusion, classes, few=few),
        "share of the true class",
        texts=[[str(count) if count else "" for count in row] for row in counts] if few else None,
        lines=few,
    )
    return Chart(
        name,
        f"Confusion matrix of {model} over {len(classes)} classes; accuracy {accuracy}, UAR {uar}.",
        f"{int(confusion.sum())} images of {result.facts['data']}; accuracy {accuracy}, UAR {uar}.",
        [standing_for(heat | {"hoverongaps": False}, places)],
        {
            "height": int(np.clip(34 * len(classes), 240, 520)) + 130,
            "width": max(480, 44 * len(classes) + 230),
            "yaxis": {"autorange": "reversed"},
        },
        {"xaxis": "predicted class", "yaxis": "true class"},
        {"xaxis": classes, "yaxis": with_counts(classes, confusion)},
        Table(["true class", *classes], [[true, *map(str, row)] for true, row in zip(classes, counts, strict=True)]),
        behind=Behind(images_key(result), sets),
    )


def _pointed(confusion: NDArray[np.int64], classes: Sequence[str], *, few: bool) -> list[list[str]]:
    """What the pointer shows of each cell; nothing of the empty ones among many."""
    shares = np.nan_to_num(row_shares(confusion))
    return [
        [
            hover(
                f"true {true}",
                f"predicted {predicted}",
                f"{confusion[row, column]} images, {percentage(shares[row, column])} of the row",
            )
            if few or confusion[row, column]
            else ""
            for column, predicted in enumerate(classes)
        ]
        for row, true in enumerate(classes)
    ]
