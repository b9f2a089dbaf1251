"""How well networks recognise the test images: accuracy, UAR and per-class shares, each with an interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from torch import Tensor

from analyses.evaluation.calibration import calibration_interval, confidences
from analyses.evaluation.permutation import paired_permutation
from analyses.evaluation.predictions import Judged
from analyses.evaluation.proportions import mean_of_shares
from analyses.evaluation.recall import confusion, tally
from kdprobe.devices import exact_float32
from kdprobe.formats.tables import aligned
from kdprobe.mean_interval import check_confidence, holm, wilson, worded_p_value
from kdprobe.provenance import provenance
from kdprobe.results import Result

_COLUMNS = ["quantity", "true_class", "predicted_class", "count", "value", "low", "high", "p_value", "adjusted_p_value"]


@exact_float32
def evaluate(
    judged: Sequence[Judged],
    *,
    against: int | None = None,
    probe: Mapping[str, Any] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Result:
    """Evaluate networks side by side on the same images.

    Args:
        judged: from `predictions.judge` or `probing.judge_by_probe`.
        against: place of the network that all are tested against.
        probe: how networks were judged by their features, from `probing.judge_by_probe`.
        confidence: of the intervals.
        seed: of permutations, and of the draws behind the lower end of the ECE.

    Returns:
        a result of kind "evaluation" for m networks, n images and C classes: `confusion` [m, C, C]
        counts (rows true classes); `accuracy`, `uar`, `ece` [m, 3] and `recall`, `precision` [m, C, 3]
        as fractions (value, low, high; NaN for a class without images, or that is never predicted);
        `targets` [n]; `predictions`, `confidences` [m, n]; with `against` also `accuracy_difference` and
        `uar_difference` [m, 2] (difference, p-value).

    Example:
        >>> from pathlib import Path
        >>> from analyses.evaluation import evaluate, judge
        >>> from kdprobe.models import create, save
        >>> save(create("resnet8", n_classes=10, image_size=8), Path("student.safetensors"))
        >>> result = evaluate(judge("student.safetensors", "digits"))
        >>> int(result.arrays["confusion"].sum()), sorted(result.arrays)[:3]
        (359, ['accuracy', 'confidences', 'confusion'])
    """
    check_confidence(confidence)
    data, names = judged[0].data, [one.name for one in judged]
    targets, predictions = data.test.labels, [one.logits.argmax(1) for one in judged]
    matrices = [confusion(targets, predicted, data.n_classes) for predicted in predictions]
    sure = [confidences(one.logits) for one in judged]
    right = [(predicted == targets).numpy() for predicted in predictions]
    intervals = [_intervals(matrix, confidence) for matrix in matrices]
    ece = [calibration_interval(*pair, level=confidence, seed=seed) for pair in zip(sure, right, strict=True)]
    arrays = {
        "confusion": torch.stack(matrices).numpy(),
        "targets": targets.numpy(),
        "predictions": torch.stack(predictions).numpy(),
        "confidences": np.stack(sure),
        **{name: np.stack([found[name] for found in intervals]) for name in intervals[0]},
        "ece": np.stack(ece),
        **({} if against is None else _differences(right, against, targets.numpy(), seed)),
    }
    facts = {
        "names": names,
        "classes": list(data.classes),
        "data": data.spec,
        "evaluated_on": data.evaluated_on,
        "n_images": len(targets),
        "confidence": confidence,
        "against": None if against is None else names[against],
        "interval": "Wilson's of shares, score interval of the UAR, test inversion of the ECE",
        "undefined": "NaN: recall of a class without images, precision of a class that is never predicted",
        **({} if probe is None else {"probe": dict(probe)}),
    }
    return Result("evaluation", arrays, facts, provenance(data=data.spec, models=[one.origin() for one in judged]))


def evaluation_table(result: Result) -> pd.DataFrame:
    """One row per number; cells of the confusion matrix have their count and their share of the true class."""
    tables = [_numbers(result, index).assign(model=name) for index, name in enumerate(result.facts["names"])]
    return pd.concat(tables, ignore_index=True)[["model", *_COLUMNS]]


def _numbers(result: Result, index: int) -> pd.DataFrame:
    arrays, classes = result.arrays, result.facts["classes"]
    rows: list[dict[str, Any]] = [_row(key, arrays[key][index]) for key in ("accuracy", "uar", "ece")]
    for key in [key for key in arrays if key.endswith("_difference")]:
        value, p_value = arrays[key][index]
        tested = {"p_value": p_value, "adjusted_p_value": _adjusted(result, key)[index]}
        rows.append({"quantity": key.replace("_", " "), "value": value, **tested})
    rows += [_row("recall", ends, true_class=c) for c, ends in zip(classes, arrays["recall"][index], strict=True)]
    rows += [
        _row("precision", ends, predicted_class=c) for c, ends in zip(classes, arrays["precision"][index], strict=True)
    ]
    matrix = arrays["confusion"][index]
    total = np.broadcast_to(matrix.sum(1, keepdims=True), matrix.shape)
    share = np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
    cells = {"true_class": np.repeat(classes, len(classes)), "predicted_class": np.tile(classes, len(classes))}
    cells |= {"count": matrix.ravel(), "value": share.ravel()}
    return pd.concat([pd.DataFrame(rows), pd.DataFrame(cells).assign(quantity="confusion")]).reindex(columns=_COLUMNS)


def evaluation_summary(result: Result) -> str:
    """A table for reading: one line per network, in percent."""
    arrays, titles = result.arrays, {"accuracy": "accuracy", "uar": "UAR", "ece": "ECE"}
    table = {"model": result.facts["names"]}
    table |= {title: [worded_share(interval) for interval in arrays[key]] for key, title in titles.items()}
    if result.facts["against"] is not None:
        for key in ("accuracy", "uar"):
            found = zip(arrays[f"{key}_difference"][:, 0], _adjusted(result, f"{key}_difference"), strict=True)
            words = ["-" if np.isnan(p) else f"{100 * d:+.2f} ({worded_p_value(p)})" for d, p in found]
            table[f"{titles[key]} - {result.facts['against']}"] = words
    tests = []
    if result.facts["against"] is not None:
        tests = [
            f"p of a difference from {result.facts['against']} by permutation over the images"
            + (", Holm's for all networks tested" if len(result.facts["names"]) > 2 else "")
            + "; it is of these networks, not of their methods: other seeds give other ones"
        ]
    return "\n".join([aligned(table), *tests])


def _adjusted(result: Result, key: str) -> ndarray:
    """Holm's p values over all networks that are tested against one; NaN for that one."""
    p_values = np.array(result.arrays[key][:, 1], dtype=np.float64)
    p_values[result.facts["names"].index(result.facts["against"])] = np.nan
    return holm(p_values)


def worded_share(interval: ndarray) -> str:
    """`96.4 % [94.1, 97.9]`."""
    value, low, high = 100 * interval
    return f"{value:.2f} % [{low:.2f}, {high:.2f}]"


def _intervals(matrix: Tensor, confidence: float) -> dict[str, ndarray]:
    by_true = tally(matrix)
    return {
        "accuracy": wilson(by_true.sum(0), confidence=confidence),
        "uar": mean_of_shares(by_true, confidence=confidence),
        "recall": wilson(by_true, confidence=confidence),
        "precision": wilson(tally(matrix, by="predicted"), confidence=confidence),
    }


def _differences(right: list[ndarray], against: int, targets: ndarray, seed: int) -> dict[str, ndarray]:
    tests = [paired_permutation(one, right[against], targets, seed=seed) for one in right]
    return {f"{name}_difference": np.array([test[i] for test in tests]) for i, name in enumerate(("accuracy", "uar"))}


def _row(quantity: str, interval: ndarray, **classes: str) -> dict[str, Any]:
    value, low, high = interval
    return {"quantity": quantity, **classes, "value": value, "low": low, "high": high}
