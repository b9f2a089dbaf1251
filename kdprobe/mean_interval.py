"""Means, differences and intervals over repeated runs, and of shares of images."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float64, Real
from numpy import ndarray
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import chi2, t

from kdprobe.errors import AnalysisError

_Values = Sequence[float] | NDArray[Any]
_Ends = tuple[float, float, float]  # value, low, high
_ROUNDING = 1e-12  # the most by which equal shares differ
_MIDDLES = (np.arange(500) + 0.5) / 500  # of equally likely parts of a distribution

#: how tables of such means explain their numbers
OVER_SEEDS = "mean ± half-width of the 95 % t-interval over seeds, [low, high] where 0 or 100 % cuts it"

#: what is said where no possible difference is large enough for a test
SHOWS_NOTHING = "seeds so few, which scatter so much, cannot be relied on to show any difference"


def check_confidence(confidence: float) -> None:
    """Refuse a level of intervals that is none, such as 95 for 0.95.

    Raises:
        AnalysisError: naming it.
    """
    if not 0 < confidence < 1:
        raise AnalysisError(f"confidence must lie between 0 and 1, such as 0.95, but is {confidence:g}")


def mean_interval(values: _Values, *, confidence: float = 0.95) -> tuple[float, float]:
    """The mean and the half-width of Student's interval around it.

    Args:
        values: independent values; NaN where one is missing.
        confidence: level of the interval, in (0, 1).

    Returns:
        mean (NaN without any value) and half-width (NaN with fewer than two).
    """
    present = _present(values)
    if present.size < 2:
        return (float(present[0]) if present.size else math.nan), math.nan
    error = float(present.std(ddof=1)) / math.sqrt(present.size)
    return float(present.mean()), float(t.ppf(0.5 + confidence / 2, present.size - 1)) * error


def seeds_interval(values: _Values, *, n_images: int | None, confidence: float = 0.95) -> _Ends:
    """The mean share over seeds and the ends of its interval, which stays wide when all seeds agree.

    Args:
        values: one share of the same images per seed, or another quantity from 0 to 1; NaN where one is missing.
        n_images: number of images; None if it is not known, or if the values are not shares of images.
        confidence: level of the interval, in (0, 1).

    Returns:
        mean, low, high: Student's interval, or for equal values the one that the images alone give, within 0 and 1;
        the ends are NaN with fewer than two values, and for equal ones if the number of images is not known.
    """
    mean, half = shares_interval(values, n_images=n_images, confidence=confidence)
    return cut_interval(mean, half)


def shares_interval(values: _Values, *, n_images: int | None, confidence: float = 0.95) -> tuple[float, float]:
    """The same as mean and half-width, which may reach beyond 0 and 1."""
    mean, half = mean_interval(values, confidence=confidence)
    return mean, _of_images(mean, n_images, confidence) if all_equal(values) else half


def cut_interval(value: float, half: float, limits: tuple[float, float] = (0.0, 1.0)) -> _Ends:
    """Value, low, high of a value with the half-width of its interval, cut at the limits of the quantity."""
    value, low, high = within(np.array([value, value - half, value + half]), np.array(limits)).tolist()
    return value, low, high


def within(ends: Float64[ndarray, "*k 3"], limits: Float64[ndarray, "*k 2"]) -> Float64[ndarray, "*k 3"]:
    """Intervals without what is impossible: the true value is never there, so that they cover it as often as before.

    Args:
        ends: value, low, high; NaN where there is none.
        limits: the lowest and the highest value that the quantity can have.

    Returns:
        the same, with no end beyond its limit, or beyond the value where chance has brought this there.
    """
    value = ends[..., :1]
    cut: ndarray = np.clip(ends, np.minimum(limits[..., :1], value), np.maximum(limits[..., 1:], value))
    return cut


def difference_interval(first: _Values, second: _Values, *, n_images: int | None, confidence: float = 0.95) -> _Ends:
    """The mean difference of two shares over the seeds that both have, with the ends of its interval.

    Args:
        first: values by seed; NaN where one is missing.
        second: values that are subtracted.
        n_images: as `seeds_interval` takes it.
        confidence: level of the interval, in (0, 1).

    Returns:
        mean, low, high, within -1 and 1; for equal differences the interval of two independent shares of the images,
        NaN if their number is not known.
    """
    mean, half = _difference(first, second, n_images, confidence)
    return cut_interval(mean, half, (-1.0, 1.0))


def _difference(first: _Values, second: _Values, n_images: int | None, confidence: float = 0.95) -> tuple[float, float]:
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    mean, half = mean_interval(one - other, confidence=confidence)
    if not all_equal(one - other):
        return mean, half
    both = ~np.isnan(one - other)
    return mean, math.hypot(*(_of_images(float(each[both].mean()), n_images, confidence) for each in (one, other)))


def clearness(difference: Mapping[str, Any]) -> tuple[float, float]:
    """What orders differences from the least clearly positive one.

    Args:
        difference: `difference` and `low`, the lower end of its interval; None where there is none.

    Returns:
        lower end, then difference, as several ends may be cut at the same limit; -inf for None.
    """
    low, value = (-math.inf if difference[end] is None else difference[end] for end in ("low", "difference"))
    return low, value


def difference_p_value(first: _Values, second: _Values, *, n_images: int | None) -> float:
    """How often chance gives a mean difference as large, if there is none: Student's, paired by seed.

    Args:
        first: values by seed; NaN where one is missing.
        second: values that are subtracted.
        n_images: as `seeds_interval` takes it.

    Returns:
        below 0.05 just where the interval of `difference_interval` leaves out 0; NaN where there is no interval.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    mean, half = _difference(first, second, n_images)
    freedom = math.inf if all_equal(difference) else _present(difference).size - 1
    if math.isnan(half):
        return math.nan
    return float(2 * t.sf(abs(mean) * t.ppf(0.975, freedom) / half, freedom))


