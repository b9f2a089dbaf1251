"""How well networks recognise the test images: accuracy, UAR and per-class shares, each with an interval."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from torch import Tensor

from analyses.bootstrap import Interval, bootstrap
from analyses.confusion import confusion, mean_share, overall_share, shares, tally
from analyses.predictions import Judged
from kdprobe.results import Result, provenance

QUANTITIES: dict[str, tuple[str, Callable[[ndarray], ndarray]]] = {
    "accuracy": ("true", overall_share),
    "uar": ("true", mean_share),
    "recall": ("true", shares),
    "precision": ("predicted", shares),
}


def evaluate(judged: Sequence[Judged], *, confidence: float = 0.95, n_resamples: int = 9999, seed: int = 0) -> Result:
    """Evaluate networks side by side on the same images.

    Args:
        judged: from `predictions.judge`.
        confidence: of the intervals.
        n_resamples: of the bootstrap over images.
        seed: of the bootstrap.

    Returns:
        a result of kind "evaluation" for m networks, n images and C classes: `confusion` [m, C, C]
        counts (rows true classes); `accuracy`, `uar` [m, 3] and `recall`, `precision` [m, C, 3] as
        fractions (value, low, high; NaN for a class without images, or that is never predicted);
        `targets` [n]; `predictions` [m, n]. The facts say where percentiles stand in for BCa.
    """
    data = judged[0].data
    targets = data.test.labels
    predictions = [one.logits.argmax(1) for one in judged]
    matrices = [confusion(targets, predicted, data.n_classes) for predicted in predictions]
    intervals = {
        name: [_interval(matrix, name, confidence, n_resamples, seed) for matrix in matrices] for name in QUANTITIES
    }
    arrays = {
        "confusion": torch.stack(matrices).numpy(),
        "targets": targets.numpy(),
        "predictions": torch.stack(predictions).numpy(),
        **{name: np.stack([interval.ends for interval in found]) for name, found in intervals.items()},
    }
    facts = {
        "names": [one.name for one in judged],
        "classes": list(data.classes),
        "data": data.spec,
        "evaluated_on": data.evaluated_on,
        "n_images": len(targets),
        "confidence": confidence,
        "interval": f"BCa bootstrap over images, {n_resamples} resamples, seed {seed}",
        "percentile_instead_of_bca": _uncorrected(intervals, [one.name for one in judged], data.classes),
        "undefined": "NaN: recall of a class without images, precision of a class that is never predicted",
    }
    return Result("evaluation", arrays, facts, provenance(data=data.spec, models=[one.origin() for one in judged]))


def tidy(result: Result) -> pd.DataFrame:
    """One row per number; cells of the confusion matrix have their count and their share of the true class."""
    names, classes = result.facts["names"], result.facts["classes"]
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(names):
        for quantity in ("accuracy", "uar"):
            rows.append(_row(name, quantity, result.arrays[quantity][index]))
        for position, label in enumerate(classes):
            rows.append(_row(name, "recall", result.arrays["recall"][index, position], true_class=label))
            rows.append(_row(name, "precision", result.arrays["precision"][index, position], predicted_class=label))
        matrix = result.arrays["confusion"][index]
        total = np.broadcast_to(matrix.sum(1, keepdims=True), matrix.shape)
        share = np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
        for (true, predicted), count in np.ndenumerate(matrix):
            cell = {"true_class": classes[true], "predicted_class": classes[predicted], "count": count}
            rows.append({"model": name, "quantity": "confusion", **cell, "value": share[true, predicted]})
    columns = ["model", "quantity", "true_class", "predicted_class", "count", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def summary(result: Result) -> str:
    """A table for reading: one line per network, in percent."""
    rows = [
        {
            "model": name,
            "accuracy": percent(result.arrays["accuracy"][index]),
            "UAR": percent(result.arrays["uar"][index]),
        }
        for index, name in enumerate(result.facts["names"])
    ]
    return pd.DataFrame(rows).to_string(index=False)


def percent(interval: ndarray) -> str:
    """`96.4 % [94.1, 97.9]`."""
    value, low, high = 100 * interval
    return f"{value:.2f} % [{low:.2f}, {high:.2f}]"


def _interval(matrix: Tensor, name: str, confidence: float, n_resamples: int, seed: int) -> Interval:
    by, statistic = QUANTITIES[name]
    counts = tally(matrix, by=by)
    return bootstrap(counts, statistic, confidence=confidence, n_resamples=n_resamples, seed=seed)


def _uncorrected(intervals: dict[str, list[Interval]], names: list[str], classes: Sequence[str]) -> list[str]:
    """Names of all intervals that are plain percentiles."""
    found = []
    for quantity, of_models in intervals.items():
        for name, interval in zip(names, of_models, strict=True):
            labels = [f" of {label}" for label in classes] if interval.corrected.ndim else [""]
            pairs = zip(labels, np.atleast_1d(interval.corrected), strict=True)
            found += [f"{name}: {quantity}{label}" for label, corrected in pairs if not corrected]
    return found


def _row(name: str, quantity: str, interval: ndarray, **classes: str) -> dict[str, Any]:
    value, low, high = interval
    return {"model": name, "quantity": quantity, **classes, "value": value, "low": low, "high": high}
