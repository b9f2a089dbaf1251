"""One's own comparison as a table for a paper: LaTeX, Markdown or CSV.

The best mean is bold only where tests against all other methods say that it is higher, and methods that are
reconstructed here, in part or as a whole, have a dagger.
"""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from kdprobe.errors import ResultError
from kdprobe.formats.counts import counted
from kdprobe.formats.tables import as_latex, safe_csv
from kdprobe.mean_interval import (
    OVER_SEEDS,
    all_equal,
    difference_p_value,
    differs,
    holm,
    seeds_interval,
    worded_interval,
)
from kdprobe.results import Result
from kdprobe.runs.differences import worded_difference

#: methods of which neither the publication nor official code shows all layers and settings
RECONSTRUCTED = ("dropkd", "dpk", "cakd")
_UNKNOWN = "the paper's are not known"  # what the sources of their settings say, variants' too
#: kinds of results that become such a table
COMPARISONS = ("comparison", "tuned-comparison")

_QUANTITIES = {
    "accuracy": ("accuracy in %", 100.0, 1),
    "uar": ("UAR in %", 100.0, 1),
    "cka": ("last-stage CKA", 1.0, 2),
}
_TUNED = {"published": ("as published, accuracy in %", 100.0, 1), "accuracy": ("tuned, accuracy in %", 100.0, 1)}


@dataclass(frozen=True)
class _Cell:
    """What stands in a cell, its numbers for a spreadsheet, and whether it is bold."""

    text: str
    numbers: tuple[float | None, ...]
    best: bool = False


