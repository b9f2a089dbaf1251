"""The BCa bootstrap: intervals that are corrected for bias and for skewness.

Reference: Efron (1987), Better bootstrap confidence intervals, sections 3 and 6.
"""

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from scipy.stats import norm

Array = NDArray[np.float64]

_BLOCKS = 20  # of resamples, to bound the size of intermediate arrays


def resample_counts(n: int, resamples: int, *, seed: int = 0) -> UInt8[np.ndarray, "R n"]:
    """How often each of n values is in each resample; none is there more than 255 times.

    Args:
        n: values to draw from, with replacement.
        resamples: R.
        seed: of the draws.
    """
    rng, counts = np.random.default_rng(seed), np.empty((resamples, n), np.uint8)  # an eighth of the size of weights
    for block in np.array_split(counts, _BLOCKS):
        block[:] = rng.multinomial(n, np.full(n, 1 / n), size=len(block))
    return counts


def resampled_means(counts: UInt8[np.ndarray, "R n"], values: Float[np.ndarray, "n M"]) -> Float[np.ndarray, "R M"]:
    """Mean of the values in each resample."""
    return np.concatenate([(block / len(values)) @ values for block in np.array_split(counts, _BLOCKS)])


def means_without_each(values: Float[np.ndarray, "n M"]) -> Float[np.ndarray, "n M"]:
    """Mean of all values but one, for each one: the jackknife."""
    rest: Array = (values.sum(0) - values) / (len(values) - 1)
    return rest


def bca(
    estimate: Float[np.ndarray, " M"],
    drawn: Float[np.ndarray, "R M"],
    left_out: Float[np.ndarray, "n M"],
    *,
    confidence: float = 0.95,
) -> tuple[Array, Array]:
    """Interval ends of M estimates.

    Where all resamples agree the interval is that point; where they all lie on one side of the estimate, so that BCa
    is not defined, it is the percentile interval.

    Args:
        estimate: from all values.
        drawn: from each of R resamples.
        left_out: from all values but one, for each one.
        confidence: of the intervals, in (0, 1).

    Returns:
        lower and upper ends [M]; NaN where a draw is NaN.
    """
    below = ((drawn < estimate).mean(0) + (drawn <= estimate).mean(0)) / 2
    deviation = left_out.mean(0) - left_out
    spread = (deviation**2).sum(0)
    skewed = (spread > 0) & (below > 0) & (below < 1)
    shift = np.where(skewed, norm.ppf(np.where(skewed, below, 0.5)), 0.0)
    acceleration = np.where(skewed, (deviation**3).sum(0) / (6 * np.where(skewed, spread, 1.0) ** 1.5), 0.0)
    ordered = np.sort(drawn, axis=0)
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = shift + norm.ppf(tail)
        level = norm.cdf(shift + z / (1 - acceleration * z))
        ends.append(_quantile(ordered, level))
    return ends[0], ends[1]


def _quantile(ordered: Array, level: Array) -> Array:
    """One quantile level per column of a sorted [R, M]; a column with NaN gives NaN."""
    position = level * (len(ordered) - 1)
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, len(ordered) - 1)
    columns = np.arange(ordered.shape[1])
    value: Array = ordered[below, columns] + (position - below) * (ordered[above, columns] - ordered[below, columns])
    return np.where(np.isnan(ordered[-1]), np.nan, value)
