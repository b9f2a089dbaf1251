"""What a linear classifier reads out of features: how much of the classes is in a part of what a network knows."""

import warnings

import numpy as np
from jaxtyping import Float64, Int64
from sklearn.linear_model import RidgeClassifierCV
from torch import Tensor

from analyses.arrays import takes_arrays
from analyses.knowledge.folds import interval
from kdprobe.errors import AnalysisError

_STRENGTHS = np.logspace(-8, 0, 9)  # as multiples of the sum of squares


@takes_arrays
def probe_accuracy(
    features: Float64[Tensor, "n r"], labels: Int64[Tensor, " n"], folds: list[Tensor], *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Cross-validated accuracy of scikit-learn's ridge classifier on features.

    Its penalty is chosen in the training folds by leaving one sample out.

    Args:
        features: float64 with mean zero; a rotation or a scale makes no difference.
        labels: classes.
        folds: places of each fold's samples.
        confidence: of the interval over folds.

    Returns:
        accuracy as a fraction, low, high.

    Raises:
        AnalysisError: if the features do not vary, or a training fold holds one class only.

    Example:
        >>> import torch
        >>> from analyses.knowledge import probe_accuracy
        >>> labels = torch.arange(100) % 2
        >>> features = torch.stack([labels, torch.arange(100) / 100], 1).double()  # the first one tells the class
        >>> probe_accuracy(features, labels, list(torch.arange(100).split(20)))
        (1.0, 0.9630065017930143, 1.0)
    """
    x, y = features.cpu().numpy(), labels.cpu().numpy()
    size = float(np.square(x).sum())
    if size == 0:
        raise AnalysisError("this part is zero for all samples, so there is nothing to read classes from")
    right = np.zeros(len(y), dtype=bool)
    for fold in folds:
        held_out = fold.cpu().numpy()
        training = np.setdiff1d(np.arange(len(y)), held_out)
        if len(np.unique(y[training])) < 2:
            raise AnalysisError(f"a classifier needs two classes, but all training labels are {y[training][0]}")
        probe = RidgeClassifierCV(alphas=_STRENGTHS * size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a class that has no training sample
            right[held_out] = probe.fit(x[training], y[training]).predict(x[held_out]) == y[held_out]
    by_fold = [float(right[fold.cpu().numpy()].mean()) for fold in folds]
    return interval(float(right.mean()), by_fold, confidence=confidence, n_images=len(y))
