"""The general part of a feature as its projection on the directions that another network shares."""

import torch
from torch import Tensor

from analyses.knowledge.canonical import Shared, canonical, shared_pairs
from analyses.knowledge.fold_sums import trainings


def subspace(teacher: Tensor, student: Tensor, folds: list[Tensor], *, seed: int = 0) -> Shared:
    """Shared both networks' coordinates by the canonical directions that they share.

    Pairs of directions of a training fold are shared where they are correlated on held-out samples
    (`analyses.knowledge.canonical`). The general part of a sample is what its own shared variates predict by least
    squares: a projection over samples, so that the rest is uncorrelated with what is shared.

    Args:
        teacher: float64 [n, r_t], mean zero.
        student: float64 [n, r_s], mean zero.
        folds: places of each fold's samples, in random order.
        seed: of the permutations.
    """
    parts = (torch.zeros_like(teacher), torch.zeros_like(student))
    fitted, variates, penalties = [], [], []
    for fold in trainings(teacher, student, folds):
        pair = canonical(fold)
        variates.append(fold.variates(pair))
        loadings = [_products(*side) for side in zip(pair, fold.squares, fold.axes, strict=True)]
        fitted.append((fold.held_out, loadings))
        penalties.append(fold.relative_penalties())
    shared, correlations = shared_pairs(variates, seed=seed)
    for (held_out, loadings), pair in zip(fitted, variates, strict=True):
        for part, variate, (inner, outer) in zip(parts, pair, loadings, strict=True):
            common = shared.nonzero()[:, 0]
            slopes = torch.linalg.solve(inner[common][:, common], outer[common])
            part[held_out] = variate[:, common] @ slopes
    return Shared(*parts, len(common), correlations, penalties)


def _products(directions: Tensor, squares: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of products over the training samples: of the variates with each other, and with the features."""
    scaled = directions * squares.clamp(min=0)[:, None]  # below zero there is only rounding
    return directions.mT @ scaled, scaled.mT @ axes.mT
