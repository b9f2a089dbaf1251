"""Decompositions of pairs of layers as a saved result: numbers, table, summary, and several students side by side."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from analyses.evaluation.accuracy import worded_share
from analyses.knowledge.pair import FRACTIONS, NETWORKS, SHARES, Pair
from kdprobe.errors import AnalysisError
from kdprobe.provenance import provenance
from kdprobe.results import Result


def knowledge_result(pairs: Sequence[Pair], facts: dict[str, Any], origin: dict[str, Any] | None = None) -> Result:
    """Gather pairs of layers.

    Args:
        pairs: from `measure_pair`, all with the same quantities.
        facts: names of `teacher` and `student`, `method`, `data`, `confidence` and more.
        origin: for the provenance.

    Returns:
        a result of kind "knowledge": `teacher_general`, `teacher_specific`, `student_general`, `student_specific`
        [pairs, 3] (share of variance, low, high); `teacher_by_fold`, `student_by_fold` [pairs, folds]; `dimension`
        [pairs], NaN where the method has none; `cka` [pairs, 3, 3] of teacher and student (whole, general,
        specific; value, low, high); `teacher_general_by_sample` and so on [pairs, samples], the shares of each sample
        as `analyses.knowledge.decomposition.Side.by_sample` has them; with labels `teacher_probe`, `student_probe`
        [pairs, 3, 3]. By `adjusted` also, for each network, `teacher_rank` [pairs] of its features, `teacher_used`
        [pairs], the leading components that explain the student, and `teacher_held` [pairs], the share of variance
        along these; and the facts `teacher_lower_bound` and `teacher_sample_limited`: whether the teacher's general
        share is a lower bound, and whether the samples were too few for all components of the student's features.
    """
    arrays = {name: np.stack([pair.numbers[name] for pair in pairs]) for name in pairs[0].numbers}
    layers = {
        "teacher_layers": [pair.teacher_layer for pair in pairs],
        "student_layers": [pair.student_layer for pair in pairs],
    }
    undefined = [{"pair": index, **cell} for index, pair in enumerate(pairs) for cell in pair.undefined]
    flags = {name: [pair.flags[name] for pair in pairs] for name in pairs[0].flags}
    facts = facts | layers | flags | {"parts": SHARES, "undefined": undefined}
    return Result("knowledge", arrays, facts, provenance(**origin or {}))


def knowledge_table(result: Result) -> pd.DataFrame:
    """One row per number: teacher_layer, student_layer, network, part, quantity, value, low, high, note.

    The note says why a number or its interval is missing, or is a lower bound; it is empty for the others.
    """
    rows = [row for index in range(len(result.facts["teacher_layers"])) for row in _rows(result, index)]
    for cell in result.facts.get("left_out", []):
        rows.append({**cell, "network": "both", "part": "whole", "quantity": "left out", "note": cell["reason"]})
        del rows[-1]["reason"]
    return pd.DataFrame(rows).fillna({"note": ""})


def _rows(result: Result, index: int) -> Iterator[dict[str, Any]]:
    """Rows of one pair of layers."""
    arrays, layers = result.arrays, _layers(result)[index]
    notes = {cell["quantity"]: cell["reason"] for cell in result.facts["undefined"] if cell["pair"] == index}

    def row(network: str, part: str, quantity: str, ends: Any, noted: str = "") -> dict[str, Any]:
        names = {**layers, "network": network, "part": part, "quantity": quantity}
        return {**names, **_ends(ends), "note": notes.get(noted, "")}

    for name in FRACTIONS:
        network, part = name.split("_")
        yield row(network, part, "share", arrays[name][index], f"{network} {part} share")
    yield row("both", "general", "dimension", arrays["dimension"][index], "dimension")
    for name, quantity in {"rank": "rank", "used": "components used", "held": "variance of these"}.items():
        for network in NETWORKS if f"teacher_{name}" in arrays else ():
            yield row(network, "whole", quantity, arrays[f"{network}_{name}"][index])
    for network, freedom in zip(NETWORKS, _freedom(result), strict=True) if "teacher_used" in arrays else ():
        yield row(network, "general", "degrees of freedom", freedom[index])
    for key, network in (("cka", "both"), ("teacher_probe", "teacher"), ("student_probe", "student")):
        quantity = "cka" if key == "cka" else "probe accuracy"
        for part, ends in zip(SHARES, arrays[key][index] if key in arrays else (), strict=False):
            yield row(network, part, quantity, ends, f"{key.replace('_', ' ')}, {part}")
    for network in NETWORKS if "rates" in arrays else ():
        for rate, ends in zip(arrays["rates"], arrays[f"{network}_by_rate"][index], strict=True):
            yield row(network, "general", f"share at rate {rate:g}", ends)


def knowledge_summary(result: Result) -> str:
    """One line per pair of layers, as a table to be read."""
    arrays, facts = result.arrays, result.facts
    table: dict[str, Any] = {
        "teacher layer": facts["teacher_layers"],
        "student layer": facts["student_layers"],
        **{f"{who} general": [_worded(*share) for share in _bounded(result, who)] for who in NETWORKS},
    }
    if "teacher_used" in arrays:
        table["d"] = _both(arrays["teacher_used"], arrays["student_used"])
        table["n - d - 1"] = _both(*_freedom(result))
    if not np.isnan(arrays["dimension"]).all():
        table["dimension"] = arrays["dimension"].astype(int)
    table |= {f"CKA {name}": arrays["cka"][:, index, 0].round(3) for index, name in enumerate(("R/R", "G/G", "S/S"))}
    held = f"{facts['reduce']} features of " if "reduce" in facts else ""
    samples = f"{held}{facts['n_samples']} samples of {facts['data']}"
    if facts.get("n_independent", facts["n_samples"]) < facts["n_samples"]:
        samples += f", of which {facts['n_independent']} are independent"
    shown = ("dimension", *(f"cka, {part}" for part in SHARES), *(f"{who} general share" for who in NETWORKS))
    notes = [
        f"\n{table['teacher layer'][cell['pair']]} and {table['student layer'][cell['pair']]}, {cell['quantity']}: "
        f"{cell['reason']}"
        for cell in facts["undefined"]
        if cell["quantity"] in shown and not (cell["quantity"] == "dimension" and "dimension" not in table)
    ]
    notes += [
        f"\n{cell['teacher_layer']} and {cell['student_layer']} are left out: {cell['reason']}"
        for cell in facts.get("left_out", [])
    ]
    notes += [f"\n{about}" for about in (about_split(facts),) if about]
    head = f"{facts['teacher']} and {facts['student']} by {facts['method']}, {samples}"
    return head + "\n" + pd.DataFrame(table).to_string(index=False) + "".join(notes)


def about_split(facts: dict[str, Any]) -> str:
    """What the general parts of single samples have to do with the shares; empty where they are the same."""
    if facts["method"] != "adjusted":
        return ""
    return (
        "Shares are those of the population. The general part of each sample is predicted out of fold from these "
        "samples, and its variance is not the share."
    )


def compare(names: Sequence[str], results: Sequence[Result]) -> Result:
    """Several students' decompositions at equal layers.

    Args:
        names: of the students, for the figure.
        results: of kind "knowledge", by one method, of the same teacher, layers and data.

    Returns:
        a result of kind "knowledge-comparison": `teacher_general` and `student_general` [students, pairs, 3], and by
        `adjusted` which of them are lower bounds.

    Raises:
        AnalysisError: if the results are of other layers, methods or data.
    """
    for key in ("teacher", "teacher_layers", "student_layers", "method", "data"):
        found = [result.facts[key] for result in results]
        for name, other in zip(names, found, strict=True):
            if other != found[0]:
                what = key.replace("_", " ")
                raise AnalysisError(
                    f"{names[0]} and {name} cannot be compared: their {what} are {found[0]} and {other}"
                )
    arrays = {
        key: np.stack([result.arrays[key] for result in results]) for key in ("teacher_general", "student_general")
    }
    common = ("teacher", "teacher_layers", "student_layers", "method", "data", "confidence")
    facts = {"names": list(names), "students": [result.facts["student"] for result in results]}
    facts |= {key: results[0].facts[key] for key in common}
    for flag in ("teacher_lower_bound", "student_lower_bound"):
        if flag in results[0].facts:
            facts[flag] = [result.facts[flag] for result in results]
    return Result("knowledge-comparison", arrays, facts, provenance(of=[result.provenance for result in results]))


def comparison_table(result: Result) -> pd.DataFrame:
    """One row per student, pair of layers and network."""
    rows = []
    for student, name in enumerate(result.facts["names"]):
        for index, layers in enumerate(_layers(result)):
            for network in NETWORKS:
                ends = _ends(result.arrays[f"{network}_general"][student, index])
                row = {"name": name, **layers, "network": network, **ends}
                if flags := result.facts.get(f"{network}_lower_bound"):
                    row["lower_bound"] = flags[student][index]
                rows.append(row)
    return pd.DataFrame(rows)


def _layers(result: Result) -> list[dict[str, str]]:
    pairs = zip(result.facts["teacher_layers"], result.facts["student_layers"], strict=True)
    return [{"teacher_layer": one, "student_layer": other} for one, other in pairs]


def _ends(ends: Any) -> dict[str, float]:
    """A number alone, or with its interval."""
    return dict(zip(("value", "low", "high"), np.atleast_1d(ends).tolist(), strict=False))


def _freedom(result: Result) -> list[ndarray]:
    """Degrees of freedom of what is left of teacher and student by pairs."""
    arrays, facts = result.arrays, result.facts
    return [facts["n_independent"] - arrays[f"{other}_used"] - 1 for other in ("student", "teacher")]


def _bounded(result: Result, who: str) -> Iterator[tuple[ndarray, bool]]:
    """The general share of each pair, and whether it is a lower bound."""
    shares = result.arrays[f"{who}_general"]
    yield from zip(shares, result.facts.get(f"{who}_lower_bound", [False] * len(shares)), strict=True)


def _worded(ends: ndarray, lower_bound: bool) -> str:
    return f"{'>= ' * lower_bound}{worded_share(ends)}"


def _both(teacher: ndarray, student: ndarray) -> list[str]:
    return [f"{one} / {other}" for one, other in zip(teacher, student, strict=True)]
