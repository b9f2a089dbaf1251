"""Decompositions of pairs of layers as a saved result: numbers, table, summary, and several students side by side."""

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from torch import Tensor

from analyses.cka.sums import HSICSums
from analyses.evaluation.accuracy import worded_share
from analyses.knowledge.decomposition import Decomposition, Side
from analyses.knowledge.probes import probe_accuracy
from kdprobe.errors import AnalysisError
from kdprobe.features.gram import centred_gram
from kdprobe.features.hsic import MIN_SAMPLES
from kdprobe.provenance import provenance
from kdprobe.results import Result

SHARES = ("whole", "general", "specific")
FRACTIONS = ("teacher_general", "teacher_specific", "student_general", "student_specific")
_MINIBATCH, _N_MINIBATCHES = 256, 5


class Pair(NamedTuple):
    """What was measured of one pair of layers: numbers by name, and why some of them are NaN."""

    teacher_layer: str
    student_layer: str
    numbers: dict[str, ndarray]
    undefined: list[dict[str, str]]


def measure_pair(teacher_layer: str, student_layer: str, found: Decomposition, labels: Tensor | None = None) -> Pair:
    """Fractions, dimension, CKA and probe accuracies of one decomposition.

    Args:
        teacher_layer: its name.
        student_layer: its name.
        found: by `analyses.knowledge.decomposition.decompose`.
        labels: classes of the samples [n]; no probes without.
    """
    numbers = {name: np.array(found.fractions[name]) for name in FRACTIONS}
    numbers["teacher_by_fold"], numbers["student_by_fold"] = map(
        np.array, (found.teacher.by_fold, found.student.by_fold)
    )
    numbers["dimension"] = np.array(np.nan if found.dimension is None else found.dimension)
    numbers["cka"], undefined = _cka(found)
    if reason := _about_dimension(found):
        undefined.append({"quantity": "dimension", "reason": reason})
    if labels is not None:
        for who, side in (("teacher", found.teacher), ("student", found.student)):
            numbers[f"{who}_probe"], missing = _probes(side, labels, found)
            undefined += [{"quantity": f"{who} probe, {part}", "reason": reason} for part, reason in missing]
    return Pair(teacher_layer, student_layer, numbers, undefined)


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
        specific; value, low, high); with labels `teacher_probe`, `student_probe` [pairs, 3, 3].
    """
    arrays = {name: np.stack([pair.numbers[name] for pair in pairs]) for name in pairs[0].numbers}
    layers = {
        "teacher_layers": [pair.teacher_layer for pair in pairs],
        "student_layers": [pair.student_layer for pair in pairs],
    }
    undefined = [{"pair": index, **cell} for index, pair in enumerate(pairs) for cell in pair.undefined]
    return Result(
        "knowledge", arrays, facts | layers | {"parts": SHARES, "undefined": undefined}, provenance(**origin or {})
    )


def knowledge_table(result: Result) -> pd.DataFrame:
    """One row per number: teacher_layer, student_layer, network, part, quantity, value, low, high, note.

    The note says why a number or its interval is missing, or is a lower bound; it is empty for the others.
    """
    arrays, rows = result.arrays, list[dict[str, Any]]()
    notes = {(cell["pair"], cell["quantity"]): cell["reason"] for cell in result.facts["undefined"]}
    for index, layers in enumerate(_layers(result)):
        for name in FRACTIONS:
            network, part = name.split("_")
            rows.append({**layers, "network": network, "part": part, "quantity": "share", **_ends(arrays[name][index])})
        rows.append({**layers, "network": "both", "part": "general", "quantity": "dimension"})
        rows[-1] |= {"value": arrays["dimension"][index], "note": notes.get((index, "dimension"), "")}
        for key, network in (("cka", "both"), ("teacher_probe", "teacher"), ("student_probe", "student")):
            for part, ends in zip(SHARES, arrays[key][index] if key in arrays else (), strict=False):
                quantity = "cka" if key == "cka" else "probe accuracy"
                note = notes.get((index, f"{key.replace('_', ' ')}, {part}"), "")
                row = {"network": network, "part": part, "quantity": quantity, **_ends(ends), "note": note}
                rows.append({**layers, **row})
        for network in ("teacher", "student"):
            if f"{network}_by_rate" in arrays:
                for rate, ends in zip(arrays["rates"], arrays[f"{network}_by_rate"][index], strict=True):
                    row = {"network": network, "part": "general", "quantity": f"share at rate {rate:g}"}
                    rows.append({**layers, **row, **_ends(ends)})
    for cell in result.facts.get("left_out", []):
        rows.append({**cell, "network": "both", "part": "whole", "quantity": "left out", "note": cell["reason"]})
        del rows[-1]["reason"]
    return pd.DataFrame(rows).fillna({"note": ""})


def knowledge_summary(result: Result) -> str:
    """One line per pair of layers, as a table to be read."""
    arrays, facts = result.arrays, result.facts
    table: dict[str, Any] = {
        "teacher layer": facts["teacher_layers"],
        "student layer": facts["student_layers"],
        "teacher general": [worded_share(ends) for ends in arrays["teacher_general"]],
        "student general": [worded_share(ends) for ends in arrays["student_general"]],
    }
    if not np.isnan(arrays["dimension"]).all():
        table["dimension"] = arrays["dimension"].astype(int)
    table |= {f"CKA {name}": arrays["cka"][:, index, 0].round(3) for index, name in enumerate(("R/R", "G/G", "S/S"))}
    samples = f"{facts['n_samples']} samples of {facts['data']}"
    shown = ("dimension", *(f"cka, {part}" for part in SHARES))
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
    head = f"{facts['teacher']} and {facts['student']} by {facts['method']}, {samples}"
    return head + "\n" + pd.DataFrame(table).to_string(index=False) + "".join(notes)


def compare(names: Sequence[str], results: Sequence[Result]) -> Result:
    """Several students' decompositions at equal layers.

    Args:
        names: of the students, for the figure.
        results: of kind "knowledge", by one method, of the same teacher, layers and data.

    Returns:
        a result of kind "knowledge-comparison": `teacher_general` and `student_general` [students, pairs, 3].

    Raises:
        AnalysisError: if the results are of other layers, methods or data.
    """
    for key in ("teacher", "teacher_layers", "student_layers", "method", "data"):
        found = [result.facts[key] for result in results]
        for name, other in zip(names, found, strict=True):
            if other != found[0]:
                raise AnalysisError(f"{names[0]} and {name} cannot be compared: their {key} are {found[0]} and {other}")
    arrays = {
        key: np.stack([result.arrays[key] for result in results]) for key in ("teacher_general", "student_general")
    }
    common = ("teacher", "teacher_layers", "student_layers", "method", "data", "confidence")
    facts = {"names": list(names), "students": [result.facts["student"] for result in results]}
    facts |= {key: results[0].facts[key] for key in common}
    return Result("knowledge-comparison", arrays, facts, provenance(of=[result.provenance for result in results]))


def comparison_table(result: Result) -> pd.DataFrame:
    """One row per student, pair of layers and network."""
    rows = []
    for student, name in enumerate(result.facts["names"]):
        for index, layers in enumerate(_layers(result)):
            for network in ("teacher", "student"):
                ends = _ends(result.arrays[f"{network}_general"][student, index])
                rows.append({"name": name, **layers, "network": network, **ends})
    return pd.DataFrame(rows)


def _layers(result: Result) -> list[dict[str, str]]:
    pairs = zip(result.facts["teacher_layers"], result.facts["student_layers"], strict=True)
    return [{"teacher_layer": one, "student_layer": other} for one, other in pairs]


def _ends(ends: ndarray) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), ends.tolist(), strict=True))


def _about_dimension(found: Decomposition) -> str:
    """Why there is no dimension, or why it is a lower bound, where it is one."""
    if found.dimension is None:
        return f"{found.method} keeps parts of single images, not directions that could be counted"
    widths = [side.whole.values.shape[1] for side in (found.teacher, found.student)]
    n_pairs = len(found.correlations)
    if not found.dimension == n_pairs < min(widths):
        return ""
    return (
        f"all {n_pairs} leading pairs of directions are shared and no more are looked at; there are at least this "
        "many, and the fractions are lower bounds too"
    )


def _cka(found: Decomposition) -> tuple[ndarray, list[dict[str, str]]]:
    """CKA of R/R, G/G and S/S [3, 3], over minibatches of random samples."""
    sums, order = HSICSums(), torch.cat(found.folds)
    parts = [_parts(side) for side in (found.teacher, found.student)]
    count = min(max(_N_MINIBATCHES, ceil(len(order) / _MINIBATCH)), len(order) // MIN_SAMPLES)
    for samples in order.tensor_split(count):
        sums.add(*({name: centred_gram(part[samples]) for name, part in of.items()} for of in parts))
    result = sums.result(confidence=found.confidence)
    ends = np.stack([np.diag(matrix) for matrix in (result.matrix, result.low, result.high)], axis=1)
    undefined = [
        {
            "quantity": f"cka, {cell['teacher_layer']}",
            "reason": cell["reason"] if "although" in cell["reason"] else "this part is zero for all samples",
        }
        for cell in result.undefined
        if cell["teacher_layer"] == cell["student_layer"]
    ]
    undefined += [
        {"quantity": f"cka, {part}", "reason": str(result.facts["no_interval"])}
        for part, (value, low, _) in zip(SHARES, ends, strict=True)
        if np.isnan(low) and not np.isnan(value)
    ]
    return ends, undefined


def _probes(side: Side, labels: Tensor, found: Decomposition) -> tuple[ndarray, list[tuple[str, str]]]:
    ends, undefined = np.full((3, 3), np.nan), []
    for index, (name, part) in enumerate(_parts(side).items()):
        try:
            ends[index] = probe_accuracy(part, labels, found.folds, confidence=found.confidence)
        except AnalysisError as error:
            undefined.append((name, str(error)))
    return ends, undefined


def _parts(side: Side) -> dict[str, Tensor]:
    return dict(zip(SHARES, (side.whole.values, side.explained, side.specific), strict=True))
