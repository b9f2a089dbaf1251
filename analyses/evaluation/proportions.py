"""The interval of the mean of several classes' shares of images."""

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from kdprobe.mean_interval import normal_quantile

_STEPS = 60  # of bisection


def mean_of_shares(tally: Int64[ndarray, "C 2"], *, confidence: float = 0.95) -> Float64[ndarray, " 3"]:
    """The mean over classes of their shares, each class counting alike, with its score interval.

    The ends are the means that are just `z` standard errors from the value, where the errors are those that the classes
    would have if that mean were true: of all shares with this mean, the most likely ones. Of one class it is Wilson's
    interval. A class of few images has its share estimated from them, for which its variance is made larger.

    Args:
        tally: right and wrong images of each class; classes without images do not count.
        confidence: in (0, 1).

    Returns:
        value, low, high; NaN without images.

    Reference:
        Miettinen, Nurminen (1985), Comparative analysis of two rates, for the constrained estimates and the score.
    """
    counts = tally[tally.sum(1) > 0].astype(float)
    if not len(counts):
        return np.full(3, np.nan)
    right, total = counts[:, 0], counts.sum(1)
    value = float((right / total).mean())
    high = 1 - _end(1 - value, total - right, total, normal_quantile(confidence))
    return np.array([value, min(_end(value, right, total, normal_quantile(confidence)), value), max(high, value)])


def _end(value: float, right: ndarray, total: ndarray, z: float) -> float:
    """The lower end: a search over the multiplier by which the most likely shares are held to their mean."""
    n_classes = len(total)
    near, far = -30.0, 30.0 + float(np.log(total.max()))
    mean = value
    for _ in range(_STEPS):
        middle = (near + far) / 2
        likely = _held(np.exp(middle), right, total)
        mean = float(likely.mean())
        errors = likely * (1 - likely) / (total - (n_classes - 1) / n_classes)
        if (value - mean) ** 2 > z**2 * float(errors.sum()) / n_classes**2 + 1e-15:
            far = middle
        else:
            near = middle
    return mean


def _held(multiplier: float, right: ndarray, total: ndarray) -> ndarray:
    """Root in [0, 1] of `m p^2 - (n + m) p + x = 0`, where the likelihood's slope in each share p is m."""
    linear = total + multiplier
    root = np.sqrt(np.maximum(linear**2 - 4 * multiplier * right, 0))
    return np.asarray(np.clip(2 * right / (linear + root), 0, 1))