def holm(p_values: Float64[ndarray, "*k"]) -> Float64[ndarray, "*k"]:
    """Holm's adjusted p values: below a level, all tests together give a false alarm as rarely as that level says.

    Args:
        p_values: of all tests of a table, in any shape; NaN where there is no test, which counts as none.

    Returns:
        the adjusted ones, in the same shape.

    Reference:
        Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values.ravel()[tested], kind="stable")]
    steps = p_values.ravel()[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(p_values.size, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.reshape(p_values.shape)


def differs(adjusted_p_value: float | None) -> bool:
    """Whether a test among several found a difference at 5 %; None where there is no test."""
    return adjusted_p_value is not None and adjusted_p_value < 0.05


def detectable_difference(
    error: float, freedom: float, *, tests: int = 1, level: float = 0.05, power: float = 0.8
) -> float:
    """The true difference that a two-sided t test finds with this probability.

    Args:
        error: standard error of the mean difference.
        freedom: its degrees of freedom; infinite where the error is known.
        tests: number of tests among which Holm's smallest p value has to stand out, the strictest of his levels.
        level: at which the tests together are made.
        power: probability of finding it.
    """
    edges, furthest = _edges(freedom, level / tests), 4 * float(t.ppf(1 - level / tests / 2, freedom)) + 20
    return error * float(brentq(lambda steps: _power(steps, edges) - power, 0, furthest))


def largest_difference(shares: _Values) -> float:
    """By how much another share can lie above or below the mean of these, of which NaN are left out."""
    mean = float(_present(shares).mean())
    return max(mean, 1 - mean)


def worded_power(detectable: float, shares: Float64[ndarray, "methods seeds"]) -> str:
    """A sentence on the difference of shares that tests find with a probability of 80 %, or that they find none.

    Args:
        detectable: as `detectable_difference` returns it.
        shares: of the methods that are compared; NaN where one is missing.
    """
    if detectable >= max(largest_difference(row) for row in shares if not np.isnan(row).all()):
        return f"{SHOWS_NOTHING[:1].upper()}{SHOWS_NOTHING[1:]}"
    return f"A true difference of {100 * detectable:.1f} points would have been found with a probability of 80 %"


def seeds_to_tell(
    difference: float, deviation: float, *, tests: int = 1, level: float = 0.05, power: float = 0.8, most: int = 1000
) -> int | None:
    """The least number of seeds with which the paired test finds a true difference with this probability.

    Args:
        difference: the true one.
        deviation: standard deviation of the differences of single seeds.
        tests: as `detectable_difference` takes it.
        level: as there.
        power: probability of finding it.
        most: the largest number that is tried; None is returned if it is not enough.
    """

    def enough(n: int) -> bool:
        return _power(abs(difference) / deviation * math.sqrt(n), _edges(n - 1, level / tests)) >= power

    few, many = 1, most
    if difference == 0 or not enough(many):
        return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


def _power(steps: float, edges: Float64[ndarray, " k"]) -> float:
    """How often a t test finds a difference of so many standard errors: its normal power over all errors there are."""
    return float((ndtr(steps - edges) + ndtr(-steps - edges)).mean())


@lru_cache(maxsize=256)
def _edges(freedom: float, level: float) -> Float64[ndarray, " k"]:
    """What a t test takes for a difference, in true standard errors, at each of equally likely estimates of one."""
    errors = np.sqrt(chi2.ppf(_MIDDLES, freedom) / freedom) if math.isfinite(freedom) else np.ones(1)
    return float(t.ppf(1 - level / 2, freedom)) * errors


def all_equal(values: _Values) -> bool:
    """Whether there are several values and they do not differ."""
    present = _present(values)
    return present.size > 1 and float(np.ptp(present)) <= _ROUNDING * max(1.0, float(np.abs(present).max()))


def worded_interval(
    values: _Values, *, scale: float = 1.0, digits: int = 2, n_images: int | None = None, unit: str = ""
) -> str:
    """`mean ± half-width`, or `mean [low, high]` where 0 or 1 cuts the interval; `-` without a value.

    Without an interval it is the mean alone, or `mean, all equal`.

    Args:
        values: as `seeds_interval` takes them.
        scale: factor by which the shown numbers are multiplied.
        digits: digits after the point.
        n_images: as `seeds_interval` takes it.
        unit: text after the numbers, with its space.
    """
    ends = seeds_interval(values, n_images=n_images)
    return worded(ends, scale=scale, digits=digits, equal=all_equal(values), unit=unit)


def worded(
    ends: Sequence[float],
    *,
    scale: float = 1.0,
    digits: int = 2,
    equal: bool = False,
    signed: bool = False,
    unit: str = "",
) -> str:
    """The words of `worded_interval` for a value and the ends of its interval.

    Args:
        ends: value (NaN if there is none), low and high (NaN if there is no interval).
        scale: factor by which the shown numbers are multiplied.
        digits: digits after the point.
        equal: whether there is no interval because all values are equal.
        signed: whether a plus stands before what is not negative.
        unit: text after the numbers, with its space.
    """
    value, low, high = (scale * end for end in ends)
    if math.isnan(value):
        return "-"
    rounded = round(value, digits + 6)  # else one difference, computed in two ways, may have two last digits
    number = f"{rounded:{'+' if signed else ''}z.{digits}f}"
    if math.isnan(low + high):
        return f"{number}{unit}, all equal" if equal else number + unit
    if math.isclose(high - value, value - low, rel_tol=1e-6, abs_tol=1e-9 * scale):
        return f"{number} ± {high - value:.{digits}f}{unit}"
    return f"{number} [{low:z.{digits}f}, {high:z.{digits}f}]{unit}"


def worded_p_value(p_value: float) -> str:
    """`p = 0.031`, or `p < 0.001` for all that are smaller."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def wilson(tallies: Real[ndarray, "*k 2"], *, confidence: float = 0.95) -> Float64[ndarray, "*k 3"]:
    """A share with Wilson's interval, which is never a point: for 0 right of 88 it reaches up to 4.2 %.

    Args:
        tallies: right and wrong images, or mean numbers of them.
        confidence: level of the interval, in (0, 1).

    Returns:
        value, low, high; NaN without images.

    Reference:
        Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    right, total = tallies[..., 0].astype(float), tallies.sum(-1).astype(float)
    z = normal_quantile(confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = right / total
        scale = 1 + z**2 / total
        middle = (share + z**2 / (2 * total)) / scale
        half = z / scale * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    low = np.where(right == 0, 0.0, middle - half)  # exact where rounding would leave a rest
    high = np.where(right == total, 1.0, middle + half)
    return np.where(total[..., None] > 0, np.stack([share, low, high], axis=-1), np.nan)


def normal_quantile(confidence: float) -> float:
    """The number of standard deviations to either side that hold this share of a normal distribution."""
    return float(ndtri((1 + confidence) / 2))


def _of_images(share: float, n_images: int | None, confidence: float) -> float:
    """Half-width around a share of `n_images` images that covers both Wilson's interval and the binomial one."""
    if not n_images or not 0 <= share <= 1:
        return math.nan
    _, low, high = wilson(np.array([share, 1 - share]) * n_images, confidence=confidence)
    binomial = normal_quantile(confidence) * math.sqrt(share * (1 - share) / n_images)
    return max(float(high) - share, share - float(low), binomial)


def _present(values: _Values) -> NDArray[np.float64]:
    return np.asarray([value for value in values if not math.isnan(value)], dtype=np.float64)
