"""How often each network is right at each level of confidence."""

from itertools import pairwise
from typing import Any

import numpy as np

from figures.report.behind import Behind, ImageSet, images_key, numbered, standing_for
from figures.report.elements import Chart, Panel, Results, Table, each_network
from figures.report.traces import HOVER, SERIES, dashed_line, hover, numbers
from figures.words import number
from kdprobe.results import Result


def reliability_panels(results: Results) -> list[Panel]:
    """One panel for all models of all results of kind "reliability"."""
    charts = [_chart(*one) for one in each_network(results)]
    return [Panel("", "A calibrated network follows the dashed line.", charts, choose="Model")]


def _chart(name: str, result: Result, index: int) -> Chart:
    edges, accuracy = 100 * result.arrays["edges"], 100 * result.arrays["accuracy"][index]
    count, ece = result.arrays["count"][index], 100 * float(result.arrays["ece"][index])
    bins = [f"{low:.3g} to {high:.3g} %" for low, high in pairwise(edges.tolist())]
    rows = [
        [*row] for row in zip(bins, (number(share, 1) for share in accuracy), map(str, count.tolist()), strict=True)
    ]
    behind, places = _behind(result, index, bins)
    bars: dict[str, Any] = {
        "type": "bar",
        "x": numbers((edges[:-1] + edges[1:]) / 2),
        "y": numbers(accuracy, 3),
        "width": numbers(0.94 * np.diff(edges)),
        "marker": {"color": SERIES[0]},
        "text": [hover(f"confidence {row[0]}", f"accuracy {row[1]} %", f"{row[2]} images") for row in rows],
        "textposition": "none",
        "hovertemplate": HOVER,
    }
    layout = {
        "height": 380,
        "width": 520,
        "xaxis": {"range": [0, 100], "showgrid": False},
        "yaxis": {"range": [0, 100]},
        "shapes": [dashed_line(x0=0, y0=0, x1=100, y1=100)],
    }
    return Chart(
        name,
        f"Reliability of {name}: accuracy by confidence; expected calibration error {ece:.1f} %.",
        f"On {result.facts['data']}; expected calibration error {ece:.1f} %.",
        [bars if behind is None else standing_for(bars, places)],
        layout,
        {"xaxis": "confidence in %", "yaxis": "accuracy in %"},
        {},
        Table(["confidence", "accuracy in %", "images"], rows),
        behind=behind,
    )


def _behind(result: Result, index: int, bins: list[str]) -> tuple[Behind | None, list[int]]:
    """The images in each bin; earlier results do not say which they are."""
    if "bins" not in result.arrays:
        return None, []
    own = result.arrays["bins"][index]
    label = "confidence {}".format
    sets, places = numbered([[ImageSet("bins", label(name), np.flatnonzero(own == n)) for n, name in enumerate(bins)]])
    return Behind(images_key(result), sets), places[0]
