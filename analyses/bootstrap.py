"""Confidence intervals over images.

To draw n images with replacement and count the right and wrong ones of each class is to draw those
counts from a multinomial distribution; so the images themselves are not needed, and thousands of
resamples of any number of images cost milliseconds.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray
from scipy.special import ndtr, ndtri

Statistic = Callable[[ndarray], ndarray]


class Interval(NamedTuple):
    """A value, the ends of its interval, and whether BCa gave them.

    Attributes:
        ends: [..., 3]: value, low, high; NaN where the value is undefined.
        corrected: [...]: true for BCa, false where it degenerates and plain percentiles are given.
    """

    ends: Float64[ndarray, "*k 3"]
    corrected: ndarray


def bootstrap(
    tally: Int64[ndarray, "C 2"],
    statistic: Statistic,
    *,
    confidence: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Bias-corrected and accelerated (BCa) interval of a statistic of right and wrong counts.

    Args:
        tally: right and wrong images of each class.
        statistic: tallies [..., C, 2] -> values [...] or [..., K], NaN where undefined.
        confidence: in (0, 1).
        n_resamples: how many sets of images are drawn.
        seed: of the draws.

    Returns:
        the interval; plain percentiles where BCa degenerates: all resamples on one side of the value,
        or a value that leaving out one image makes undefined or does not change.

    Reference:
        Efron (1987), Better bootstrap confidence intervals, equations 2.3 and 6.6.
    """
    drawn = statistic(_resamples(tally, n_resamples, np.random.default_rng(seed)))
    left_out, weights = _jackknife(tally, statistic)
    return bca(statistic(tally), drawn, left_out, weights, confidence=confidence)


def bca(
    estimate: ndarray, drawn: ndarray, left_out: ndarray, weights: ndarray, *, confidence: float = 0.95
) -> Interval:
    """The interval that resamples and a jackknife give.

    Args:
        estimate: [...] of all images.
        drawn: [R, ...] of the resamples.
        left_out: [m, ...] of all images but one.
        weights: [m], for how many images each of these stands.
        confidence: in (0, 1).
    """
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2]).reshape(2, *[1] * estimate.ndim)
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = _levels(tails, estimate, drawn, left_out, weights)
    corrected = np.isfinite(levels).all(0)
    levels = np.where(corrected, levels, tails)
    return Interval(np.stack([estimate, *_quantiles(drawn, levels)], axis=-1), corrected)


def _resamples(tally: ndarray, n_resamples: int, rng: np.random.Generator) -> ndarray:
    n = int(tally.sum())
    return rng.multinomial(n, tally.ravel() / n, size=n_resamples).reshape(n_resamples, *tally.shape)


def _jackknife(tally: ndarray, statistic: Statistic) -> tuple[ndarray, ndarray]:
    """The statistic without one image, and for how many images it is that."""
    cells = np.flatnonzero(tally)
    smaller = np.repeat(tally[None], len(cells), axis=0)
    smaller.reshape(len(cells), -1)[np.arange(len(cells)), cells] -= 1
    if tally.sum() == 1:
        return np.full((1, *statistic(tally).shape), np.nan), np.ones(1)
    return statistic(smaller), tally.ravel()[cells].astype(float)


def _levels(tails: ndarray, estimate: ndarray, drawn: ndarray, left_out: ndarray, weights: ndarray) -> ndarray:
    """Quantile levels [2, ...] of the resamples at which the BCa interval ends."""
    n_defined = np.maximum((~np.isnan(drawn)).sum(0), 1)
    below = ((drawn < estimate).sum(0) + (drawn == estimate).sum(0) / 2) / n_defined
    bias = ndtri(below)
    influence = np.average(left_out, axis=0, weights=weights) - left_out
    square, cube = (np.tensordot(weights, influence**power, 1) for power in (2, 3))
    acceleration = cube / (6 * square**1.5)
    shifted = bias + ndtri(tails)
    return np.asarray(ndtr(bias + shifted / (1 - acceleration * shifted)))


def _quantiles(drawn: ndarray, levels: ndarray) -> list[ndarray]:
    """Quantile of each column at a level of its own, over the resamples in which it is defined."""
    columns = drawn.reshape(len(drawn), -1).T
    ends = []
    for level in levels:
        pairs = zip(columns, np.broadcast_to(level, drawn.shape[1:]).ravel(), strict=True)
        found = [_quantile(column[~np.isnan(column)], at) for column, at in pairs]
        ends.append(np.array(found).reshape(drawn.shape[1:]))
    return ends


def _quantile(values: ndarray, level: float) -> float:
    return float(np.quantile(values, level)) if len(values) else float("nan")
