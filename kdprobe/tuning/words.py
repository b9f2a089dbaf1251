"""A comparison's result as a table for the terminal and for LaTeX."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kdprobe.formats.counts import counted
from kdprobe.formats.settings import worded_settings
from kdprobe.formats.tables import as_latex
from kdprobe.mean_interval import OVER_SEEDS, worded_interval, worded_power
from kdprobe.results import Result
from kdprobe.runs.differences import worded_difference
from kdprobe.tuning.result import BASELINES


def summary_rows(result: Result) -> Iterator[dict[str, str]]:
    """A line for each method: its accuracies with intervals, how it differs, and the cost."""
    facts, arrays = result.facts, result.arrays
    others = [name for name in BASELINES if name in facts["methods"]]
    for row, name in enumerate(facts["methods"]):
        chosen = int(arrays["chosen"][row])
        line = {"method": name, "held out %": f"{100 * arrays['held_out'][row, chosen]:.2f}"}
        if "published" in arrays:
            line["published %"] = _percent(arrays["published"][row], facts["n_images"])
        line["tuned %"] = _percent(arrays["accuracy"][row], facts["n_images"])
        line |= {f"minus {other}": _difference(facts["differences"], name, other) for other in others}
        if "published" in arrays:
            same = "" if chosen else "the same"
            line["minus published"] = same or _difference(facts["differences"], name, f"{name} as published")
        seconds, images = (
            float(np.nansum(arrays[f"trial_{key}"][row]) + np.nansum(arrays[key][row]))
            for key in ("seconds", "teacher_images")
        )
        yield line | {"device s": f"{seconds:,.0f}", "teacher images": f"{images:,.0f}"}


def chosen_rows(result: Result) -> Iterator[dict[str, str]]:
    """A line for each method: which trial was chosen, and its setting."""
    facts = result.facts
    for name, trials, chosen in zip(facts["methods"], facts["trials"], result.arrays["chosen"].tolist(), strict=True):
        which = f"trial {chosen}" if chosen else "published"
        yield {"method": name, "chosen": which, "setting": worded_settings(trials[chosen])}


def pooled_rows(result: Result) -> Iterator[dict[str, str]]:
    """A line for each method: how it differs, if seeds scatter all methods alike; no lines where that has no test."""
    methods = result.facts["methods"]
    others = [name for name in BASELINES if name in methods]
    if (pooled := result.facts.get("pooled")) is not None:
        for name in methods:
            differences = {f"minus {other}": _difference(pooled["differences"], name, other) for other in others}
            yield {"method": name, **differences}


def pooled_note(result: Result) -> str:
    """What these tests assume, and which difference they would have found; empty where there are none."""
    if (pooled := result.facts.get("pooled")) is None:
        return ""
    return (
        "The differences with one variance for all methods, right if seeds scatter all of them alike: a standard "
        f"deviation of {100 * pooled['deviation']:.2f} points ({counted(pooled['freedom'], 'degree')} of freedom). "
        f"{worded_power(pooled['detectable'], result.arrays['accuracy'])} by the strictest of "
        f"{counted(len(pooled['differences']), 'test')}."
    )


def worded_comparison(result: Result) -> str:
    """Both as text, and below them what the numbers are."""
    remarks = [f"note: {one['reason']}" for one in result.facts["remarks"]]
    told = [_columns(summary_rows(result)), "", _columns(chosen_rows(result)), "", note(result), *remarks]
    if pooled := pooled_note(result):
        told += ["", _columns(pooled_rows(result)), "", pooled]
    return "\n".join(told)


def note(result: Result) -> str:
    """How the numbers were found, in a few sentences."""
    facts = result.facts
    n_methods, n_trials = result.arrays["held_out"].shape
    n_tests = sum(one["other"] in facts["methods"] for one in facts["differences"])
    n_seeds = len(facts["seeds"])
    over_seeds = (
        f"{OVER_SEEDS[:1].upper()}{OVER_SEEDS[1:]}. Differences in points, paired by seed, with the 95 % interval of "
        f"each by itself and Holm's p over {counted(n_tests, 'comparison')} of methods."
    )
    settings = (
        f"chosen on {facts['n_held_out']:,} held-out training images"
        if n_trials > 1
        else "so that nothing is tuned: the published settings"
    )
    return (
        f"{counted(n_methods, 'method')}, {counted(n_trials, 'trial')} of {counted(facts['trial_epochs'], 'epoch')} "
        f"for each, {settings}; then trained anew for "
        f"{counted(facts['epochs'], 'epoch')} with {counted(n_seeds, 'seed')} and tested once on {facts['n_images']:,} "
        f"images ({facts['evaluated_on']}). {over_seeds if n_seeds > 1 else 'One seed gives no interval.'}"
    )


def latex_table(result: Result) -> str:
    """Both as tables for the package booktabs, one above the other, with the note as their caption."""
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\scriptsize",
            rf"\caption{{{_tex(note(result))}}}",
            r"\label{tab:tuned-comparison}",
            *_tabular(summary_rows(result), "l" + "r" * 20),
            r"\par\medskip",
            *_tabular(chosen_rows(result), "lll"),
            *_pooled_tabular(result),
            r"\end{table}",
            "",
        ]
    )


def _pooled_tabular(result: Result) -> list[str]:
    if not (pooled := pooled_note(result)):
        return []
    return [r"\par\medskip", *_tabular(pooled_rows(result), "lrr"), r"\par\smallskip", _tex(pooled)]


def _columns(rows: Iterator[dict[str, str]]) -> str:
    found = list(rows)
    lines = [dict(zip(found[0], found[0], strict=True)), *found]
    widths = {head: max(len(line[head]) for line in lines) for head in found[0]}
    return "\n".join("  ".join(f"{line[head]:<{width}}" for head, width in widths.items()).rstrip() for line in lines)


def _tabular(rows: Iterator[dict[str, str]], columns: str) -> list[str]:
    found = list(rows)
    heads = list(found[0])
    body = [" & ".join(_tex(text) for text in texts) + r" \\" for texts in (heads, *(row.values() for row in found))]
    begin = rf"\begin{{tabular}}{{{columns[: len(heads)]}}}"
    return [begin, r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}"]


def _tex(text: str) -> str:
    """Text for LaTeX; a minus sign is as wide as a plus sign."""
    sign, rest = (f"${text[0]}$", text[1:]) if text.startswith(("+", "-")) else ("", text)
    return sign + as_latex(rest).replace("±", r"$\pm$")


def _percent(shares: Any, n_images: int) -> str:
    return worded_interval(shares, scale=100, n_images=n_images)


def _difference(found: Sequence[dict[str, Any]], method: str, other: str) -> str:
    """A method minus another one, whichever way round it was computed; empty for a method and itself."""
    for entry in found:
        if {entry["method"], entry["other"]} == {method, other}:
            turned = entry if entry["method"] == method else _turned(entry)
            words = worded_difference(turned, scale=100)
            return words.partition(" (not tested")[0]  # the note says why
    return ""


def _turned(entry: dict[str, Any]) -> dict[str, Any]:
    """The same difference with the other sign."""
    difference, low, high = (None if (end := entry[key]) is None else -end for key in ("difference", "high", "low"))
    return {**entry, "difference": difference, "low": low, "high": high}
