"""CKA from feature files instead of networks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from analyses.cka_result import CKAResult
from analyses.hsic import centred_gram
from analyses.hsic_sums import HSICSums
from kdprobe.errors import AnalysisError, StoreError
from kdprobe.results import provenance
from kdprobe.store import FeatureStore


def files_cka(paths: Sequence[Path], **options: Any) -> CKAResult:
    """CKA from one feature file that holds both networks, or from the teacher's and the student's file.

    Raises:
        StoreError: for another number of files, or files that do not fit together.
    """
    if len(paths) > 2:
        raise StoreError(f"CKA needs one feature file or two, but got {len(paths)}")
    with FeatureStore.open(paths[0]) as teacher, FeatureStore.open(paths[-1]) as student:
        if len(paths) == 1 and len(teacher.roles) < 2:
            raise StoreError(f"{paths[0]} holds only the {teacher.roles[0]}; give a second file with the other network")
        return stored_cka(teacher, student, **options)


def stored_cka(
    teacher: FeatureStore,
    student: FeatureStore,
    *,
    teacher_layers: str | Sequence[str] = "all",
    student_layers: str | Sequence[str] = "all",
    batch_size: int | None = None,
    kernel: str = "linear",
    estimator: str = "unbiased",
    confidence: float = 0.95,
    permutations: int = 0,
    until: float | None = None,
    part: tuple[int, int] = (0, 1),
) -> CKAResult:
    """CKA of stored layers; no more than one minibatch of one layer is held in memory as features.

    Args:
        teacher: file with the teacher's features, or of the one network it holds.
        student: file with the student's features, which may be the same one.
        teacher_layers: stored names, globs, `stages` or `all`.
        student_layers: the same for the student.
        batch_size: samples compared at a time; that of the dumps if not given.
        kernel: `linear` or `rbf`.
        estimator: `unbiased` or `biased`.
        confidence: of the intervals.
        permutations: for p values of no similarity; 0 for none.
        until: stop as soon as every interval is at most so wide.
        part: which of how many processes this is.

    Raises:
        StoreError: if the files hold other samples, another order or other data, or are damaged.
        AnalysisError: if no minibatch has 4 samples, or a stored feature is not finite.
    """
    require_same_samples(teacher, student)
    rows, columns = role_in(teacher, "teacher"), role_in(student, "student")
    names = teacher.layers(rows, teacher_layers), student.layers(columns, student_layers)
    sums, size = HSICSums(kernel, estimator, permutations), batch_size or teacher.batch_size
    for number in range(part[0], -(-teacher.n_samples // size), part[1]):
        start = number * size
        if sums.accepts(min(size, teacher.n_samples - start)):
            sums.add(
                {name: _gram(teacher, rows, name, start, size) for name in names[0]},
                {name: _gram(student, columns, name, start, size) for name in names[1]},
                number=number,
            )
        if until is not None and sums.narrow(until, confidence):
            break
    if part[1] > 1:
        sums.gather()
    facts: dict[str, Any] = {
        "teacher": teacher.network(rows).model,
        "student": student.network(columns).model,
        "reduce": "flatten",
        "until": until,
        "data": teacher.data,
    }
    origin = {
        role: {"file": str(store.path), "sha256": store.network(held).sha256}
        for role, store, held in (("teacher", teacher, rows), ("student", student, columns))
    }
    return sums.result(confidence=confidence, facts=facts, provenance=provenance(data=teacher.data, **origin))


def _gram(store: FeatureStore, role: str, layer: str, start: int, size: int) -> torch.Tensor:
    values = store.minibatch(role, layer, start, size)
    if store.content == "grams":
        return values
    try:
        return centred_gram(values)
    except AnalysisError as error:
        raise AnalysisError(f"samples from {start} on of the {role}, layer {layer!r}: {error}") from error


def require_same_samples(teacher: FeatureStore, student: FeatureStore) -> None:
    """Refuse two files of other data, other samples or another order.

    Raises:
        StoreError: saying which.
    """
    if teacher.data != student.data:
        raise StoreError(f"{teacher.path} is of {teacher.data!r}, but {student.path} is of {student.data!r}")
    if not torch.equal(teacher.index, student.index):
        raise StoreError(
            f"{teacher.path} ({teacher.n_samples} samples) and {student.path} ({student.n_samples} samples) "
            "hold other samples or another order"
        )


def role_in(store: FeatureStore, wanted: str) -> str:
    """The wanted network, or the only one that a file holds."""
    return wanted if wanted in store.roles else store.roles[0]
