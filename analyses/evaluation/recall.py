"""Confusion matrices and the shares that are read off them.

All shares follow from how many images of each class are right and wrong, the *tally* [..., C, 2],
where a class is the true one for recalls and the predicted one for precisions.
"""

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy import ndarray
from torch import Tensor

from analyses.arrays import takes_arrays
from kdprobe.errors import AnalysisError


@takes_arrays
def confusion(targets: Int64[Tensor, " n"], predictions: Int64[Tensor, " n"], n_classes: int) -> Int64[Tensor, "C C"]:
    """Count how often each true class (row) is taken for each class (column).

    Args:
        targets: true classes.
        predictions: predicted classes.
        n_classes: C.

    Raises:
        AnalysisError: if there are no images, or a class is not one of the C.

    Example:
        >>> import torch
        >>> from analyses.evaluation import confusion
        >>> confusion(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), 2).tolist()
        [[1, 1], [0, 2]]
    """
    if not len(targets):
        raise AnalysisError("a confusion matrix needs at least one image, but there is none")
    low, high = (int(found) for found in torch.cat([targets, predictions]).aminmax())
    if low < 0 or high >= n_classes:
        raise AnalysisError(f"classes must be 0 to {n_classes - 1}, but run from {low} to {high}")
    return (targets * n_classes + predictions).bincount(minlength=n_classes**2).view(n_classes, n_classes)


@takes_arrays
def unweighted_average_recall(matrix: Int64[Tensor, "C C"]) -> float:
    """Mean over classes of the share of their images that is recognised.

    Args:
        matrix: counts, rows true classes; a class without images is left out of the mean.

    Returns:
        UAR in 0 to 1, also known as balanced accuracy or macro recall.

    Example:
        >>> import torch
        >>> from analyses.evaluation import unweighted_average_recall
        >>> unweighted_average_recall(torch.tensor([[90, 0], [5, 5]]))  # the rare class counts as much: 95 % are right
        0.75
    """
    return float(mean_share(tally(matrix)))


def tally(matrix: Int64[Tensor, "C C"], *, by: str = "true") -> Int64[ndarray, "C 2"]:
    """Right and wrong images of each class.

    Args:
        matrix: counts, rows true classes.
        by: `true` counts the images that are of a class, `predicted` those that are taken for it.
    """
    right = matrix.diagonal()
    total = matrix.sum(1 if by == "true" else 0)
    counts: Int64[ndarray, "C 2"] = torch.stack([right, total - right], dim=1).numpy()
    return counts


def shares(tallies: Int64[ndarray, "*k C 2"]) -> Float64[ndarray, "*k C"]:
    """Share of each class that is right: recalls or precisions; NaN where a class has no images."""
    right, total = tallies[..., 0], tallies.sum(-1)
    found: Float64[ndarray, "*k C"] = np.divide(right, total, out=np.full(right.shape, np.nan), where=total > 0)
    return found


def mean_share(tallies: Int64[ndarray, "*k C 2"]) -> Float64[ndarray, "*k"]:
    """Mean of the classes' shares over the classes that have images."""
    return np.asarray(np.nanmean(shares(tallies), axis=-1))
