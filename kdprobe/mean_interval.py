"""Means and intervals over repeated runs."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t


def mean_interval(values: Sequence[float] | NDArray[np.float64], *, confidence: float = 0.95) -> tuple[float, float]:
    """The mean over seeds and the half-width of Student's interval around it.

    Args:
        values: one per seed; NaN where a value is missing.
        confidence: of the interval, in (0, 1).

    Returns:
        mean (NaN without any value) and half-width (NaN with fewer than two).
    """
    present = np.asarray([value for value in values if not math.isnan(value)])
    if present.size < 2:
        return (float(present[0]) if present.size else math.nan), math.nan
    error = float(present.std(ddof=1)) / math.sqrt(present.size)
    return float(present.mean()), float(t.ppf(0.5 + confidence / 2, present.size - 1)) * error


def worded_interval(values: Sequence[float] | NDArray[np.float64], *, scale: float = 1.0, digits: int = 2) -> str:
    """`mean ± half-width`, the mean alone where there is no interval, `-` where there is no value."""
    mean, half = mean_interval(values)
    if math.isnan(mean):
        return "-"
    number = f"{scale * mean:.{digits}f}"
    return number if math.isnan(half) else f"{number} ± {scale * half:.{digits}f}"
