"""Methods tuned alike: what they reach, how they differ, what was chosen, and what it took."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from figures.report.elements import Chart, Panel, Results, Table, one_below_the_other
from figures.report.traces import HOVER, SERIES, dashed_line, error_bars, hover, numbers, whole_steps
from figures.words import number
from kdprobe.formats.counts import counted
from kdprobe.formats.settings import worded_values
from kdprobe.mean_interval import (
    OVER_SEEDS,
    differs,
    seeds_interval,
    worded,
    worded_interval,
    worded_p_value,
    worded_power,
)
from kdprobe.results import Result

_ACCURACY, _BEST = "accuracy on the test images in %", "best on held-out images in %"
_DIFFERENCE = ["methods", "difference in points", "p (Holm)", "at 5 %"]
_DASHES = ("solid", "dash", "dot", "dashdot")


def tuned_comparison_panels(results: Results) -> list[Panel]:
    """Tables and two charts for each result of kind "tuned-comparison"."""
    return one_below_the_other(results, _panel)


def _panel(heading: str, result: Result) -> Panel:
    facts = result.facts
    n_methods, n_trials = result.arrays["held_out"].shape
    tested = counted(facts["tested_before"], "final training")
    order = (
        f"The choice was written down at {facts['chosen_at']}, before any final training was tested."
        if not facts["tested_before"]
        else f"The last choice was made at {facts['chosen_at']}, after {tested} had been tested: see the remarks."
    )
    note = (
        f"{facts['student']} on {facts['data']}: each of {counted(n_methods, 'method')} had "
        f"{counted(n_trials, 'trial')} of {counted(facts['trial_epochs'], 'epoch')}, judged on "
        f"{facts['n_held_out']:,} held-out training images; the "
        f"{'best setting' if n_trials > 1 else 'published setting, as nothing is tuned,'} was trained anew for "
        f"{counted(facts['epochs'], 'epoch')}, with nothing held out, and judged once, on {facts['n_images']:,} images "
        f"({facts['evaluated_on']}). {order}"
    )
    tables = [_accuracies(result), *_differences(result), *_pooled(result), _chosen(result), _costs(result)]
    return Panel(heading, note, [_means(result), *([_best(result)] if n_trials > 1 else [])], tables=tables)


def _accuracies(result: Result) -> Table:
    facts, arrays = result.facts, result.arrays
    shown = {"tuned": arrays["accuracy"], **({"as published": arrays["published"]} if "published" in arrays else {})}
    rows = [
        [name, *(worded_interval(one[row], scale=100, n_images=facts["n_images"]) for one in shown.values())]
        for row, name in enumerate(facts["methods"])
    ]
    if facts["teacher_accuracy"] is not None:
        rows.append(
            [f"teacher: {facts['teacher']}", f"{100 * facts['teacher_accuracy']:.2f}", *[""] * (len(shown) - 1)]
        )
    note = f"{_ACCURACY[:1].upper()}{_ACCURACY[1:]}: {OVER_SEEDS}."
    return Table(["method", *shown], rows, note if len(facts["seeds"]) > 1 else "One seed gives no interval.")


def _differences(result: Result) -> list[Table]:
    needed = ("difference", "high", "adjusted_p_value")
    found = [entry for entry in result.facts["differences"] if all(entry[key] is not None for key in needed)]
    families = (
        ("How methods differ", [one for one in found if one["other"] in result.facts["methods"]]),
        ("What tuning changed", [one for one in found if one["other"] not in result.facts["methods"]]),
    )
    return [
        Table(
            _DIFFERENCE,
            [_difference(entry) for entry in entries],
            f"{what}: paired by seed, with the 95 % interval of each mean difference by itself; p is Holm's, over the "
            f"{counted(len(entries), 'difference')} of this table, and can therefore exceed .05 where an interval "
            "leaves out 0.",
        )
        for what, entries in families
        if entries
    ]


def _pooled(result: Result) -> list[Table]:
    """The same differences, tested with one variance for all methods."""
    if (pooled := result.facts.get("pooled")) is None:
        return []
    note = (
        "The same with more power, but only if seeds scatter all methods alike, which so few seeds cannot show; what "
        "the page says at its top rests on the paired tests above. One variance for all: a standard deviation of "
        f"{100 * pooled['deviation']:.2f} points ({counted(pooled['freedom'], 'degree')} of freedom). "
        f"{worded_power(pooled['detectable'], result.arrays['accuracy'])}."
    )
    return [Table(_DIFFERENCE, [_difference(entry) for entry in pooled["differences"]], note)]


def _difference(entry: dict[str, Any]) -> list[str]:
    shown = worded([entry[key] for key in ("difference", "low", "high")], scale=100, signed=True)
    told = "differ" if differs(entry["adjusted_p_value"]) else "cannot be told apart"
    return [f"{entry['method']} - {entry['other']}", shown, worded_p_value(entry["adjusted_p_value"]), told]


def _chosen(result: Result) -> Table:
    """A line for each option of each method, as chosen and as published."""
    facts, rows = result.facts, []
    for name, trials, chosen, shares in zip(
        facts["methods"], facts["trials"], result.arrays["chosen"], result.arrays["held_out"], strict=True
    ):
        rows.append([name, "held-out accuracy in %", *(number(100 * shares[place], 2) for place in (chosen, 0))])
        tuned, published = (worded_values(trials[place]) for place in (chosen, 0))
        rows += [["", key, tuned.get(key, "-"), published.get(key, "-")] for key in published | tuned]
    note = "What was chosen, beside the published setting, which is trial 0."
    return Table(["method", "", "chosen", "published"], rows, note)


def _costs(result: Result) -> Table:
    facts, arrays = result.facts, result.arrays
    keys = ("trial_seconds", "seconds", "trial_teacher_images", "teacher_images")
    rows = [
        [name, *(f"{float(np.nansum(arrays[key][row])):,.0f}" for key in keys)]
        for row, name in enumerate(facts["methods"])
    ]
    heads = ["method", "trials: device s", "final: device s", "trials: teacher images", "final: teacher images"]
    note = (
        "What it took: seconds of training as they passed, beside whatever else the machine did and with a teacher's "
        "store as full as it was then, so that they do not rank methods; and images whose outputs of the teacher were "
        "needed, computed or read from a store. As chosen, without what was trained as published."
    )
    return Table(heads, rows, note)


def _means(result: Result) -> Chart:
    facts = result.facts
    methods: Sequence[str] = facts["methods"]
    shown = [("tuned", result.arrays["accuracy"], "diamond", 0.0)]
    if "published" in result.arrays:
        shown.append(("as published", result.arrays["published"], "circle-open", 0.28))
    traces = []
    for index, (label, values, symbol, below) in enumerate(shown):
        ends = 100 * np.array([seeds_interval(row, n_images=facts["n_images"]) for row in values])
        words = [worded_interval(row, scale=100, n_images=facts["n_images"]) for row in values]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": label,
                "showlegend": len(shown) > 1,
                "x": numbers(ends[:, 0], 4),
                "y": [row + below for row in range(len(methods))],
                "error_x": error_bars(ends, SERIES[index], 2),
                "marker": {"size": 10, "symbol": symbol, "color": SERIES[index]},
                "text": [hover(name, f"{label}: {text}") for name, text in zip(methods, words, strict=True)],
                "hovertemplate": HOVER,
            }
        )
    layout: dict[str, Any] = {"height": 110 + 44 * len(methods), "yaxis": {"range": [len(methods) - 0.4, -0.5]}}
    caption = ""
    if (teacher := facts["teacher_accuracy"]) is not None:
        layout["shapes"] = [dashed_line(yref="paper", y0=0, y1=1, x0=100 * teacher, x1=100 * teacher)]
        caption = f"Dashed: teacher {facts['teacher']}, {100 * teacher:.1f} %."
    each = "; ".join(
        f"{name} {worded_interval(row, scale=100, n_images=facts['n_images'])}"
        for name, row in zip(methods, shown[0][1], strict=True)
    )
    titles, ticks = {"xaxis": _ACCURACY}, {"yaxis": list(methods)}
    return Chart(
        _ACCURACY,
        f"{_ACCURACY} of {counted(len(methods), 'method')}: {each}.",
        caption,
        traces,
        layout,
        titles,
        ticks,
        _by_seed(result, {label: values for label, values, *_ in shown}),
    )


def _by_seed(result: Result, shown: Mapping[str, Any]) -> Table:
    """The mean of each method in each setting, and what its seeds reach."""
    facts = result.facts
    rows = [
        [
            *(name, label, worded_interval(values[row], scale=100, n_images=facts["n_images"])),
            *(number(100 * value, 2) for value in values[row]),
        ]
        for label, values in shown.items()
        for row, name in enumerate(facts["methods"])
    ]
    return Table(["method", "setting", "mean", *(f"seed {seed}" for seed in facts["seeds"])], rows)


def _best(result: Result) -> Chart:
    methods, expected = result.facts["methods"], 100 * result.arrays["expected"]
    trials = list(range(1, expected.shape[1] + 1))
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": hover(name),
            "showlegend": True,
            "x": trials,
            "y": numbers(row[:, 0], 3),
            "error_y": error_bars(row, SERIES[index % len(SERIES)], 1),
            "line": {
                "color": SERIES[index % len(SERIES)],
                "width": 2,
                "dash": _DASHES[index // len(SERIES) % len(_DASHES)],
            },
            "marker": {"size": 5},
            "text": [hover(name, f"best of {n}: {_range(ends)}") for n, ends in zip(trials, row, strict=True)],
            "hovertemplate": HOVER,
        }
        for index, (name, row) in enumerate(zip(methods, expected, strict=True))
    ]
    rows = [[str(n), *(_range(ends) for ends in expected[:, n - 1])] for n in trials]
    caption = (
        "The best of n trials, on average over all ways of taking n of them; the bar is the middle 95 % of these. It "
        "shows how much hangs on which settings were tried, and says nothing of other seeds or images."
    )
    last = "; ".join(f"{name} {row[-1, 0]:.1f}" for name, row in zip(methods, expected, strict=True))
    alt = f"{_BEST} against the number of trials, up to {trials[-1]}: {last}."
    height = max(300 + 18 * -(-len(methods) // 3), 42 * -(-len(methods) // 2))  # half of it for the names, if need be
    layout = {"height": height, "xaxis": whole_steps(trials)}
    table = Table(["trials", *methods], rows)
    return Chart(_BEST, alt, caption, traces, layout, {"xaxis": "trials", "yaxis": _BEST}, {}, table)


def _range(ends: Any) -> str:
    return f"{ends[0]:.2f} [{ends[1]:.2f}, {ends[2]:.2f}]"
