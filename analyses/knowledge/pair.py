"""What is measured of one pair of layers: shares, dimension, CKA and probes of each part."""

from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from analyses.cka.sums import HSICSums
from analyses.knowledge.decomposition import Decomposition, Side
from analyses.knowledge.probes import probe_accuracy
from kdprobe.errors import AnalysisError
from kdprobe.features.gram import centred_gram
from kdprobe.features.hsic import MIN_SAMPLES

SHARES = ("whole", "general", "specific")
NETWORKS = ("teacher", "student")
FRACTIONS = ("teacher_general", "teacher_specific", "student_general", "student_specific")
_MINIBATCH, _N_MINIBATCHES = 256, 5


class Pair(NamedTuple):
    """What was measured of one pair of layers.

    Attributes:
        teacher_layer: its name.
        student_layer: its name.
        numbers: by name.
        undefined: why some of them are NaN, or bounds.
        flags: what is true of the pair, by name.
    """

    teacher_layer: str
    student_layer: str
    numbers: dict[str, ndarray]
    undefined: list[dict[str, str]]
    flags: dict[str, bool]


def measure_pair(teacher_layer: str, student_layer: str, found: Decomposition, labels: Tensor | None = None) -> Pair:
    """Fractions, dimension, CKA and probe accuracies of one decomposition.

    Args:
        teacher_layer: its name.
        student_layer: its name.
        found: by `analyses.knowledge.decomposition.decompose`.
        labels: classes of the samples [n]; no probes without.
    """
    numbers = {name: np.array(found.fractions[name].ends) for name in FRACTIONS}
    numbers["teacher_by_fold"], numbers["student_by_fold"] = map(
        np.array, (found.teacher.by_fold, found.student.by_fold)
    )
    for who, side in zip(NETWORKS, (found.teacher, found.student), strict=True):
        general, specific = side.by_sample.float().cpu().numpy()
        numbers |= {f"{who}_general_by_sample": general, f"{who}_specific_by_sample": specific}
    numbers["dimension"] = np.array(np.nan if found.dimension is None else found.dimension)
    numbers["cka"], undefined = _cka(found)
    numbers |= _support(found)
    for name in FRACTIONS:
        if reason := found.fractions[name].reason:
            undefined.append({"quantity": f"{name.replace('_', ' ')} share", "reason": reason})
    if reason := _about_dimension(found):
        undefined.append({"quantity": "dimension", "reason": reason})
    if labels is not None:
        for who, side in (("teacher", found.teacher), ("student", found.student)):
            numbers[f"{who}_probe"], missing = _probes(side, labels, found)
            undefined += [{"quantity": f"{who} probe, {part}", "reason": reason} for part, reason in missing]
    return Pair(teacher_layer, student_layer, numbers, undefined, _flags(found))


def _support(found: Decomposition) -> dict[str, ndarray]:
    """What each network explained the other with: rank, components used and the variance they hold."""
    sides = {"teacher": found.teacher.support, "student": found.student.support}
    return {
        f"{who}_{name}": np.array(getattr(support, name))
        for who, support in sides.items()
        if support
        for name in ("rank", "used", "held")
    }


def _flags(found: Decomposition) -> dict[str, bool]:
    """Whether each network's share is a lower bound, and whether the samples were too few for the other network."""
    others = {"teacher": found.student.support, "student": found.teacher.support}
    return {
        f"{who}_{name}": getattr(support, name)
        for who, support in others.items()
        if support
        for name in ("lower_bound", "sample_limited")
    }


def _about_dimension(found: Decomposition) -> str:
    """Why there is no dimension, or why it is a lower bound, where it is one."""
    if found.dimension is None:
        return f"{found.method} keeps parts of single images, not directions that could be counted"
    widths = [side.whole.values.shape[1] for side in (found.teacher, found.student)]
    n_pairs = len(found.correlations)
    if not found.dimension == n_pairs < min(widths):
        return ""
    return (
        f"all {n_pairs} leading pairs of directions are shared and no more are looked at; there are at least this many"
    )


def _cka(found: Decomposition) -> tuple[ndarray, list[dict[str, str]]]:
    """CKA of R/R, G/G and S/S [3, 3], over minibatches of random samples, or of the means of groups."""
    sums, order = HSICSums(), torch.cat(found.group_folds)
    parts = [
        {name: found.groups.means(part) for name, part in _parts(side).items()}
        for side in (found.teacher, found.student)
    ]
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
