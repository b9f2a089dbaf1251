"""How often each network is right when it is so confident."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from figures.checks import naming, require, require_length
from figures.report.chart import MUTED, SERIES, Chart, Panel, Table, hover, numbers
from kdprobe.results import Result


def panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """One panel for all models.

    Args:
        results: short file names and results of kind "reliability".
    """
    charts = []
    for name, result in results:
        with naming(name):
            require(result, {"edges": 1, "accuracy": 2, "count": 2, "ece": 1}, ("names", "data"))
            names = require_length(result, "names", len(result.arrays["accuracy"]), "models")
        charts += [_chart(f"{model} ({name})", result, index) for index, model in enumerate(names)]
    return [Panel("", "A calibrated network follows the dashed line.", charts, choose="Model")]


def _chart(name: str, result: Result, index: int) -> Chart:
    edges, accuracy = 100 * result.arrays["edges"], 100 * result.arrays["accuracy"][index]
    count, ece = result.arrays["count"][index], 100 * float(result.arrays["ece"][index])
    bins = [f"{low:g} to {high:g} %" for low, high in pairwise(edges.tolist())]
    rows = [
        [which, "-" if np.isnan(share) else f"{share:.1f}", str(images)]
        for which, share, images in zip(bins, accuracy, count.tolist(), strict=True)
    ]
    bars = {
        "type": "bar",
        "x": numbers((edges[:-1] + edges[1:]) / 2),
        "y": numbers(accuracy, 3),
        "width": numbers(0.94 * np.diff(edges)),
        "marker": {"color": SERIES[0]},
        "text": [hover(f"confidence {row[0]}", f"accuracy {row[1]} %", f"{row[2]} images") for row in rows],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
    }
    diagonal = {"type": "line", "x0": 0, "y0": 0, "x1": 100, "y1": 100}
    layout = {
        "height": 380,
        "width": 520,
        "xaxis": {"range": [0, 100], "showgrid": False},
        "yaxis": {"range": [0, 100]},
        "shapes": [{**diagonal, "line": {"color": MUTED, "width": 1.5, "dash": "dash"}}],
    }
    return Chart(
        name,
        f"Reliability of {name}: accuracy by confidence; expected calibration error {ece:.1f} %.",
        f"On {result.facts['data']}; expected calibration error {ece:.1f} %.",
        [bars],
        layout,
        {"xaxis": "confidence in %", "yaxis": "accuracy in %"},
        {},
        Table(["confidence", "accuracy in %", "images"], rows),
    )
