"""The table of methods, and their means and seeds as dots."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from figures.pictures.comparison import QUANTITIES, image_counts
from figures.report.elements import Chart, Panel, Results, Table, one_below_the_other
from figures.report.traces import HOVER, SERIES, Themed, dashed_line, error_bars, hover, numbers
from figures.words import number
from kdprobe.mean_interval import OVER_SEEDS, differs, seeds_interval, worded, worded_interval, worded_p_value
from kdprobe.results import Result

_BELOW = 0.26  # of the distance of two methods: how far a seed's dot lies below the mean


def comparison_panels(results: Results) -> list[Panel]:
    """A table and a row of charts for each result of kind "comparison"."""
    return one_below_the_other(results, _panel)


def _panel(heading: str, result: Result) -> Panel:
    facts = result.facts
    shown = [key for key in QUANTITIES if not np.isnan(result.arrays[key]).all()]
    counts = sorted({int(count) for count in (~np.isnan(result.arrays[shown[0]])).sum(axis=1)})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    note = f"On {facts['data']}, {seeds} seed{'s' if counts[-1] != 1 else ''} per method"
    many = counts[-1] > 1
    note += f"; {OVER_SEEDS}." if many else "; one seed gives no interval."
    if differences := facts.get("budget_differences"):
        note += f" The {differences}."
    charts = [_chart(result, key, SERIES[index]) for index, key in enumerate(shown)]
    return Panel(heading, note, charts, tables=[_table(result, shown), *_differences(result)])


def _table(result: Result, shown: Sequence[str]) -> Table:
    facts, columns = result.facts, [_worded(result, key) for key in shown]
    rows = [[method, *texts] for method, *texts in zip(facts["methods"], *columns, strict=True)]
    if facts["teacher_accuracy"] is not None:
        known = {"accuracy": f"{100 * facts['teacher_accuracy']:.1f}"}
        rows.append([f"teacher: {facts['teacher']}", *(known.get(key, "-") for key in shown)])
    return Table(["method", *(QUANTITIES[key][0] for key in shown)], rows)


def _differences(result: Result) -> list[Table]:
    """How methods differ, as far as any two have seeds in common; overlap of their intervals is no test of that."""
    needed = ("difference", "high", "adjusted_p_value")
    found = [entry for entry in result.facts.get("differences", ()) if all(entry[key] is not None for key in needed)]
    if not found:
        return []
    note = (
        "How methods differ: over the seeds that both have, paired by seed, with the 95 % interval of the mean "
        "difference. p is Holm's, over all differences of the same quantity; whether the intervals above overlap is no "
        "test of a difference."
    )
    rows = []
    for entry in found:
        label, factor, digits = QUANTITIES[entry["quantity"]]
        ends = [entry[key] for key in ("difference", "low", "high")]
        shown = worded(ends, scale=factor, digits=digits, signed=True)
        p_value = worded_p_value(entry["adjusted_p_value"])
        told = "differ" if differs(entry["adjusted_p_value"]) else "cannot be told apart"
        rows.append([label, f"{entry['method']} - {entry['other']}", shown, p_value, told])
    return [Table(["", "methods", "difference", "p (Holm)", "at 5 %"], rows, note)]


def _worded(result: Result, key: str) -> list[str]:
    """Mean and interval of each method."""
    _, factor, digits = QUANTITIES[key]
    return [
        worded_interval(row, scale=factor, digits=digits, n_images=n_images)
        for row, n_images in zip(result.arrays[key], image_counts(result, key), strict=True)
    ]


def _chart(result: Result, key: str, colour: Themed) -> Chart:
    label, factor, digits = QUANTITIES[key]
    facts, values, words = result.facts, result.arrays[key], _worded(result, key)
    methods, seeds, teacher = facts["methods"], facts["seeds"], facts["teacher_accuracy"]
    layout: dict[str, Any] = {"height": 100 + 42 * len(methods), "yaxis": {"range": [len(methods) - 0.5, -0.5]}}
    caption = ""
    if key == "accuracy" and teacher is not None:
        layout["shapes"] = [dashed_line(yref="paper", y0=0, y1=1, x0=100 * teacher, x1=100 * teacher)]
        caption = f"Dashed: teacher {facts['teacher']}, {100 * teacher:.1f} %."
    each = "; ".join(f"{method} {text}" for method, text in zip(methods, words, strict=True))
    rows = [
        [method, text, *(number(factor * value, digits) for value in row)]
        for method, text, row in zip(methods, words, values, strict=True)
    ]
    return Chart(
        label,
        f"{label} of {len(methods)} methods: {each}.",
        caption,
        [*([_seeds(result, key, colour)] if len(seeds) > 1 else []), _means(result, key, colour)],
        layout,
        {"xaxis": label},
        {"yaxis": methods},
        Table(["method", "mean", *(f"seed {seed}" for seed in seeds)], rows),
    )


def _means(result: Result, key: str, colour: Themed) -> dict[str, Any]:
    label, factor, _ = QUANTITIES[key]
    methods, words = result.facts["methods"], _worded(result, key)
    rows = zip(result.arrays[key], image_counts(result, key), strict=True)
    means = factor * np.array([seeds_interval(row, n_images=n_images) for row, n_images in rows])
    present = np.flatnonzero(~np.isnan(means[:, 0])).tolist()
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(means[present, 0], 4),
        "y": present,
        "error_x": error_bars(means[present], colour, 2),
        "marker": {"size": 10, "symbol": "diamond", "color": colour},
        "text": [hover(methods[index], f"{label}: {words[index]}") for index in present],
        "hovertemplate": HOVER,
    }


def _seeds(result: Result, key: str, colour: Themed) -> dict[str, Any]:
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
        "hovertemplate": HOVER,
    }
