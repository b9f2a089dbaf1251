"""Similarity of every pair of stored layers, by other measures than CKA."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from analyses.cka.stored import role_in
from analyses.similarity.measures import OF_PREPARED, Measured, Prepared
from kdprobe.errors import AnalysisError, Undefined, near_matches
from kdprobe.features.reducers import reduce_stored
from kdprobe.features.store import FeatureStore

Cells = list[dict[str, str]]  # teacher_layer, student_layer, reason


class Similarities(NamedTuple):
    """What one measure says of all pairs of layers.

    Attributes:
        matrix: [Lt, Ls], NaN exactly where `undefined` says why.
        undefined: `teacher_layer`, `student_layer` and `reason` of each undefined cell.
        remarks: the same of each cell whose value few samples in many dimensions make larger than it is.
    """

    matrix: Float64[Tensor, "Lt Ls"]
    undefined: Cells
    remarks: Cells


def stored_similarity(
    teacher: FeatureStore,
    student: FeatureStore,
    measure: str,
    *,
    teacher_layers: str | Sequence[str] = "all",
    student_layers: str | Sequence[str] = "all",
    reduce: str = "gap",
) -> Similarities:
    """One of `analyses.similarity.measures.MEASURES` for every pair of stored layers, over all samples.

    Args:
        teacher: holds the rows' features.
        student: holds the columns' features; may be the same file.
        measure: a name in `MEASURES`.
        teacher_layers: as `FeatureStore.layers` takes them.
        student_layers: the same for the student.
        reduce: what of a feature is compared, as `kdprobe.capture` takes it.

    Raises:
        AnalysisError: for an unknown measure, or files of different samples.
        Undefined: if no pair of layers has a value, with the reason of the first.
        StoreError: if a file is damaged or holds Gram matrices.
    """
    if measure not in OF_PREPARED:
        raise AnalysisError(f"no measure {measure!r}{near_matches(measure, OF_PREPARED)}")
    if not torch.equal(teacher.index, student.index):
        raise AnalysisError(f"{teacher.path} and {student.path} hold other samples or another order")
    rows = _prepared(teacher, "teacher", teacher_layers, reduce)
    columns = _prepared(student, "student", student_layers, reduce)
    matrix = torch.full((len(rows), len(columns)), torch.nan, dtype=torch.float64)
    undefined, remarks = Cells(), Cells()
    while rows:
        row = next(iter(rows))
        one = rows.pop(row)  # its basis goes with it
        for place, (column, other) in enumerate(columns.items()):
            cell = {"teacher_layer": row, "student_layer": column}
            try:
                value, remark = _measured(measure, one, other)
            except Undefined as error:
                undefined.append({**cell, "reason": str(error)})
                continue
            matrix[-1 - len(rows), place] = value
            remarks += [{**cell, "reason": remark}] if remark else []
    if len(undefined) == matrix.numel():
        raise Undefined(f"no pair of layers has a value; {undefined[0]['reason']}")
    return Similarities(matrix, undefined, remarks)


def _measured(measure: str, one: Prepared | str, other: Prepared | str) -> Measured:
    for layer in (one, other):
        if isinstance(layer, str):
            raise Undefined(layer)
    assert isinstance(one, Prepared)
    assert isinstance(other, Prepared)
    return OF_PREPARED[measure](one, other)


def _prepared(store: FeatureStore, role: str, layers: str | Sequence[str], reduce: str) -> dict[str, Prepared | str]:
    """Each layer's features, or why they have no similarity with any others."""
    found: dict[str, Prepared | str] = {}
    for name, features in reduced(store, role, layers, reduce).items():
        try:
            prepared = found[name] = Prepared(features, getattr(torch, store.dtype))
            prepared.require_variation()
        except AnalysisError as error:
            found[name] = f"{role} layer {name!r}: {error}"
    return found


def reduced(store: FeatureStore, role: str, layers: str | Sequence[str], reduce: str) -> dict[str, Tensor]:
    """What is compared of each layer, over all samples: [n, d] in float32 at least.

    Raises:
        AnalysisError: if the file holds Gram matrices.
    """
    held = role_in(store, role)
    if store.content == "grams":
        raise AnalysisError(f"{store.path} holds Gram matrices; this measure needs features")
    parts: dict[str, list[Tensor]] = {name: [] for name in store.layers(held, layers)}
    for _, features in store.minibatches(held, layers):
        for name, values in features.items():
            wide = values.to(torch.promote_types(values.dtype, torch.float32))  # a mean of halves is no half
            taken = reduce_stored(wide, store.layout(held, name), reduce, of=f"layer {name!r} of the {role}")
            parts[name].append(taken.flatten(1))
    return {name: torch.cat(values) for name, values in parts.items()}
