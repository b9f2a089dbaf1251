"""Which trial is chosen, and what fewer trials would have found."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

CONFIDENCE = 0.95
_TAILS = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2


def best_trial(accuracies: Sequence[float]) -> int | None:
    """The trial of the highest accuracy, the earliest of several; None if all diverged, which NaN stands for."""
    known = [-math.inf if math.isnan(share) else share for share in accuracies]
    best = max(range(len(known)), key=known.__getitem__)
    return None if known[best] == -math.inf else best


def expected_best(accuracies: Float64[ndarray, "trials"]) -> Float64[ndarray, "trials 3"]:
    """The highest accuracy among n of the trials, over all ways of taking n of them, for n = 1, 2, ...

    Nothing is drawn at random: of all subsets of n trials, each counts once. The interval is the middle 95 % of these
    subsets. It shows how much the best depends on which settings happened to be tried; it says nothing of other seeds,
    other held-out images or settings that were not tried, and shrinks to a point where all trials are taken.

    Args:
        accuracies: of all trials; one that diverged, NaN, counts as 0.

    Returns:
        mean, low and high of the best of n trials, in row n - 1.

    Reference:
        Dodge, Gururangan, Card, Schwartz, Smith (2019), Show your work, for draws with replacement; without
        replacement: Tang et al. (2020), Showing your work doesn't always work.
    """
    ordered = np.sort(np.nan_to_num(accuracies))
    count = len(ordered)
    found = np.empty((count, 3))
    for n in range(1, count + 1):
        # of all subsets of n, so many lie within the lowest 1, 2, ... trials
        within = np.array([math.comb(k, n) for k in range(1, count + 1)], dtype=np.float64) / math.comb(count, n)
        mean = float(np.diff(within, prepend=0.0) @ ordered)
        found[n - 1] = [mean, *(_quantile(ordered, within, level) for level in _TAILS)]
    return found


def _quantile(ordered: ndarray, cumulated: ndarray, level: float) -> float:
    """The smallest value that at least this share of the subsets does not exceed."""
    return float(ordered[np.searchsorted(cumulated, level - 1e-12)])
