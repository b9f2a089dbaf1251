"""The table of methods, and their means and seeds as dots."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from figures.checks import naming, require, require_length
from figures.pictures.comparison import QUANTITIES, image_counts
from figures.report.chart import MUTED, SERIES, Chart, Panel, Table, hover
from kdprobe.mean_interval import seeds_interval, worded_interval
from kdprobe.results import Result

_BELOW = 0.26  # of the distance of two methods: how far a seed's dot lies below the mean


def panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """A table and a row of charts for each comparison.

    Args:
        results: short file names and results of kind "comparison".
    """
    return [_panel(name, result, alone=len(results) == 1) for name, result in results]


def _panel(name: str, result: Result, *, alone: bool) -> Panel:
    with naming(name):
        _check(result)
    facts = result.facts
    shown = [key for key in QUANTITIES if not np.isnan(result.arrays[key]).all()]
    counts = sorted({int(count) for count in (~np.isnan(result.arrays[shown[0]])).sum(axis=1)}) if shown else [0]
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    note = f"On {facts['data']}, {seeds} seed{'s' if counts[-1] != 1 else ''} per method"
    many = counts[-1] > 1
    note += "; mean ± half-width of the 95 % t-interval over seeds." if many else "; one seed gives no interval."
    if differences := facts.get("budget_differences"):
        note += f" The {differences}."
    charts = [_chart(result, key, SERIES[index]) for index, key in enumerate(shown)]
    return Panel("" if alone else name, note, charts, table=_table(result, shown))


def _check(result: Result) -> None:
    require(result, dict.fromkeys(QUANTITIES, 2), ("methods", "seeds", "teacher", "teacher_accuracy", "data"))
    require_length(result, "methods", len(result.arrays["accuracy"]), "rows")
    require_length(result, "seeds", result.arrays["accuracy"].shape[1], "columns")


def _table(result: Result, shown: Sequence[str]) -> Table:
    facts = result.facts
    rows = [[method, *(_worded(result, key)[index] for key in shown)] for index, method in enumerate(facts["methods"])]
    if facts["teacher_accuracy"] is not None:
        known = {"accuracy": f"{100 * facts['teacher_accuracy']:.1f}"}
        rows.append([f"teacher: {facts['teacher']}", *(known.get(key, "-") for key in shown)])
    return Table(["method", *(QUANTITIES[key][0] for key in shown)], rows)


def _worded(result: Result, key: str) -> list[str]:
    _, factor, digits = QUANTITIES[key]
    return [
        worded_interval(row, scale=factor, digits=digits, n_images=n_images)
        for row, n_images in zip(result.arrays[key], image_counts(result, key), strict=True)
    ]


def _chart(result: Result, key: str, colour: Any) -> Chart:
    label, factor, digits = QUANTITIES[key]
    methods, values = result.facts["methods"], result.arrays[key]
    means = [seeds_interval(row, n_images=n) for row, n in zip(values, image_counts(result, key), strict=True)]
    told = _worded(result, key)
    present = [index for index, (mean, _) in enumerate(means) if not np.isnan(mean)]
    mean_trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [round(factor * means[index][0], 4) for index in present],
        "y": present,
        "error_x": {
            "type": "data",
            "array": [round(factor * float(np.nan_to_num(means[index][1])), 4) for index in present],
            "thickness": 2,
            "width": 5,
            "color": colour,
        },
        "marker": {"size": 10, "symbol": "diamond", "color": colour},
        "text": [hover(methods[index], f"{label}: {told[index]}") for index in present],
        "hovertemplate": "%{text}<extra></extra>",
    }
    layout: dict[str, Any] = {
        "height": 100 + 42 * len(methods),
        "yaxis": {"range": [len(methods) - 0.5, -0.5]},
    }
    caption = ""
    teacher = result.facts["teacher_accuracy"]
    if key == "accuracy" and teacher is not None:
        line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": 100 * teacher, "x1": 100 * teacher}
        layout["shapes"] = [{**line, "line": {"color": MUTED, "width": 1.5, "dash": "dash"}}]
        caption = f"Dashed: teacher {result.facts['teacher']}, {100 * teacher:.1f} %."
    alt = (
        f"{label} of {len(methods)} methods: " + ", ".join(f"{m} {t}" for m, t in zip(methods, told, strict=True)) + "."
    )
    seeds = result.facts["seeds"]
    table = Table(
        ["method", *(f"seed {seed}" for seed in seeds)],
        [
            [m, *("-" if np.isnan(v) else f"{factor * v:.{digits}f}" for v in row)]
            for m, row in zip(methods, values, strict=True)
        ],
    )
    traces = [_seeds(result, key, colour), mean_trace] if len(seeds) > 1 else [mean_trace]
    return Chart(label, alt, caption, traces, layout, {"xaxis": label}, {"yaxis": methods}, table)


def _seeds(result: Result, key: str, colour: Any) -> dict[str, Any]:
    label, factor, digits = QUANTITIES[key]
    methods, seeds = result.facts["methods"], result.facts["seeds"]
    places = np.argwhere(~np.isnan(result.arrays[key]))
    values = [factor * float(result.arrays[key][row, column]) for row, column in places]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [round(value, 4) for value in values],
        "y": [int(row) + _BELOW for row, _ in places],
        "marker": {"size": 7, "color": colour, "opacity": 0.5},
        "text": [
            hover(methods[row], f"seed {seeds[column]}: {label} {value:.{digits}f}")
            for (row, column), value in zip(places, values, strict=True)
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }
