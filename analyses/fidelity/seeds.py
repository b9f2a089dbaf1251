"""Intervals and tests of what varies with the seeds of the training as well as with the images.

The squared half-width of an interval is that over images plus that over seeds, each with its own quantile: Student's
for the few seeds. A single network has the first alone. Two seeds say little of how seeds differ, and their intervals
show it; but no interval leaves the range of its quantity.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.optimize import brentq
from scipy.stats import norm, t

from kdprobe.mean_interval import within

_LEAST = -230.0  # logarithm of the smallest p value


@dataclass(frozen=True, eq=False)
class Spread:
    """How far quantities vary with the seed.

    Attributes:
        errors: standard errors of their means over seeds [q]; 0 for a single seed.
        freedom: degrees of freedom, one less than there are seeds.
    """

    errors: Float64[ndarray, " q"]
    freedom: int

    @classmethod
    def of(cls, by_seed: Float64[ndarray, "k q"]) -> "Spread":
        """From how far each seed is from all."""
        freedom = len(by_seed) - 1
        if not freedom:
            return cls(np.zeros(by_seed.shape[1]), 0)
        return cls(by_seed.std(0, ddof=1) / math.sqrt(len(by_seed)), freedom)

    def square(self, confidence: float) -> Float64[ndarray, " q"]:
        """Squared half-widths of Student's intervals."""
        return np.square(self.errors * (t.ppf((1 + confidence) / 2, self.freedom) if self.freedom else 0.0))


def with_seeds(
    ends: Float64[ndarray, "q 3"], squares: Float64[ndarray, " q"], limits: Float64[ndarray, "q 2"]
) -> Float64[ndarray, "q 3"]:
    """Intervals over images, made wider by what seeds add, and less so the nearer the limit of the quantity is.

    Where the limit is a distance D from the value, the end d, and the seeds add s^2, the new end is at
    `sqrt(d^2 + s^2 r / (r + s^2))` with `r = D^2 - d^2`: `sqrt(d^2 + s^2)` where there is room, never beyond D.

    Args:
        ends: value, low, high.
        squares: what seeds add to the squared distance of an end from the value.
        limits: the lowest and highest possible value.

    Returns:
        value, low, high.
    """
    value, found = ends[:, 0], [ends[:, 0]]
    for end, limit, sign in ((ends[:, 1], limits[:, 0], -1), (ends[:, 2], limits[:, 1], 1)):
        distance = np.square(end - value)
        room = np.maximum(np.square(limit - value) - distance, 0.0)
        total = np.where(room + squares > 0, room + squares, 1.0)
        found.append(value + sign * np.sqrt(distance + squares * room / total))
    return within(np.stack(found, axis=1), limits)  # they are, but for rounding


def two_way_p_values(
    values: Float64[ndarray, " q"], images: Float64[ndarray, " q"], seeds: Spread
) -> Float64[ndarray, " q"]:
    """Two-sided p values of values that are 0: where the interval of a level, over images and seeds, just reaches 0.

    Args:
        values: differences, for instance.
        images: their standard errors over images.
        seeds: theirs over seeds.

    Returns:
        p values; NaN where a value or an error is missing.
    """
    return np.array([_p_value(*one, seeds.freedom) for one in zip(values, images, seeds.errors, strict=True)])


def _p_value(value: float, images: float, seeds: float, freedom: int) -> float:
    if not math.isfinite(value + images + seeds):
        return math.nan
    if value == 0:
        return 1.0

    def beyond(log_p: float) -> float:
        half = math.exp(log_p) / 2
        return float((images * norm.isf(half)) ** 2 + (seeds * t.isf(half, freedom)) ** 2 - value**2)

    return math.exp(brentq(beyond, _LEAST, 0.0)) if beyond(_LEAST) > 0 else math.exp(_LEAST)
