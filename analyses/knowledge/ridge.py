"""The general part of a feature as what another network's feature predicts linearly, out of fold."""

import torch
from torch import Tensor

from analyses.knowledge.canonical import Shared, canonical, shared_pairs
from analyses.knowledge.fold_sums import Training, trainings


def ridge(teacher: Tensor, student: Tensor, folds: list[Tensor], *, seed: int = 0) -> Shared:
    """Split both networks' coordinates by ridge regression on each other.

    The penalty of each regression is chosen in its training fold by generalised cross-validation. The dimension
    is the number of canonical pairs of directions that are correlated on held-out samples
    (`analyses.knowledge.canonical`).

    Args:
        teacher: float64 [n, r_t], mean zero.
        student: float64 [n, r_s], mean zero.
        folds: places of each fold's samples, in random order.
        seed: of the permutations behind the dimension.
    """
    parts = (torch.zeros_like(teacher), torch.zeros_like(student))
    penalties, variates = [], []
    for fold in trainings(teacher, student, folds):
        for target in (0, 1):
            parts[target][fold.held_out] = _predicted(fold, target)
        pair = canonical(fold)
        variates.append(fold.variates(pair))
        penalties.append(fold.relative_penalties())
    shared, correlations = shared_pairs(variates, seed=seed)
    return Shared(*parts, int(shared.sum()), correlations, penalties)


def _predicted(fold: Training, target: int) -> Tensor:
    """The fold's own samples of network `target`, from its training mean, as the other network predicts them."""
    source = 1 - target
    slopes = fold.products_of(target) / (fold.squares[source] + fold.penalties[source])[:, None]
    return (fold.own[source] @ fold.axes[source]) @ slopes @ fold.axes[target].mT
