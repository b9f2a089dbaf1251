"""Intervals of CKA, over minibatches: from the three sums without each of them, in closed form.

Samples are never resampled: a duplicate counts as perfect similarity off the diagonal, which turns
the CKA of independent features from 0 into almost 1.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from analyses.jackknife import MIN_GROUPS, Array, jackknife_t, too_few


def ratio(xy: Array, xx: Array, yy: Array) -> Array:
    """CKA of HSIC: xy / sqrt(xx yy), NaN where xx or yy is not positive."""
    scale = np.sqrt(np.maximum(xx, 0)) * np.sqrt(np.maximum(yy, 0))  # the root of a product of small numbers would be 0
    return np.where(scale > 0, xy, np.nan) / np.where(scale > 0, scale, 1.0)


def half_widths(
    xy: Float[np.ndarray, "k L M"],
    xx: Float[np.ndarray, "k L"],
    yy: Float[np.ndarray, "k M"],
    *,
    sizes: Sequence[int],
    confidence: float = 0.95,
) -> Float64[np.ndarray, "L M"]:
    """Half the widths of the jackknife's intervals around sum(xy) / sqrt(sum(xx) sum(yy)), for every pair of layers.

    Nothing is clipped: an end beyond 1 says how far chance reaches, as any other does.

    Args:
        xy: HSIC of k minibatches for L x M pairs of layers.
        xx: HSIC of each of the L layers with itself.
        yy: HSIC of each of the M layers with itself.
        sizes: samples of each minibatch, its weight in the sums.
        confidence: of the interval, in (0, 1).

    Returns:
        NaN for fewer than 3 minibatches, and where a layer has no positive HSIC with itself without one of them.
    """
    halves = np.full(xy.shape[1:], np.nan)
    if len(sizes) < MIN_GROUPS:
        return halves
    weights = np.array(sizes, np.float64)[:, None]
    rest_xx, rest_yy = without_each(weights * xx), without_each(weights * yy)
    for row in range(len(halves)):  # row by row: of all pairs, the values without each minibatch would be many
        rest = ratio(without_each(weights * xy[:, row]), rest_xx[:, [row]], rest_yy)
        halves[row] = jackknife_t(rest, sizes, confidence)
    return halves


def missing_interval(matrix: Float64[np.ndarray, "L M"], half: Float64[np.ndarray, "L M"], n_minibatches: int) -> str:
    """Why a defined value has no interval; empty where each has one."""
    if not (np.isnan(half) & ~np.isnan(matrix)).any():
        return ""
    return too_few(n_minibatches, "minibatches") or (
        "without one of the minibatches, a layer has no positive HSIC with itself"
    )


def without_each(parts: Float[np.ndarray, "k *shape"]) -> Float64[np.ndarray, "k *shape"]:
    """The sum of all parts but one, for each one; no difference, which a large part would leave empty."""
    rest = np.zeros_like(parts)
    rest[1:] = np.cumsum(parts[:-1], axis=0)
    rest[:-1] += np.cumsum(parts[:0:-1], axis=0)[::-1]
    return rest
