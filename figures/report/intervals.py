"""Shares with an interval each, models below each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figures.report.chart import SERIES, Chart, Table, hover, numbers

_SPREAD = 0.36  # of the distance of two models: how far apart their quantities lie


def interval_chart(name: str, models: Sequence[str], shares: Mapping[str, NDArray[np.float64]], caption: str) -> Chart:
    """A chart with a mark and an interval per model and quantity.

    Args:
        name: of the chart.
        models: m names.
        shares: what is measured -> [m, 3] (value, low, high; fractions).
        caption: how it was measured.
    """
    percent = {label: 100 * values for label, values in shares.items()}
    offsets = np.linspace(-_SPREAD / 2, _SPREAD / 2, len(percent)) if len(percent) > 1 else [0.0]
    traces = [
        _trace(label, models, values, float(offset), SERIES[index])
        for index, ((label, values), offset) in enumerate(zip(percent.items(), offsets, strict=True))
    ]
    rows = [[model, *(worded(values[index]) for values in percent.values())] for index, model in enumerate(models)]
    each = "; ".join(f"{row[0]}: " + ", ".join(map(" ".join, zip(percent, row[1:], strict=True))) for row in rows)
    return Chart(
        name,
        f"Shares in % with intervals. {each}.",
        caption,
        traces,
        {"height": 120 + (16 + 14 * len(percent)) * len(models), "yaxis": {"range": [len(models) - 0.5, -0.5]}},
        {"xaxis": "share of images in %" if len(percent) > 1 else next(iter(percent))},
        {"yaxis": list(models)},
        Table(["model", *(f"{label} in %" for label in percent)], rows),
    )


def worded(percent: NDArray[np.float64]) -> str:
    """Value and interval as they are printed."""
    return "{:.1f} [{:.1f}, {:.1f}]".format(*percent)


def _trace(
    label: str, models: Sequence[str], percent: NDArray[np.float64], offset: float, colour: Any
) -> dict[str, Any]:
    value, low, high = percent.T
    return {
        "type": "scatter",
        "mode": "markers",
        "name": hover(label),
        "showlegend": True,
        "x": numbers(value, 3),
        "y": [index + offset for index in range(len(models))],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": numbers(high - value, 3),
            "arrayminus": numbers(value - low, 3),
            "thickness": 2,
            "width": 4,
            "color": colour,
        },
        "marker": {"size": 9, "symbol": "diamond", "color": colour},
        "text": [hover(model, f"{label} {worded(row)} %") for model, row in zip(models, percent, strict=True)],
        "hovertemplate": "%{text}<extra></extra>",
    }
