"""Whether networks are right as often as they are confident: expected calibration error and its bins."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64, Int64
from numpy import ndarray
from scipy.special import ndtri
from torch import Tensor

from kdprobe.errors import AnalysisError
from kdprobe.results import Result

N_BINS = 15
_ON_EDGE = 1e-6  # a probability this near to an edge is on it but for the rounding of float32 logits
_FINE = 1e-3  # of the search for the lower end of an interval


class Reliability(NamedTuple):
    """Images by the confidence of their prediction, in bins (low, high] of equal width over (0, 1].

    Attributes:
        images: how many are in the bin.
        confidence: mean confidence per bin; NaN where it is empty.
        accuracy: share that is right per bin; NaN where it is empty.
    """

    images: Int64[ndarray, " b"]
    confidence: Float64[ndarray, " b"]
    accuracy: Float64[ndarray, " b"]


def confidences(logits: Float32[Tensor, "n C"]) -> Float64[ndarray, " n"]:
    """Probability of the predicted class of each image."""
    found: Float64[ndarray, " n"] = logits.double().softmax(1).amax(1).numpy()
    return found


def reliability(confidence: Float64[ndarray, " n"], right: Bool[ndarray, " n"], *, n_bins: int = N_BINS) -> Reliability:
    """Confidence and accuracy in bins.

    Args:
        confidence: of each prediction, in (0, 1].
        right: whether it is right.
        n_bins: b.

    Raises:
        AnalysisError: for a confidence outside (0, 1].

    Example:
        >>> import numpy as np
        >>> from analyses.evaluation import reliability
        >>> found = reliability(np.full(10, 0.8), np.arange(10) < 6, n_bins=5)
        >>> found.images.tolist(), found.accuracy[3].item()
        ([0, 0, 0, 10, 0], 0.6)
    """
    bins = _bins(confidence, n_bins)
    count = np.bincount(bins, minlength=n_bins)
    sums = (np.bincount(bins, values, n_bins) for values in (confidence, right))
    means = [np.divide(total, count, out=np.full(n_bins, np.nan), where=count > 0) for total in sums]
    return Reliability(count, *means)


def calibration_error(confidence: Float64[ndarray, " n"], right: Bool[ndarray, " n"], *, n_bins: int = N_BINS) -> float:
    """Expected calibration error (ECE): mean distance of accuracy and confidence, bins weighted by their images.

    Args:
        confidence: of each prediction, in (0, 1].
        right: whether it is right.
        n_bins: bins of equal width.

    Returns:
        ECE in 0 to 1. It is never below 0, so chance alone makes it positive, especially with few images.

    Raises:
        AnalysisError: for a confidence outside (0, 1].

    Reference:
        Guo et al. (2017), On calibration of modern neural networks, equation 3.

    Example:
        >>> import numpy as np
        >>> from analyses.evaluation import calibration_error
        >>> round(calibration_error(np.full(10, 0.8), np.arange(10) < 6), 2)  # says 80 %, is right in 60 %
        0.2
    """
    return float(np.abs(_gaps(confidence, right, n_bins)).sum() / len(confidence))


def calibration_interval(
    confidence: Float64[ndarray, " n"],
    right: Bool[ndarray, " n"],
    *,
    n_bins: int = N_BINS,
    level: float = 0.95,
    n_draws: int = 1000,
    seed: int = 0,
) -> Float64[ndarray, " 3"]:
    """The ECE with an interval for the one of all images that n of them were drawn from.

    Chance makes the ECE of n images too large: that of a perfectly calibrated network is never 0. The lower end is
    therefore found by asking which true errors make one as large as was seen: the least error with which that
    happens in one of 40 sets of images (for 95 %), where the bins' gaps are those that were seen, all drawn towards 0
    by the same number of their standard errors. The upper end is the value and 1.96 standard errors.

    Args:
        confidence: of each prediction, in (0, 1].
        right: whether it is right.
        n_bins: bins of equal width.
        level: confidence of the interval.
        n_draws: how many sets of images are drawn.
        seed: of the draws.

    Returns:
        value, low, high, in [0, 1]; low is 0 where perfect calibration cannot be excluded.

    Raises:
        AnalysisError: for a confidence outside (0, 1].
    """
    found, tail, n = reliability(confidence, right, n_bins=n_bins), (1 - level) / 2, len(confidence)
    filled = found.images > 0
    images, sure, share = found.images[filled], found.confidence[filled], found.accuracy[filled]
    gap, weight, z = share - sure, images / n, float(ndtri(1 - tail))
    value = float(np.abs(gap) @ weight)
    smoothed = (share * images + z**2 / 2) / (images + z**2)  # as in Wilson's interval: no bin is without error
    errors = np.sqrt(smoothed * (1 - smoothed) / (images + z**2))
    spread = np.sqrt(np.square(weight * errors).sum() + max(float(weight @ gap**2) - value**2, 0) / n)

    def drawn_towards(steps: float) -> tuple[float, float]:
        """The error with gaps this many standard errors nearer to 0, and how often it gives one as large as seen."""
        true = np.sign(gap) * np.maximum(0, np.abs(gap) - steps * errors)
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(n, weight, size=n_draws)
        hits = rng.binomial(counts, np.clip(sure + true, 0, 1))
        seen = np.abs(hits - counts * sure).sum(1) / n
        return float(np.abs(true) @ weight), float((seen >= value - 1e-12).mean())

    low = _least(drawn_towards, float((np.abs(gap) / errors).max()) + 1e-9, tail)
    return np.array([value, min(low, value), min(value + z * float(spread), 1.0)])


def _least(drawn_towards: Callable[[float], tuple[float, float]], furthest: float, tail: float) -> float:
    """The smallest true error that is not excluded, by bisection from no step to enough to close every gap."""
    error, share = drawn_towards(furthest)
    near, far = 0.0, furthest
    while share < tail and far - near > _FINE * furthest:
        middle = (near + far) / 2
        near, far = (middle, far) if drawn_towards(middle)[1] >= tail else (near, middle)
    return error if share >= tail else drawn_towards(near)[0]


def reliability_result(evaluation: Result) -> Result:
    """The bins behind each ECE of an evaluation.

    Args:
        evaluation: of kind "evaluation", with m networks.

    Returns:
        a result of kind "reliability": `edges` [b + 1] of the bins, `count`, `confidence`, `accuracy`
        [m, b] (NaN in an empty bin), `ece` [m]; `targets` [n] and `bins` [m, n], where each image is.
    """
    arrays = evaluation.arrays
    right = arrays["predictions"] == arrays["targets"]
    bins = [reliability(*pair) for pair in zip(arrays["confidences"], right, strict=True)]
    numbers = {
        "edges": np.linspace(0, 1, N_BINS + 1),
        "count": np.stack([one.images for one in bins]),
        "confidence": np.stack([one.confidence for one in bins]),
        "accuracy": np.stack([one.accuracy for one in bins]),
        "ece": arrays["ece"][:, 0],
        "targets": arrays["targets"],
        "bins": np.stack([_bins(one, N_BINS) for one in arrays["confidences"]]),
    }
    facts = {key: evaluation.facts[key] for key in ("names", "data", "evaluated_on", "n_images")}
    return Result("reliability", numbers, facts | {"undefined": "NaN: empty bin"}, evaluation.provenance)


def reliability_table(result: Result) -> pd.DataFrame:
    """One row per network and bin."""
    edges, columns = result.arrays["edges"], ("count", "confidence", "accuracy")
    tables = [
        pd.DataFrame({"model": name, "from": edges[:-1], "to": edges[1:]} | {c: result.arrays[c][i] for c in columns})
        for i, name in enumerate(result.facts["names"])
    ]
    return pd.concat(tables)


def _bins(confidence: ndarray, n_bins: int) -> ndarray:
    if not ((confidence > 0) & (confidence <= 1)).all():
        raise AnalysisError(f"confidences must be in (0, 1], but run from {confidence.min():g} to {confidence.max():g}")
    steps = confidence * n_bins
    return np.asarray(np.maximum(np.ceil(steps - _ON_EDGE * n_bins).astype(np.int64) - 1, 0))


def _gaps(confidence: ndarray, right: ndarray, n_bins: int) -> ndarray:
    """Sum over each bin's images of right (0 or 1) minus confidence."""
    return np.bincount(_bins(confidence, n_bins), right - confidence, n_bins)
