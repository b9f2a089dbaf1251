"""Percentages with an interval each: as marks below each other, as a table and in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figures.report.elements import Chart, Table
from figures.report.traces import HOVER, SERIES, error_bars, hover, numbers
from figures.words import with_ends

_SPREAD = 0.36  # of the distance of two models: how far apart their quantities lie


def interval_chart(name: str, models: Sequence[str], shares: Mapping[str, NDArray[np.float64]], caption: str) -> Chart:
    """A chart with a mark and an interval per model and quantity.

    Args:
        name: the chart's name.
        models: m names.
        shares: what is measured -> [m, 3] (value, low, high; fractions).
        caption: how it was measured.
    """
    labels, percents = list(shares), [100 * values for values in shares.values()]
    offsets = np.linspace(-_SPREAD / 2, _SPREAD / 2, len(labels)) if len(labels) > 1 else [0.0]
    traces = [
        _marks(label, models, values, float(offset), SERIES[index])
        for index, (label, values, offset) in enumerate(zip(labels, percents, offsets, strict=True))
    ]
    return Chart(
        name,
        f"Shares in % with intervals. {interval_words(models, labels, percents)}.",
        caption,
        traces,
        {"height": 120 + (16 + 14 * len(labels)) * len(models), "yaxis": {"range": [len(models) - 0.5, -0.5]}},
        {"xaxis": "in %" if len(labels) > 1 else labels[0]},
        {"yaxis": list(models)},
        interval_table(["model", *(f"{label} in %" for label in labels)], models, percents),
    )


def interval_table(
    header: Sequence[str],
    rows: Sequence[str],
    percents: Sequence[NDArray[np.float64]],
    lower: Sequence[Sequence[bool]] | None = None,
) -> Table:
    """Percentages with their intervals as a table.

    Args:
        header: what the rows are, and a head for each column.
        rows: n names.
        percents: for each column [n, 3] (value, low, high).
        lower: for each column, which of its n values are lower bounds; none if not given.
    """
    return Table(header, [[row, *cells] for row, cells in zip(rows, _cells(rows, percents, lower), strict=True)])


def interval_words(
    rows: Sequence[str],
    labels: Sequence[str],
    percents: Sequence[NDArray[np.float64]],
    lower: Sequence[Sequence[bool]] | None = None,
) -> str:
    """The same numbers as a text, for those who do not see the chart."""
    return "; ".join(
        f"{row}: " + ", ".join(f"{label} {cell}" for label, cell in zip(labels, cells, strict=True))
        for row, cells in zip(rows, _cells(rows, percents, lower), strict=True)
    )


def _cells(
    rows: Sequence[str], percents: Sequence[NDArray[np.float64]], lower: Sequence[Sequence[bool]] | None
) -> list[list[str]]:
    """Texts row by row."""
    flags = lower or [[False] * len(rows)] * len(percents)
    return [
        [with_ends(values[index], lower_bound=bound[index]) for values, bound in zip(percents, flags, strict=True)]
        for index in range(len(rows))
    ]


def _marks(
    label: str, models: Sequence[str], percent: NDArray[np.float64], offset: float, colour: Any
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": hover(label),
        "showlegend": True,
        "x": numbers(percent[:, 0], 3),
        "y": [index + offset for index in range(len(models))],
        "error_x": error_bars(percent, colour, 2),
        "marker": {"size": 9, "symbol": "diamond", "color": colour},
        "text": [hover(model, f"{label} {with_ends(row)} %") for model, row in zip(models, percent, strict=True)],
        "hovertemplate": HOVER,
    }
