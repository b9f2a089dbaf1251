"""Similarity of stored layers by other measures than CKA, as a result."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analyses.similarity import stored_similarity
from analyses.stored_cka import require_same_samples, role_in
from kdprobe.errors import StoreError
from kdprobe.results import Result, provenance
from kdprobe.store import FeatureStore

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
        measure: a name in `analyses.similarity.MEASURES`.
        teacher_layers: as `FeatureStore.layers` takes them.
        student_layers: the same for the student.
        reduce: what of a feature is compared, as `kdprobe.capture` takes it.

    Returns:
        kind "similarity": `matrix` [Lt, Ls], rows teacher layers; facts `measure` (for people), names and layers of
        both networks, `reduce`, `n_samples`, `data`.

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
        matrix = stored_similarity(teacher, student, measure, reduce=reduce, **chosen)
        sides = {"teacher": (teacher, teacher_layers), "student": (student, student_layers)}
        facts = {
            "measure": NAMES[measure],
            "reduce": reduce,
            "n_samples": teacher.n_samples,
            "data": teacher.data,
            **{role: store.network(role_in(store, role)).model for role, (store, _) in sides.items()},
            **{f"{role}_layers": store.layers(role_in(store, role), layers) for role, (store, layers) in sides.items()},
        }
        origin = {
            role: {"file": str(store.path), "sha256": store.network(role_in(store, role)).sha256}
            for role, (store, _) in sides.items()
        }
    return Result("similarity", {"matrix": matrix.numpy()}, facts, provenance(data=facts["data"], **origin))


def similarity_table(result: Result) -> "pd.DataFrame":
    """One row per pair of layers: teacher_layer, student_layer, similarity."""
    import pandas as pd

    facts, matrix = result.facts, result.arrays["matrix"]
    rows, columns = np.indices(matrix.shape).reshape(2, -1)
    return pd.DataFrame(
        {
            "teacher_layer": [facts["teacher_layers"][row] for row in rows],
            "student_layer": [facts["student_layers"][column] for column in columns],
            "similarity": matrix.ravel(),
        }
    )
