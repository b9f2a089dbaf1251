"""Mean and interval over seeds."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t


def mean_interval(values: NDArray[np.float64], *, confidence: float = 0.95) -> tuple[float, float]:
    """Mean over seeds and the half-width of Student's interval for it.

    Args:
        values: [seeds]; NaN marks an absent one.
        confidence: of the interval, in (0, 1).

    Returns:
        mean (NaN without any value) and half-width (NaN with fewer than two).
    """
    present = values[~np.isnan(values)]
    if present.size == 0:
        return float("nan"), float("nan")
    if present.size == 1:
        return float(present[0]), float("nan")
    error = float(present.std(ddof=1)) / present.size**0.5
    return float(present.mean()), float(t.ppf(0.5 + confidence / 2, present.size - 1)) * error
