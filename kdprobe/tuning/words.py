"""A comparison's result as a table for the terminal and for LaTeX."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kdprobe.formats.latex import as_latex
from kdprobe.formats.settings import worded_settings
from kdprobe.mean_interval import worded_interval
from kdprobe.results import Result
from kdprobe.runs.differences import worded_difference
from kdprobe.tuning.result import BASELINES


def summary_rows(result: Result) -> Iterator[dict[str, str]]:
    """A line for each method: its accuracies with intervals, how it differs, what was chosen, and the cost."""
    facts, arrays = result.facts, result.arrays
    others = [name for name in BASELINES if name in facts["methods"]]
    for row, name in enumerate(facts["methods"]):
        chosen = facts["chosen"][row]
        line = {"method": name, "held out %": f"{100 * arrays['held_out'][row, chosen]:.2f}"}
        if "published" in arrays:
            line["published %"] = _percent(arrays["published"][row], facts["n_images"])
        line["test %"] = _percent(arrays["accuracy"][row], facts["n_images"])
        line |= {f"minus {other}": _difference(facts["differences"], name, other) for other in others}
        if "published" in arrays:
            same = "" if chosen else "the same"
            line["minus published"] = same or _difference(facts["differences"], name, f"{name} as published")
        seconds, images = (
            float(np.nansum(arrays[f"trial_{key}"][row]) + np.nansum(arrays[key][row]))
            for key in ("seconds", "teacher_images")
        )
        setting = worded_settings(facts["trials"][row][chosen])
        yield line | {
            "device s": f"{seconds:,.0f}",
            "teacher images": f"{images:,.0f}",
            "chosen": f"{chosen}: {setting}",
        }


def worded_comparison(result: Result) -> str:
    """The rows as text, and below them what the numbers are."""
    found = list(summary_rows(result))
    heads = list(found[0])
    widths = [max(len(head), *(len(row[head]) for row in found)) for head in heads]
    lines = [dict(zip(heads, heads, strict=True)), *found]
    text = [
        "  ".join(f"{line[head]:<{width}}" for head, width in zip(heads, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([*text, note(result), *(f"note: {one['reason']}" for one in result.facts["remarks"])])


def note(result: Result) -> str:
    """How the numbers were found, in a few sentences."""
    facts = result.facts
    n_methods, n_trials = result.arrays["held_out"].shape
    n_tests = sum(one["other"] in facts["methods"] for one in facts["differences"])
    return (
        f"{n_methods} methods, {n_trials} trials of {facts['trial_epochs']} epochs each, chosen on "
        f"{facts['n_held_out']:,} held-out training images; then trained anew for {facts['epochs']} epochs with "
        f"{len(facts['seeds'])} seeds and tested once on {facts['n_images']:,} images ({facts['evaluated_on']}). "
        "Mean ± half-width of the 95 % t-interval over seeds. Differences in points, paired by seed, with Holm's p "
        f"over {n_tests} comparisons."
    )


def latex_table(result: Result) -> str:
    """The rows as a table for the package booktabs, with the note as its caption."""
    found = list(summary_rows(result))
    heads = list(found[0])
    columns = "l" + "r" * (len(heads) - 2) + "l"
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize",
            rf"\caption{{{as_latex(note(result))}}}",
            r"\label{tab:tuned-comparison}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _line(heads),
            r"\midrule",
            *(_line([row[head] for head in heads]) for row in found),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _line(texts: Sequence[str]) -> str:
    return " & ".join(as_latex(text).replace("±", r"$\pm$") for text in texts) + r" \\"


def _percent(shares: Any, n_images: int) -> str:
    return worded_interval(shares, scale=100, n_images=n_images)


def _difference(found: Sequence[dict[str, Any]], method: str, other: str) -> str:
    """A method minus another one, whichever way round it was computed; empty for a method and itself."""
    for entry in found:
        if (entry["method"], entry["other"]) == (method, other):
            return worded_difference(entry, scale=100)
        if (entry["method"], entry["other"]) == (other, method):
            turned = {key: None if entry[key] is None else -entry[key] for key in ("difference",)}
            low, high = (None if entry[key] is None else -entry[key] for key in ("high", "low"))
            return worded_difference({**entry, **turned, "low": low, "high": high}, scale=100)
    return ""
