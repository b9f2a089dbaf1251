"""Whether networks are right as often as they are sure: expected calibration error and its bins."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64, Int64
from numpy import ndarray
from torch import Tensor

from kdprobe.errors import AnalysisError
from kdprobe.results import Result

N_BINS = 15


class Reliability(NamedTuple):
    """Images by the confidence of their prediction, in bins of equal width over (0, 1].

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
        ECE in 0 to 1. It is never below 0, so that chance alone makes it positive, the more so with few images.

    Raises:
        AnalysisError: for a confidence outside (0, 1].

    Reference:
        Guo et al. (2017), On calibration of modern neural networks, equation 3.
    """
    return float(np.abs(_gaps(confidence, right, n_bins)).sum() / len(confidence))


def calibration_interval(
    confidence: Float64[ndarray, " n"],
    right: Bool[ndarray, " n"],
    *,
    n_bins: int = N_BINS,
    level: float = 0.95,
    n_resamples: int = 1999,
    seed: int = 0,
) -> Float64[ndarray, " 3"]:
    """The ECE with its basic bootstrap interval over images.

    Chance makes the ECE of n images too large, and that of images drawn from them larger by as much again. The basic
    interval turns this around; quantiles of the draws, also BCa's, lie above the ECE of a well calibrated network.

    Args:
        confidence: of each prediction, in (0, 1].
        right: whether it is right.
        n_bins: bins of equal width.
        level: confidence of the interval.
        n_resamples: how many sets of images are drawn.
        seed: of the draws.

    Returns:
        value, low, high: low is below 0 where perfect calibration cannot be excluded, and the value can lie above high.

    Raises:
        AnalysisError: for a confidence outside (0, 1].

    Reference:
        Davison and Hinkley (1997), Bootstrap methods and their application, equation 5.6.
    """
    n, bins, gap = len(confidence), _bins(confidence, n_bins), right - confidence
    rng = np.random.default_rng(seed)
    draws = (rng.integers(n, size=n) for _ in range(n_resamples))
    drawn = [np.abs(np.bincount(bins[draw], gap[draw], n_bins)).sum() / n for draw in draws]
    value = np.abs(np.bincount(bins, gap, n_bins)).sum() / n
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return np.array([value, 2 * value - high, 2 * value - low])


def reliability_result(evaluation: Result) -> Result:
    """The bins behind each ECE of an evaluation.

    Args:
        evaluation: of kind "evaluation", with m networks.

    Returns:
        a result of kind "reliability": `edges` [b + 1] of the bins, `count`, `confidence`, `accuracy`
        [m, b] (NaN in an empty bin), `ece` [m].
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
    return np.asarray(np.ceil(confidence * n_bins).astype(np.int64) - 1)


def _gaps(confidence: ndarray, right: ndarray, n_bins: int) -> ndarray:
    """Sum over each bin's images of right (0 or 1) minus confidence."""
    return np.bincount(_bins(confidence, n_bins), right - confidence, n_bins)
