"""Similarity of every pair of stored layers, by other measures than CKA, as a result."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from analyses.layer_pairs import pairs_table
from analyses.paired_features import LayerFeatures
from analyses.similarity.measure import FeatureSet, Measure
from analyses.similarity.measures import find_measure
from analyses.stored_pair import open_pair
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.provenance import provenance
from kdprobe.results import Result

if TYPE_CHECKING:
    import pandas as pd

_Layers = dict[str, Any]  # what a measure needs of each layer, or the error that says why it has no similarity


def files_similarity(
    paths: Sequence[Path],
    measure: str,
    *,
    teacher_layers: str | Sequence[str] = "all",
    student_layers: str | Sequence[str] = "all",
    reduce: str | None = None,
) -> Result:
    """One measure for every pair of stored layers, over all samples.

    Args:
        paths: one feature file that holds both networks, or the teacher's and the student's.
        measure: a name in `analyses.similarity.measures.MEASURES`.
        teacher_layers: stored names, globs, `stages` or `all`.
        student_layers: the same for the student.
        reduce: what of a feature is compared, as `kdprobe.capture` takes it; if not given, its means over positions
            (gap), or what the files hold.

    Returns:
        kind "similarity": `matrix` [Lt, Ls], rows teacher layers, NaN where the facts' `undefined` says why; `remarks`,
        of values that few samples in many dimensions make larger than they are; facts `measure` (for people), names
        and layers of both networks, `reduce`, `n_samples`, `data`.

    Raises:
        StoreError: if the files do not fit together, are damaged, or hold Gram matrices or another reduction.
        AnalysisError: for an unknown measure.
        Undefined: if no pair of layers has a value, with the reason of the first.
    """
    chosen = find_measure(measure)
    with open_pair(paths) as pair:
        facts = {**pair.facts(), "reduce": pair.reduction(reduce), "n_samples": pair.store.n_samples}
        layers = {"teacher": teacher_layers, "student": student_layers}
        rows, columns = (
            _prepared(chosen, name, side.layers(layers[name]), partial(side.reduced, reduce=reduce), side.store.dtype)
            for name, side in pair.sides.items()
        )
        origin = provenance(**pair.origin())
    return _compared(chosen, rows, columns, facts, origin)


def layers_similarity(features: LayerFeatures, measure: str) -> Result:
    """One measure for every pair of layers whose features were taken.

    Args:
        features: of both networks, as `analyses.paired_features` takes them.
        measure: a name in `analyses.similarity.measures.MEASURES`.

    Returns:
        as `files_similarity`.

    Raises:
        AnalysisError: for an unknown measure.
        Undefined: if no pair of layers has a value, with the reason of the first.
    """
    chosen = find_measure(measure)
    facts = features.facts | {"n_samples": len(features.index)}
    rows = _prepared(chosen, "teacher", list(features.teacher), features.teacher.__getitem__)
    columns = _prepared(chosen, "student", list(features.student), features.student.__getitem__)
    return _compared(chosen, rows, columns, facts, provenance(**features.origin))


def _compared(
    measure: Measure[Any], rows: _Layers, columns: _Layers, facts: dict[str, Any], origin: dict[str, Any]
) -> Result:
    facts |= {"measure": measure.title, "teacher_layers": list(rows), "student_layers": list(columns)}
    matrix = np.full((len(rows), len(columns)), np.nan)
    known = [[place for place, one in enumerate(side.values()) if not _failed(one)] for side in (rows, columns)]
    sides = ([one for one in side.values() if not _failed(one)] for side in (rows, columns))
    matrix[np.ix_(*known)] = measure.compare_all(*sides)
    undefined, remarks = list[dict[str, str]](), list[dict[str, str]]()
    for (row, one), (column, other) in product(rows.items(), columns.items()):
        cell = {"teacher_layer": row, "student_layer": column}
        error = next((str(layer) for layer in (one, other) if _failed(layer)), "")
        if reason := error or measure.undefined(one, other):
            undefined.append({**cell, "reason": reason})
        elif remark := measure.remark(one, other):
            remarks.append({**cell, "reason": remark})
    if len(undefined) == matrix.size:
        raise Undefined(f"no pair of layers has a value; {undefined[0]['reason']}")
    return Result("similarity", {"matrix": matrix}, facts | {"undefined": undefined, "remarks": remarks}, origin)


def _failed(layer: Any) -> bool:
    return isinstance(layer, AnalysisError)


def similarity_table(result: Result) -> "pd.DataFrame":
    """One row per pair of layers: teacher_layer, student_layer, similarity, undefined, remark (reasons, or empty)."""
    facts = result.facts
    reasons = {"undefined": facts.get("undefined", []), "remark": facts.get("remarks", [])}
    values = {"similarity": result.arrays["matrix"]}
    return pairs_table(facts["teacher_layers"], facts["student_layers"], values, reasons)


def similarity_summary(result: Result) -> str:
    """The teacher layer most like each student layer, with reasons and remarks."""
    table = similarity_table(result).dropna(subset="similarity")
    best = table.loc[table.groupby("student_layer", sort=False)["similarity"].idxmax()]
    shown = best[["teacher_layer", "student_layer", "similarity"]].rename(
        columns={"similarity": result.facts["measure"]}
    )
    lines = [shown.to_string(index=False)]
    for key, title in (("undefined", "undefined"), ("remarks", "read with care")):
        reasons = Counter(cell["reason"] for cell in result.facts.get(key, []))
        lines += [
            f"{title} ({count} of {len(result.arrays['matrix'].ravel())} cells): {reason}"
            for reason, count in reasons.items()
        ]
    return "\n".join(lines)


def _prepared(
    measure: Measure[Any],
    role: str,
    layers: Sequence[str],
    read: Callable[[str], Tensor],
    stored: str | None = None,
) -> _Layers:
    """What a measure needs of each layer, or why that has no similarity with any others."""
    found: _Layers = {}
    for name in layers:
        try:
            found[name] = measure.prepare(FeatureSet(read(name), getattr(torch, stored) if stored else None))
        except AnalysisError as error:
            found[name] = type(error)(f"{role} layer {name!r}: {error}")
    return found
