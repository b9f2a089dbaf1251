"""Whether minibatches hold all classes, as random ones do, or few, as those of a folder that is sorted by class."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdprobe.data import Batch
from kdprobe.errors import AnalysisError
from kdprobe.features.numbered import known_labels

_MORE = 0.1  # of the way from random minibatches to those of one class each, from which on it is told
_CHANCE = 8.0  # standard deviations of random minibatches, at least


def classes_of(batch: Any, n_samples: int) -> Tensor | None:
    """Classes of a minibatch's samples [B] on their device; None where it gives none that are."""
    if isinstance(batch, Batch):
        return batch.labels
    try:
        return known_labels(batch, n_samples)
    except AnalysisError:  # CKA needs no classes
        return None


def warn_of_few_classes(minibatches: Sequence[Tensor], *, stacklevel: int) -> None:
    """Warn where two samples of one minibatch share a class far more often than two of all samples.

    In random minibatches both are equally frequent on average. Otherwise CKA tells how alike networks are within
    classes, and little of what sets classes apart.

    Args:
        minibatches: classes of the samples of each [B].
        stacklevel: of the warning, as `warnings.warn` takes it from here.
    """
    if not minibatches:
        return
    every = [labels.cpu() for labels in minibatches]
    alike, pairs = (sum(counts) for counts in zip(*map(_pairs, every), strict=True))
    all_alike, all_pairs = _pairs(torch.cat(every))
    if not pairs or all_alike == all_pairs:
        return
    within, expected = alike / pairs, all_alike / all_pairs
    noise = (2 * expected * (1 - expected) / pairs) ** 0.5
    if within - expected > max(_MORE * (1 - expected), _CHANCE * noise):
        warnings.warn(
            f"minibatches hold few classes: two samples of one share a class in {within:.0%} of cases, two of all "
            f"samples in {expected:.0%}, so CKA is that within classes; give samples in random order, such as those of "
            "torch.utils.data.Subset(data, torch.randperm(len(data)).tolist()), or dump them again",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def _pairs(labels: Tensor) -> tuple[int, int]:
    """Ordered pairs of samples of the same class, and of all."""
    counts = torch.unique(labels, return_counts=True)[1]
    return int((counts * (counts - 1)).sum()), len(labels) * (len(labels) - 1)
