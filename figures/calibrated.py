"""Similarity beside its permutation null: what is shown of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdprobe.results import Result


class Beside(NamedTuple):
    """Values that start at what chance gives, and where there is no more than chance.

    Attributes:
        values: calibrated, of pairs of layers or of networks, or of pairs and epochs; NaN where undefined.
        chance: those that do not exceed their null, after correction for all of them.
        words: what that means.
    """

    values: NDArray[np.float64]
    chance: NDArray[np.bool_]
    words: str


def beside_null(result: Result) -> Beside | None:
    """What is shown of a calibrated result of layers or networks; None for one without calibration."""
    facts, arrays = result.facts, result.arrays
    if "calibrated" not in arrays or "calibration" not in facts:
        return None
    alpha = facts["calibration"]["alpha"]
    return Beside(arrays["calibrated"], arrays["p_adjusted"] > alpha, f"within its null, p > {alpha:g}")


def calibration_words(facts: Mapping[str, Any]) -> str:
    """How the null was made, for captions."""
    known = facts["calibration"]
    return (
        f"Calibrated: 0 up to the {100 * (1 - known['alpha']):g} % quantile of a pair's null, from "
        f"{known['permutations']} random orders of the samples, and 1 for equal features; p values hold for all pairs "
        "together."
    )
