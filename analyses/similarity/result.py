"""Similarity of stored layers by other measures than CKA, as a result."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analyses.cka.stored import require_same_samples, role_in
from analyses.similarity.stored import stored_similarity
from kdprobe.errors import StoreError
from kdprobe.features.store import FeatureStore
from kdprobe.results import Result, provenance

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "svcca": "SVCCA",
    "pwcca": "PWCCA",
    "procrustes": "Procrustes similarity",
    "rsa": "RSA (Pearson)",
    "rsa-spearman": "RSA (Spearman)",
}


def files_similarity(
    paths: Sequence[Path],
    measure: str,
    *,
    teacher_layers: str | Sequence[str] = "all",
    student_layers: str | Sequence[str] = "all",
    reduce: str = "gap",
) -> Result:
    """One measure from a feature file that holds both networks, or from the teacher's and the student's file.

    Args:
        paths: one file or two.
        measure: a name in `analyses.similarity.measures.MEASURES`.
        teacher_layers: as `FeatureStore.layers` takes them.
        student_layers: the same for the student.
        reduce: what of a feature is compared, as `kdprobe.capture` takes it.

    Returns:
        kind "similarity": `matrix` [Lt, Ls], rows teacher layers, NaN where the facts' `undefined` says why; `remarks`,
        of values that few samples in many dimensions make larger than they are; facts `measure` (for people), names
        and layers of both networks, `reduce`, `n_samples`, `data`.

    Raises:
        StoreError: for another number of files, or files that do not fit together.
        AnalysisError: for an unknown measure, Gram matrices, or features that do not vary.
    """
    if len(paths) > 2:
        raise StoreError(f"similarity needs one feature file or two, but got {len(paths)}")
    with FeatureStore.open(paths[0]) as teacher, FeatureStore.open(paths[-1]) as student:
        if len(paths) == 1 and len(teacher.roles) < 2:
            raise StoreError(f"{paths[0]} holds only the {teacher.roles[0]}; give a second file with the other network")
        require_same_samples(teacher, student)
        chosen = {"teacher_layers": teacher_layers, "student_layers": student_layers}
        found = stored_similarity(teacher, student, measure, reduce=reduce, **chosen)
        sides = {"teacher": (teacher, teacher_layers), "student": (student, student_layers)}
        facts = {
            "measure": NAMES[measure],
            "reduce": reduce,
            "n_samples": teacher.n_samples,
            "undefined": found.undefined,
            "remarks": found.remarks,
            "data": teacher.data,
            **{role: store.network(role_in(store, role)).model for role, (store, _) in sides.items()},
            **{f"{role}_layers": store.layers(role_in(store, role), layers) for role, (store, layers) in sides.items()},
        }
        origin = {role: store.origin(role_in(store, role)) for role, (store, _) in sides.items()}
    return Result("similarity", {"matrix": found.matrix.numpy()}, facts, provenance(data=facts["data"], **origin))


def similarity_table(result: Result) -> "pd.DataFrame":
    """One row per pair of layers: teacher_layer, student_layer, similarity, undefined, remark (reasons, or empty)."""
    import pandas as pd

    facts, matrix = result.facts, result.arrays["matrix"]
    rows, columns = np.indices(matrix.shape).reshape(2, -1)
    pairs = [
        (facts["teacher_layers"][row], facts["student_layers"][column])
        for row, column in zip(rows, columns, strict=True)
    ]
    told = {
        key: {(cell["teacher_layer"], cell["student_layer"]): cell["reason"] for cell in facts.get(key, [])}
        for key in ("undefined", "remarks")
    }
    return pd.DataFrame(
        {
            "teacher_layer": [row for row, _ in pairs],
            "student_layer": [column for _, column in pairs],
            "similarity": matrix.ravel(),
            "undefined": [told["undefined"].get(pair, "") for pair in pairs],
            "remark": [told["remarks"].get(pair, "") for pair in pairs],
        }
    )


def similarity_summary(result: Result) -> str:
    """The teacher layer most like each student layer, and what has to be known to read the values."""
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
