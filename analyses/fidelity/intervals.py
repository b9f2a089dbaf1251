"""Intervals of kappas and of skewed means, which cover for few images and for networks that nearly always agree."""

import math

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.stats import t

from analyses.evaluation.common_answers import beyond_chance
from analyses.fidelity.quantities import ROUNDING
from kdprobe.mean_interval import wilson

_DRAWS = 20_000
_FLAT = 1e-9  # skewness below which a mean needs no correction


def skewed_mean(values: Float64[ndarray, " n"], *, confidence: float = 0.95) -> Float64[ndarray, " 3"]:
    """A mean with Student's interval, corrected for the skewness of the values.

    Args:
        values: independent ones, of any skewness.
        confidence: in (0, 1).

    Returns:
        value, low, high; no interval (NaN) for fewer than three values, or for equal ones (to 1e-12).

    Reference:
        Hall (1992), On the removal of skewness by transformation, the cubic transformation of section 2.
    """
    n, mean = len(values), float(values.mean())
    spread = float(values.std())
    if n < 3 or spread <= ROUNDING * max(abs(mean), 1.0):
        return np.array([mean, math.nan, math.nan])
    skewness = float((((values - mean) / spread) ** 3).mean())
    quantile = float(t.ppf((1 + confidence) / 2, n - 1)) * math.sqrt(n / (n - 1))

    def away(y: float) -> float:
        """How many spreads the mean lies above the truth where the transformed statistic is y."""
        shifted = y / math.sqrt(n) - skewness / (6 * n)
        slope = skewness / 3
        return shifted if abs(slope) < _FLAT else float(np.cbrt(1 + 3 * slope * shifted) - 1) / slope

    low, high = mean - spread * away(quantile), mean - spread * away(-quantile)
    return np.array([mean, min(low, mean), max(high, mean)])


def kappa_interval(
    agreement: float, expected: float, influences: Float64[ndarray, " n"], *, confidence: float = 0.95
) -> Float64[ndarray, " 3"]:
    """Cohen's kappa of two networks' answers, with Wilson's interval of their agreement on the scale of kappa.

    The number of images behind it is the one with which the agreement would have kappa's standard error. So it is the
    usual interval where there are many images, and it is no point where all answers agree.

    Args:
        agreement: share of equal answers.
        expected: the share that chance gives.
        influences: what each image adds to kappa.
        confidence: in (0, 1).

    Returns:
        value, low, high; NaN where kappa is not defined.

    Reference:
        Fleiss, Cohen, Everitt (1969), Large sample standard errors of kappa; Korn, Graubard (1998), Confidence
        intervals for proportions with small expected number of positive counts, for the number of images.
    """
    kappa = beyond_chance(agreement, expected)
    if math.isnan(kappa):
        return np.full(3, np.nan)
    error, binomial = float(np.square(influences).mean()), agreement * (1 - agreement) / (1 - expected) ** 2
    n_effective = len(influences) * (binomial / error if min(error, binomial) > 0 else 1.0)
    _, low, high = wilson(np.array([agreement, 1 - agreement]) * n_effective, confidence=confidence)
    return np.array([kappa, min(beyond_chance(low, expected), kappa), max(beyond_chance(high, expected), kappa)])


def consistency_interval(
    table: Float64[ndarray, "2 2"], value: float, *, confidence: float = 0.95, seed: int = 0
) -> Float64[ndarray, " 3"]:
    """Error consistency with its interval: quantiles of Jeffreys' posterior of the four shares of images.

    Args:
        table: images that both get right, only one; only the other, neither; or mean numbers of them.
        value: the estimate.
        confidence: in (0, 1).
        seed: of the draws.

    Returns:
        value, low, high; NaN where error consistency is not defined.

    Reference:
        Jeffreys (1946), An invariant form for the prior probability in estimation problems: a half in each cell.
    """
    if math.isnan(value):
        return np.full(3, np.nan)
    shares = np.random.default_rng(seed).dirichlet(table.ravel() + 0.5, _DRAWS)
    one, other = shares[:, 0] + shares[:, 1], shares[:, 0] + shares[:, 2]
    expected = one * other + (1 - one) * (1 - other)
    drawn = (shares[:, 0] + shares[:, 3] - expected) / (1 - expected)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return np.array([value, min(low, value), max(high, value)])
