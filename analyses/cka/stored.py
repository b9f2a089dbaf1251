"""CKA from feature files instead of networks."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from analyses.cka.result import CKAResult
from analyses.cka.sums import HSICSums
from kdprobe.errors import AnalysisError, StoreError
from kdprobe.features.hsic import centred_gram
from kdprobe.features.store import FeatureStore
from kdprobe.results import provenance


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
        role: store.origin(held) for role, store, held in (("teacher", teacher, rows), ("student", student, columns))
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
    """Refuse two files of other data, other samples or another order, or of images that were shown differently.

    Data are the same by their content, wherever they lie; by the data SPEC only where a file does not say more, as
    those of 0.1.0 do not, or holds pixels that were made for another size.

    Raises:
        StoreError: saying which.
    """
    if teacher.path == student.path:
        return
    both = teacher.network(role_in(teacher, "teacher")), student.network(role_in(student, "student"))
    one, other = (network.images for network in both)
    _warn_of_unknown([store for store, images in ((teacher, one), (student, other)) if not images])
    comparable = one and other and one.partition(" ")[2] == other.partition(" ")[2]
    if comparable and one != other:
        raise StoreError(
            f"{teacher.path} is of images with the sha256 {one}, but {student.path} of images with the sha256 {other}; "
            "dump both again from the same images"
        )
    if not comparable and teacher.data != student.data:
        raise StoreError(f"{teacher.path} is of {teacher.data!r}, but {student.path} is of {student.data!r}")
    views = [{key: network.preprocessing.get(key) for key in _VIEW} for network in both]
    if different := [
        key for key in _VIEW if None not in (views[0][key], views[1][key]) and views[0][key] != views[1][key]
    ]:
        one, other = (" and ".join(f"{key} {view[key]}" for key in different) for view in views)
        raise StoreError(
            f"images were shown with {one} for {teacher.path}, but with {other} for {student.path}; dump both again "
            "with the same --crop-pct and --interpolation"
        )
    if not torch.equal(teacher.index, student.index):
        raise StoreError(
            f"{teacher.path} ({teacher.n_samples} samples) and {student.path} ({student.n_samples} samples) "
            "hold other samples or another order"
        )
    if not torch.equal(teacher.labels, student.labels):
        raise StoreError(f"{teacher.path} and {student.path} hold samples of other classes")


_VIEW = ("crop_pct", "interpolation", "crop_mode")


def _warn_of_unknown(stores: Sequence[FeatureStore]) -> None:
    if stores:
        names = " and ".join(dict.fromkeys(str(store.path) for store in stores))
        warnings.warn(
            f"an older kdprobe, or none, wrote {names} without saying which images it saw, so whether both networks "
            "saw the same ones is not checked",
            UserWarning,
            stacklevel=3,
        )


def role_in(store: FeatureStore, wanted: str) -> str:
    """The wanted network, or the only one that a file holds."""
    return wanted if wanted in store.roles else store.roles[0]
