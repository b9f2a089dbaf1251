"""Whether methods differ, if seeds scatter all of them alike: one variance, estimated from all methods together.

A test of two methods alone estimates the scatter of their differences from a few seeds, and hardly ever is sure of
anything. All methods together have many more degrees of freedom.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.stats import t

from kdprobe.mean_interval import cut_interval, detectable_difference, holm
from kdprobe.runs.differences import Compared


class Pooled(NamedTuple):
    """What the tests with one variance say.

    Attributes:
        deviation: standard deviation of one training, once what its method and its seed explain is taken out.
        freedom: degrees of freedom of its estimate.
        detectable: the true difference that the strictest of the tests finds with a probability of 80 %.
        differences: as `kdprobe.runs.differences.differences` returns them, without what could not be tested.
    """

    deviation: float
    freedom: int
    detectable: float
    differences: list[Compared]


def pooled_differences(
    accuracy: Float64[ndarray, "methods seeds"], methods: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> Pooled | None:
    """Differences of accuracies, tested with one variance for all methods.

    The model is that of randomised blocks: an accuracy is what its method makes it, plus what its seed does to all
    methods alike, plus independent normal noise of one variance. Methods that lack a seed are left out.

    Args:
        accuracy: shares of the test images; NaN where a training diverged.
        methods: names of the rows.
        pairs: names of the rows that are compared, the one that is subtracted second.

    Returns:
        the tests, p values adjusted by Holm's procedure; None with fewer than two seeds or two whole methods, without
        a pair of such, or if nothing scatters.

    Reference:
        Montgomery (2017), Design and Analysis of Experiments, 9th edition, chapter 4: the randomised complete block
        design.
    """
    whole = ~np.isnan(accuracy).any(1)
    table, names = accuracy[whole], [name for name, kept in zip(methods, whole, strict=True) if kept]
    tested = [(one, other) for one, other in pairs if one in names and other in names]
    if len(names) < 2 or accuracy.shape[1] < 2 or not tested:
        return None
    variance, freedom = residual_variance(table)
    if variance <= np.finfo(np.float64).eps:
        return None
    error = math.sqrt(2 * variance / table.shape[1])
    means = dict(zip(names, table.mean(1).tolist(), strict=True))
    apart = [means[one] - means[other] for one, other in tested]
    p_values = 2 * t.sf(np.abs(apart) / error, freedom)
    half = float(t.ppf(0.975, freedom)) * error
    found = []
    for pair, difference, p_value, adjusted in zip(tested, apart, p_values, holm(p_values), strict=True):
        mean, low, high = cut_interval(difference, half, (-1.0, 1.0))
        numbers = {"difference": mean, "low": low, "high": high, "p_value": p_value, "adjusted_p_value": adjusted}
        named = {"quantity": "accuracy", "method": pair[0], "other": pair[1], "reason": ""}
        found.append(named | {key: float(value) for key, value in numbers.items()})
    return Pooled(math.sqrt(variance), freedom, detectable_difference(error, freedom, tests=len(tested)), found)


def residual_variance(table: Float64[ndarray, "methods seeds"]) -> tuple[float, int]:
    """Variance of what neither the method nor the seed explains, and its degrees of freedom."""
    rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return float((rest**2).sum() / freedom), freedom