@dataclass(frozen=True)
class MethodTable:
    """Methods with their means and differences.

    Attributes:
        columns: head, names of its numbers, and a cell for each method.
        methods: names, and whether each is reconstructed.
        notes: what the numbers are, in sentences.
    """

    columns: Sequence[tuple[str, Sequence[str], Sequence[_Cell]]]
    methods: Sequence[tuple[str, bool]]
    notes: Sequence[str]

    def markdown(self) -> str:
        """The table as Markdown, its notes below."""
        lines = [["method", *(head for head, *_ in self.columns)], ["---", *["---:"] * len(self.columns)]]
        for row, (name, rebuilt) in enumerate(self.methods):
            cells = [cells[row] for *_, cells in self.columns]
            texts = [f"**{cell.text}**" if cell.best else cell.text for cell in cells]
            lines.append([name + "†" * rebuilt, *texts])
        body = [
            "| " + " | ".join(text.replace("|", r"\|").replace("<", "&lt;") for text in line) + " |" for line in lines
        ]
        return "\n".join([*body, "", " ".join(self.notes), ""])

    def latex(self) -> str:
        """The table for the package booktabs, its notes as the caption."""
        heads = ["method", *(as_latex(head) for head, *_ in self.columns)]
        body = []
        for row, (name, rebuilt) in enumerate(self.methods):
            cells = [cells[row] for *_, cells in self.columns]
            texts = [rf"\textbf{{{_tex(cell.text)}}}" if cell.best else _tex(cell.text) for cell in cells]
            body.append(" & ".join([as_latex(name) + r"$^\dagger$" * rebuilt, *texts]) + r" \\")
        caption = as_latex(" ".join(self.notes)).replace("±", r"$\pm$").replace("†", r"$^\dagger$")
        return "\n".join(
            [
                "% needs \\usepackage{booktabs}",
                *(r"\begin{table}", r"\centering\small", rf"\caption{{{caption}}}", r"\label{tab:methods}"),
                rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}",
                *(r"\toprule", " & ".join(heads) + r" \\", r"\midrule", *body, r"\bottomrule"),
                *(r"\end{tabular}", r"\end{table}", ""),
            ]
        )

    def csv(self) -> str:
        """The numbers, a row for each method."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["method", "reconstructed", *(name for _, names, _ in self.columns for name in names)])
        for row, (name, rebuilt) in enumerate(self.methods):
            numbers = [number for *_, cells in self.columns for number in cells[row].numbers]
            writer.writerow([name, rebuilt, *("" if number is None else number for number in numbers)])
        return safe_csv(text.getvalue())


def method_table(result: Result) -> MethodTable:
    """The table of a comparison.

    Args:
        result: of kind "comparison" or "tuned-comparison".

    Raises:
        ResultError: for another kind.
    """
    if result.kind not in COMPARISONS:
        raise ResultError(
            f"a {result.kind!r} result is no comparison of methods; give one of {' or '.join(COMPARISONS)}"
        )
    facts = result.facts
    columns = [*_means(result), *_differences(result)]
    groups = facts.get("groups") or [{"method": name.partition(",")[0].split(" ")[0]} for name in facts["methods"]]
    sources = facts.get("sources") or [""] * len(groups)
    methods = [
        (name, group["method"] in RECONSTRUCTED or source.endswith(_UNKNOWN))
        for name, group, source in zip(facts["methods"], groups, sources, strict=True)
    ]
    rows = [[cells[row] for *_, cells in columns] for row in range(len(methods))]
    best, rebuilt = any(cell.best for row in rows for cell in row), any(flag for _, flag in methods)
    return MethodTable(columns, methods, list(_notes(result, columns, best=best, rebuilt=rebuilt)))


def _means(result: Result) -> Iterator[tuple[str, Sequence[str], list[_Cell]]]:
    """The columns of means."""
    tuned = result.kind == "tuned-comparison"
    for key, (head, scale, digits) in (_TUNED if tuned else _QUANTITIES).items():
        values = result.arrays.get(key)
        if values is None or np.isnan(values).all():
            continue
        ends = [seeds_interval(row, n_images=n) for row, n in zip(values, _image_counts(result, key), strict=True)]
        best = _best(result, key, [mean for mean, *_ in ends]) if key != "published" else None
        cells = [
            _Cell(
                worded_interval(row, scale=scale, digits=digits, n_images=n),
                tuple(None if math.isnan(end) else scale * end for end in own),
                place == best,
            )
            for place, (row, n, own) in enumerate(zip(values, _image_counts(result, key), ends, strict=True))
        ]
        yield head, [f"{head}{part}" for part in ("", ", low", ", high")], cells


def _image_counts(result: Result, key: str) -> list[int | None]:
    counts = result.facts.get("n_images")
    n_methods = len(result.facts["methods"])
    if key == "cka" or counts is None:
        return [None] * n_methods
    return list(counts) if isinstance(counts, list) else [counts] * n_methods


def _best(result: Result, key: str, means: Sequence[float]) -> int | None:
    """The method of the highest mean, if it is higher than each other one by tests of all pairs."""
    known = [place for place, mean in enumerate(means) if not math.isnan(mean)]
    values, counts = result.arrays[key], _image_counts(result, key)
    pairs = list(combinations(known, 2))
    images = [None if None in (counts[one], counts[other]) else counts[one] for one, other in pairs]
    p_values = holm(
        np.array(
            [
                difference_p_value(values[one], values[other], n_images=n_images)
                for (one, other), n_images in zip(pairs, images, strict=True)
            ]
        )
    )
    top = max(known, key=lambda place: means[place])
    tested = [(pair, float(p_value)) for pair, p_value in zip(pairs, p_values, strict=True) if top in pair]
    higher = [
        differs(p_value) and np.nanmean(values[top] - values[sum(pair) - top]) > 0  # over the seeds that both have
        for pair, p_value in tested
    ]
    return top if higher and all(higher) else None


def _differences(result: Result) -> Iterator[tuple[str, Sequence[str], list[_Cell]]]:
    """The columns of differences in accuracy, one for each method that others are compared with."""
    methods = result.facts["methods"]
    entries = [one for one in result.facts.get("differences", ()) if one["quantity"] == "accuracy"]
    entries = [one for one in entries if one["other"] in methods and one["method"] in methods]
    for other in dict.fromkeys(entry["other"] for entry in entries):
        found = {entry["method"]: entry for entry in entries if entry["other"] == other}
        cells = [_difference(found.get(name)) for name in methods]
        head = f"minus {other}"
        yield head, [f"{head}{part}" for part in ("", ", low", ", high", ", p (Holm)")], cells


def _difference(entry: dict[str, Any] | None) -> _Cell:
    if entry is None or entry["difference"] is None:
        return _Cell("", (None,) * 4)
    numbers = [None if (end := entry[key]) is None else 100 * end for key in ("difference", "low", "high")]
    words = worded_difference(entry, scale=100, digits=1).partition(" (not tested")[0]
    return _Cell(words, (*numbers, entry["adjusted_p_value"]))


def _notes(result: Result, columns: Sequence[Any], *, best: bool, rebuilt: bool) -> Iterator[str]:
    facts = result.facts
    yield f"{OVER_SEEDS[:1].upper()}{OVER_SEEDS[1:]} ({counted(len(facts['seeds']), 'seed')}), on {facts['data']}."
    if any(head.startswith("minus ") for head, *_ in columns):
        yield (
            "Differences in points of accuracy, paired by seed, with the 95 % interval of each by itself; p is Holm's "
            "over all of them, and can therefore exceed .05 where an interval leaves out 0."
        )
    if best:
        yield (
            "Bold: the highest mean, where tests against all other methods find it higher (paired by seed, Holm's p "
            "over all pairs of methods, 5 %)."
        )
    if any(
        n is not None and all_equal(row)
        for key in ("accuracy", "uar", "published")
        if key in result.arrays
        for row, n in zip(result.arrays[key], _image_counts(result, key), strict=True)
    ):
        yield "Where all seeds have the same value, the interval is that of the images."
    if result.kind == "tuned-comparison":
        n_trials = result.arrays["held_out"].shape[1]
        shown = f"the best on {facts['n_held_out']:,} held-out training images"
        yield (
            f"Tuned: {counted(n_trials, 'trial')} of {counted(facts['trial_epochs'], 'epoch')} for each method, "
            f"{shown if n_trials > 1 else 'so that nothing is tuned: the published settings'}, trained anew for "
            f"{counted(facts['epochs'], 'epoch')}."
        )
    yield from (f"{one['reason'][:1].upper()}{one['reason'][1:]}." for one in facts.get("remarks", ()))
    if rebuilt:
        yield "†: reconstructed, as neither the publication nor official code shows all of it."
    if facts["teacher_accuracy"] is not None:
        yield f"Teacher {facts['teacher']}: {100 * facts['teacher_accuracy']:.1f} %."


def _line(texts: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(text.replace("|", r"\|").replace("<", "&lt;") for text in texts) + " |"


def _tex(text: str) -> str:
    """Numbers for LaTeX; a minus sign is as wide as a plus sign."""
    sign, rest = (f"${text[0]}$", text[1:]) if text.startswith(("+", "-")) else ("", text)
    return sign + as_latex(rest).replace("±", r"$\pm$")
