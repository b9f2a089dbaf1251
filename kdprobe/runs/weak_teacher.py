"""Whether a teacher knows less than those it teaches."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from kdprobe.runs.folder import RunFolder


def weak_teacher(
    methods: Mapping[str, str], accuracy: Float64[ndarray, "methods seeds"], teacher: float | None
) -> str | None:
    """A remark where the teacher is less accurate than plain training, or, without any, than the best method.

    Args:
        methods: by which method each row was trained, by the row's name.
        accuracy: shares of the test images; NaN where there is none.
        teacher: the teacher's on the same images; None if there is none.

    Returns:
        `the teacher (17.6 %) is less accurate than plain (60.7 %)`; None where it is not, or that is not known.
    """
    known = [
        (float(np.nanmean(row)), name) for name, row in zip(methods, accuracy, strict=True) if not np.isnan(row).all()
    ]
    beside = [one for one in known if methods[one[1]] == "plain"] or known
    if teacher is None or not beside or teacher >= max(beside)[0]:
        return None
    mean, name = max(beside)
    return f"the teacher ({100 * teacher:.1f} %) is less accurate than {name} ({100 * mean:.1f} %)"


def judged_on(run: RunFolder, result: Mapping[str, Any]) -> tuple[Any, ...]:
    """Which images a run was judged on: its data, which part of them, and what decides a part that was held out.

    Args:
        run: the run.
        result: its result, with `data`, `evaluated_on` and `seed`.
    """
    if result["evaluated_on"] != "holdout":
        return result["data"], result["evaluated_on"]
    data = run.values()["data"]
    seed = result["seed"] if data["seed"] is None else data["seed"]
    return result["data"], result["evaluated_on"], data["holdout"], seed
