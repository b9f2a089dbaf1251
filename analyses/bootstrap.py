"""Bootstrap intervals of CKA, by resampling whole minibatches.

Samples are never resampled: a duplicate counts as perfect similarity off the diagonal, which turns
the CKA of independent features from 0 into almost 1.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from scipy.stats import norm

Array = NDArray[np.float64]

MIN_MINIBATCHES = 5  # with three, an interval of 95 % holds the value in 68 % of the cases, with six in 90
_BLOCKS = 20  # of resamples, for the size of what is made on the way


def ratio_intervals(
    xy: Float[np.ndarray, "k L M"],
    xx: Float[np.ndarray, "k L"],
    yy: Float[np.ndarray, "k M"],
    *,
    sizes: Sequence[int] | None = None,
    confidence: float = 0.95,
    resamples: int = 1999,
    seed: int = 0,
) -> tuple[Array, Array]:
    """BCa intervals of mean(xy) / sqrt(mean(xx) mean(yy)) for every pair of layers.

    Where all resamples agree the interval is that point; where they all lie on one side of the
    estimate, so that BCa is not defined, it is the percentile interval.

    Args:
        xy: HSIC of k minibatches for L x M pairs of layers.
        xx: HSIC of each of the L layers with itself.
        yy: HSIC of each of the M layers with itself.
        sizes: weights of the minibatches in the means; equal if not given.
        confidence: of the interval, in (0, 1).
        resamples: bootstrap samples, shared by all pairs.
        seed: of the resampling.

    Returns:
        lower and upper ends [L, M]; NaN where k < 5 or where a resample has no positive denominator.

    Reference:
        Efron (1987), Better bootstrap confidence intervals, sections 3 and 6.
    """
    k, n_rows, n_columns = xy.shape
    low, high = np.full((n_rows, n_columns), np.nan), np.full((n_rows, n_columns), np.nan)
    if k < MIN_MINIBATCHES:
        return low, high
    counts = _counts(k, resamples, np.random.default_rng(seed))
    weights = np.ones((k, 1)) if sizes is None else np.array(sizes, np.float64)[:, None] * k / np.sum(sizes)
    xx, yy = xx * weights, yy * weights
    drawn_xx, drawn_yy = _means(counts, xx), _means(counts, yy)
    for row in range(n_rows):
        cells = xy[:, row] * weights
        estimate = _ratio(cells.mean(0), xx[:, [row]].mean(0), yy.mean(0))
        drawn = _ratio(_means(counts, cells), drawn_xx[:, [row]], drawn_yy)
        left_out = _ratio(_without_each(cells), _without_each(xx[:, [row]]), _without_each(yy))
        low[row], high[row] = _bca(estimate, drawn, left_out, confidence)
    return low, high


def missing_interval(matrix: Float64[np.ndarray, "L M"], low: Float64[np.ndarray, "L M"], n_minibatches: int) -> str:
    """Why a defined value has no interval; empty where each has one."""
    if not (np.isnan(low) & ~np.isnan(matrix)).any():
        return ""
    if n_minibatches < MIN_MINIBATCHES:
        return f"intervals need at least {MIN_MINIBATCHES} minibatches, but there were {n_minibatches}"
    return "some resamples of the minibatches give a layer no positive HSIC with itself"


def _counts(k: int, resamples: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """How often each of k minibatches is in each resample: [resamples, k]; more than 255 times it never is."""
    counts = np.empty((resamples, k), np.uint8)  # an eighth of what weights would take
    for block in np.array_split(counts, _BLOCKS):
        block[:] = rng.multinomial(k, np.full(k, 1 / k), size=len(block))
    return counts


def _means(counts: NDArray[np.uint8], values: Array) -> Array:
    """Mean of k values [k, M] in each resample: [resamples, M]."""
    return np.concatenate([(block / len(values)) @ values for block in np.array_split(counts, _BLOCKS)])


def _ratio(xy: Array, xx: Array, yy: Array) -> Array:
    scale = np.sqrt(np.maximum(xx, 0)) * np.sqrt(np.maximum(yy, 0))
    return np.where(scale > 0, xy, np.nan) / np.where(scale > 0, scale, 1.0)


def _without_each(values: Array) -> Array:
    """Means of all minibatches but one, for each one."""
    rest: Array = (values.sum(0) - values) / (len(values) - 1)
    return rest


def _bca(estimate: Array, drawn: Array, left_out: Array, confidence: float) -> tuple[Array, Array]:
    """Interval ends [M] from the estimate [M], bootstrap draws [R, M] and jackknife values [k, M]."""
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
