"""Fidelity of students and controls to one teacher on the same images, as a result, a table and in words."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from analyses.evaluation.predictions import Judged
from analyses.fidelity.comparisons import Comparisons, compare_methods
from analyses.fidelity.lineage import Lineage, lineages
from analyses.fidelity.measured import Measured, measure_answers
from analyses.fidelity.quantities import FIDELITIES, Answers
from analyses.fidelity.words import undefined_in_words, verdicts
from kdprobe.devices import exact_float32
from kdprobe.errors import AnalysisError
from kdprobe.mean_interval import check_confidence, wilson
from kdprobe.provenance import provenance
from kdprobe.results import Result

_FEW = 10  # mistakes of a teacher


@exact_float32
def measure_fidelity(
    teacher: Judged,
    students: Sequence[Judged],
    controls: Sequence[Judged] = (),
    *,
    temperature: float = 1.0,
    confidence: float = 0.95,
    seed: int = 0,
) -> Result:
    """Compare the answers of students, and of controls, with those of a teacher.

    A control is a network that did not learn from the teacher, such as an independently trained student: it tells how
    much agreement comes with accuracy alone. Runs that differ in the seed alone count as one method.

    Args:
        teacher: from `analyses.evaluation.judge`, together with the others.
        students: at least one.
        controls: as many as there are.
        temperature: of the Jensen-Shannon divergence.
        confidence: of the intervals.
        seed: of the random swaps of tests, and of the draws behind the interval of error consistency.

    Returns:
        a result of kind "fidelity" for m networks (students first), g methods, p pairs of methods and q quantities:
        `values` [m, q, 3] and `means` [g, q, 3] (value, low, high; NaN where `undefined` says so); `differences`
        [p, q, 3], `p_values` and `adjusted` [p, q], where there are pairs; `teacher_accuracy` [3]; `targets` and
        `teacher_predictions` [n]; `predictions` [m, n].

    Raises:
        AnalysisError: for data of a single class, or a network that is given as its own teacher or twice.
        RunError: if two runs have the same configuration and seed.

    Example:
        >>> from analyses.evaluation import judge
        >>> from analyses.fidelity import measure_fidelity
        >>> from pathlib import Path
        >>> from kdprobe.models import create, save
        >>> for name in ("teacher", "student"):
        ...     save(create("resnet8", n_classes=10, image_size=8), Path(f"{name}.safetensors"))
        >>> teacher, student = judge(["teacher.safetensors", "student.safetensors"], "digits")
        >>> measure_fidelity(teacher, [student]).facts["quantities"][:4]
        ['accuracy', 'agreement', 'agreement_right', 'agreement_wrong']
    """
    check_confidence(confidence)
    networks, data = [*students, *controls], teacher.data
    _check(teacher, networks)
    targets = data.test.labels
    found = lineages(students, controls)
    answers = [Answers(one.logits, teacher.logits, targets, temperature=temperature) for one in networks]
    measured = [
        Measured(lineage, one, measure_answers([one], confidence=confidence, seed=seed))
        for one, lineage in zip(answers, found, strict=True)
    ]
    compared = compare_methods(measured, confidence=confidence, seed=seed)
    groups = list(dict.fromkeys((one.role, one.group) for one in found))
    of_groups = [
        [each.answers for each in measured if (each.lineage.role, each.lineage.group) == one] for one in groups
    ]
    right = int((teacher.logits.argmax(1) == targets).sum())
    arrays = {
        "values": np.stack([one.values for one in measured]),
        "means": np.stack([measure_answers(one, confidence=confidence, seed=seed) for one in of_groups]),
        "teacher_accuracy": wilson(np.array([right, len(targets) - right]), confidence=confidence),
        "targets": targets.numpy(),
        "teacher_predictions": teacher.logits.argmax(1).numpy(),
        "predictions": np.stack([one.logits.argmax(1).numpy() for one in networks]),
        **_tests(compared),
    }
    facts = {
        **_about_networks(networks, found, groups),
        "teacher": teacher.name,
        "data": data.spec,
        "evaluated_on": data.evaluated_on,
        "classes": list(data.classes),
        "n_images": len(targets),
        "temperature": temperature,
        "confidence": confidence,
        **_about_tests(
            compared,
            controls=[group for role, group in groups if role == "control"],
            untaught={one.group for one in found if one.shuffled or one.learnt_from(teacher.info.sha256) is False},
        ),
        **_about_what_is_missing(teacher, networks, measured, compared),
    }
    origin = {"teacher": teacher.origin(), "models": [one.origin() for one in networks]}
    return Result("fidelity", arrays, facts, provenance(data=data.spec, **origin))


def _about_networks(
    networks: Sequence[Judged], found: Sequence[Lineage], groups: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    return {
        "names": [one.name for one in networks],
        "roles": [one.role for one in found],
        "of_group": [one.group for one in found],
        "seeds": [one.seed for one in found],
        "groups": [group for _, group in groups],
        "group_roles": [role for role, _ in groups],
        "quantities": list(FIDELITIES),
        "labels": [quantity.label for quantity in FIDELITIES.values()],
        "scales": [quantity.scale for quantity in FIDELITIES.values()],
    }


def _about_tests(compared: Comparisons, *, controls: Sequence[str], untaught: Collection[str]) -> dict[str, Any]:
    return {
        "interval": "over images, and over seeds where a method has several",
        "tests": "paired by seed and image, or by image alone (random swaps); p is Holm's over all pairs with controls "
        "or all others, and over all quantities but accuracy and agreement if teacher wrong, which are tested apart",
        "pairs": compared.pairs,
        "untested": compared.untested,
        "verdicts": list(verdicts(compared, controls, untaught)),
    }


def _about_what_is_missing(
    teacher: Judged, networks: Sequence[Judged], measured: Sequence[Measured], compared: Comparisons
) -> dict[str, Any]:
    undefined = [
        {"network": one.name, "quantity": name, "reason": reason}
        for one, each in zip(networks, measured, strict=True)
        for name, reason in _undefined(each)
    ]
    remarks = [
        *_remarks(teacher, networks, [one.lineage for one in measured]),
        *(entry["reason"] for entry in compared.untested),
        *undefined_in_words(undefined),
    ]
    return {"undefined": undefined, "remarks": [{"reason": text} for text in remarks]}


def _check(teacher: Judged, networks: Sequence[Judged]) -> None:
    if teacher.data.n_classes < 2:
        raise AnalysisError(
            f"fidelity needs at least two classes, but {teacher.data.spec} has {teacher.data.n_classes}"
        )
    seen = {teacher.info.sha256: "the teacher"}
    for one in networks:
        same = seen.setdefault(one.info.sha256, one.name) if one.info.sha256 else one.name
        if same != one.name:
            raise AnalysisError(
                f"{one.name} is the same network as {same}: both files have the sha256 {one.info.sha256}"
            )


def _tests(compared: Comparisons) -> dict[str, ndarray]:
    if not compared.pairs:
        return {}
    return {"differences": compared.differences, "p_values": compared.p_values, "adjusted": compared.adjusted}


def _undefined(one: Measured) -> Iterator[tuple[str, str]]:
    """Quantities without a value, or without an interval, and why."""
    right = one.answers.right
    reasons = {
        "agreement_right": "the teacher is right on no image",
        "agreement_wrong": "the teacher is right on every image",
        "same_error": "there is no image that both get wrong",
        "kappa": "both give the same class to every image",
        "error_consistency": f"both are {'right' if right.all() else 'wrong'} on every image",
    }
    for name, (value, low, _) in zip(FIDELITIES, one.values, strict=True):
        if np.isnan(value):
            yield name, reasons[name]
        elif np.isnan(low):
            yield name, "no interval: fewer than three images, or the same value for all"


def _remarks(teacher: Judged, networks: Sequence[Judged], found: Sequence[Lineage]) -> Iterator[str]:
    """What a reader should know of who taught whom, and of a teacher that is hardly ever wrong."""
    n_wrong = int((teacher.logits.argmax(1) != teacher.data.test.labels).sum())
    if 0 < n_wrong < _FEW:
        mistakes = f"{n_wrong} mistake{'s' * (n_wrong > 1)}"
        yield f"{teacher.name} makes only {mistakes} here: hardly enough to tell whether students make them too"
    for one, lineage in zip(networks, found, strict=True):
        taught = lineage.learnt_from(teacher.info.sha256)
        if lineage.role == "student" and lineage.alone:
            yield f"{one.name} learnt without a teacher; it is rather a control"
        elif lineage.role == "student" and taught is False:
            yield (
                f"{one.name} did not learn from {teacher.name} (sha256 {_short(teacher.info.sha256)}), but from "
                f"another teacher (sha256 {_short(lineage.teacher)})"
            )
        if lineage.role == "student" and lineage.shuffled:
            yield f"{one.name} learnt from a teacher whose answers were shuffled; it is rather a control"
        if lineage.role == "control" and taught and not lineage.shuffled:
            yield f"{one.name} learnt from {teacher.name}, so it is no control"


def _short(sha256: str | None) -> str:
    return f"{sha256 or '':.12}"
