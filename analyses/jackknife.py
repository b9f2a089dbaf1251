"""The delete-one jackknife with Student's t: intervals from what an estimate is without each group of samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from scipy.stats import t

Array = NDArray[np.float64]

MIN_GROUPS = 3  # of two, Student's t has one degree of freedom and an interval hardly ever says anything


def jackknife_t(
    leave_one_out: Float[np.ndarray, "K *shape"],
    weights: Sequence[float] | NDArray[Any] | None = None,
    level: float = 0.95,
) -> Float64[np.ndarray, "*shape"]:
    """Half the width of the interval around an estimate from K independent groups: minibatches, images, patients.

    The standard error is the weighted jackknife's, with `p` the share of each group in all weights:
    `sum((1 - p) * (leave_one_out - centre) ** 2)`, which is the usual one where all weigh the same. Student's t has
    K - 1 degrees of freedom then, and fewer (Satterthwaite's) where a few groups hold most of the weight.

    Args:
        leave_one_out: the estimate from all groups but one, for each one, in any number of quantities.
        weights: how much each group counts, such as its number of samples; all alike if not given.
        level: confidence of the interval, in (0, 1).

    Returns:
        half-width for each quantity: the interval is estimate ± half-width. NaN for fewer than 3 groups, and where a
        value is not finite.

    Reference:
        Wu (1986), Jackknife, bootstrap and other resampling methods in regression analysis, section 5; Satterthwaite
        (1946), An approximate distribution of estimates of variance components.
    """
    n_groups = len(leave_one_out)
    if n_groups < MIN_GROUPS:
        return np.full(leave_one_out.shape[1:], np.nan)
    share = np.ones(n_groups) if weights is None else np.asarray(weights, np.float64)
    share = share / share.sum()
    rest = np.where(np.isfinite(leave_one_out), leave_one_out, np.nan).astype(np.float64)
    centre = np.tensordot(1 - share, rest, 1) / (n_groups - 1)
    variance = np.tensordot(1 - share, (rest - centre) ** 2, 1)
    return np.asarray(t.ppf((1 + level) / 2, _degrees_of_freedom(share)) * np.sqrt(variance))


def too_few(n_groups: int, what: str) -> str:
    """Why there is no interval, or nothing if there are enough groups.

    Args:
        n_groups: how many there were.
        what: the groups' name, such as `minibatches`.
    """
    return "" if n_groups >= MIN_GROUPS else f"intervals need at least {MIN_GROUPS} {what}, but there were {n_groups}"


def _degrees_of_freedom(share: Array) -> float:
    """Satterthwaite's, for groups whose variance goes with 1 / share; K - 1 where all shares are equal."""
    leverage = share / (1 - share)
    return float(1 / ((share**2).sum() + (leverage @ share) ** 2 - ((leverage * share) ** 2).sum()))
