"""Does a network of basic emotions see both halves of a compound one?

Such a network names one class, but ranks all; a compound image shows two. Three readings of the
ranking, each at most as large as the next: *both* (the two best are the pair), *single* (the best is one
of the pair), *single_top2* (one of the two best is one of the pair).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from analyses.arrays import takes_arrays
from analyses.evaluation.accuracy import worded_share
from analyses.evaluation.predictions import Judged
from kdprobe.data import DataSet
from kdprobe.data.sources.ferplus import FAMILIES, compounds
from kdprobe.data.sources.rafdb import BASIC, COMPOUND
from kdprobe.devices import exact_float32
from kdprobe.errors import AnalysisError
from kdprobe.formats.tables import aligned
from kdprobe.mean_interval import check_confidence, wilson
from kdprobe.provenance import provenance
from kdprobe.results import Result

READINGS = ("both", "single", "single_top2")
NEUTRAL = "neutral"


class Emotions(NamedTuple):
    """The emotions of a data set of compound ones: the basic ones, and which two each class is made of."""

    basic: tuple[str, ...]
    compound: Mapping[str, tuple[int, int]]


_KNOWN = (Emotions(BASIC, COMPOUND), *(Emotions(emotions, compounds(emotions)) for emotions in FAMILIES.values()))


class CompoundAccuracy(NamedTuple):
    """Shares of images, in 0 to 1."""

    both: float
    single: float
    single_top2: float


@takes_arrays
def compound_accuracy(scores: Float[Tensor, "n C"], pairs: Int64[Tensor, "n 2"]) -> CompoundAccuracy:
    """Score single-label predictions on images of two classes each.

    Args:
        scores: logits or probabilities of the C basic classes; -inf for a class that must not be chosen.
        pairs: the two classes of each image, in any order.

    Raises:
        AnalysisError: if there are no images, a score is NaN, or a pair is not two of the classes.

    Example:
        >>> import torch
        >>> from analyses.evaluation import compound_accuracy
        >>> scores = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.5, 0.4]])
        >>> found = compound_accuracy(scores, torch.tensor([[0, 1], [0, 2]]))
        >>> found.both, found.single, found.single_top2
        (0.5, 0.5, 1.0)
    """
    return CompoundAccuracy(*(float(column.double().mean()) for column in compound_hits(scores, pairs).unbind(1)))


def compound_hits(scores: Float[Tensor, "n C"], pairs: Int64[Tensor, "n 2"]) -> Bool[Tensor, "n 3"]:
    """Whether each image counts for `both`, `single` and `single_top2`.

    Raises:
        AnalysisError: as `compound_accuracy`.
    """
    _require_pairs(scores, pairs)
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :2]
    inside = (best[:, :, None] == pairs[:, None, :]).any(2)  # [n, 2]: is the first, the second of the pair?
    return torch.stack([inside.all(1), inside[:, 0], inside.any(1)], dim=1)


@exact_float32
def compound_result(
    judged: Sequence[Judged],
    *,
    exclude_neutral: bool = False,
    confidence: float = 0.95,
) -> Result:
    """Compound accuracies of networks of the basic emotions, with intervals over images.

    Args:
        judged: networks that were shown the compound images of RAF-DB or FER+.
        exclude_neutral: whether neutral must not be chosen; only where it is part of no compound, as in RAF-DB.
        confidence: of the intervals.

    Returns:
        a result of kind "compound" for m networks: `both`, `single`, `single_top2` [m, 3] (value, low,
        high) and `by_class` [m, c, 3] (the three values of each of the c compound classes; NaN without images).

    Raises:
        AnalysisError: for networks of other classes, for other data, or if neutral cannot be excluded.
    """
    check_confidence(confidence)
    data = judged[0].data
    emotions = _emotions_of(data)
    excluded = emotions.basic.index(NEUTRAL) if exclude_neutral else None
    if any(excluded in pair for pair in emotions.compound.values()):
        raise AnalysisError(f"neutral is part of compounds of {data.spec}, so it cannot be excluded")
    labels = data.test.labels
    pairs = torch.tensor(list(emotions.compound.values()))[labels]
    hits = [compound_hits(_basic_scores(one, emotions.basic, excluded), pairs) for one in judged]
    tallies = np.stack([torch.stack([found.sum(0), (~found).sum(0)], dim=1).numpy() for found in hits])  # [m, 3, 2]
    intervals = wilson(tallies, confidence=confidence)
    arrays = {reading: intervals[:, place] for place, reading in enumerate(READINGS)}
    arrays["by_class"] = torch.stack([_by_class(found, labels, len(emotions.compound)) for found in hits]).numpy()
    facts = {
        "names": [one.name for one in judged],
        "classes": list(emotions.compound),
        "data": data.spec,
        "n_images": len(labels),
        "confidence": confidence,
        "exclude_neutral": exclude_neutral,
        "interval": "Wilson's",
        "undefined": "NaN: compound class without images",
    }
    return Result("compound", arrays, facts, provenance(data=data.spec, models=[one.origin() for one in judged]))


def compound_table(result: Result) -> pd.DataFrame:
    """One row per number: model, reading, compound class (empty: all images), value, low, high."""
    rows = []
    for index, name in enumerate(result.facts["names"]):
        for column, reading in enumerate(READINGS):
            value, low, high = result.arrays[reading][index]
            rows.append({"model": name, "reading": reading, "value": value, "low": low, "high": high})
            of_class = zip(result.facts["classes"], result.arrays["by_class"][index, :, column], strict=True)
            rows += [{"model": name, "reading": reading, "class": label, "value": share} for label, share in of_class]
    return pd.DataFrame(rows, columns=["model", "reading", "class", "value", "low", "high"])


def compound_summary(result: Result) -> str:
    """Each network's three accuracies with their intervals, as a table."""
    readings = {reading: [worded_share(interval) for interval in result.arrays[reading]] for reading in READINGS}
    return aligned({"model": result.facts["names"]} | readings)


def _require_pairs(scores: Tensor, pairs: Tensor) -> None:
    if not len(scores):
        raise AnalysisError("compound accuracy needs at least one image, but there is none")
    if scores.isnan().any():
        raise AnalysisError(f"scores must be numbers, but {int(scores.isnan().any(1).sum())} images have NaN")
    wrong = (pairs < 0) | (pairs >= scores.shape[1])
    if wrong.any() or (pairs[:, 0] == pairs[:, 1]).any():
        raise AnalysisError(f"a pair must be two different classes of 0 to {scores.shape[1] - 1}")


def _emotions_of(data: DataSet) -> Emotions:
    for emotions in _KNOWN:
        if tuple(data.classes) == tuple(emotions.compound):
            return emotions
    raise AnalysisError(
        f"compound accuracy needs rafdb-compound:DIR or ferplus-compound:DIR, but {data.spec} has other classes"
    )


def _basic_scores(one: Judged, basic: Sequence[str], excluded: int | None) -> Tensor:
    """Logits in the data's order of the basic classes, which a network may have learned in another."""
    if one.info.n_classes != len(basic) or (one.info.classes and set(one.info.classes) != set(basic)):
        known = ", ".join(one.info.classes) or f"{one.info.n_classes} classes"
        raise AnalysisError(f"{one.checkpoint} must know the basic classes {', '.join(basic)}, but knows {known}")
    order = [one.info.classes.index(name) for name in basic] if one.info.classes else list(range(len(basic)))
    scores = one.logits[:, order].clone()
    if excluded is not None:
        scores[:, excluded] = -torch.inf
    return scores


def _by_class(hits: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    return torch.stack([hits[labels == label].double().mean(0) for label in range(n_classes)])
