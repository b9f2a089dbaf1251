"""What two networks' answers to the same images have in common: the right ones, the wrong ones, and those by chance."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from numpy import ndarray
from torch import Tensor

from analyses.arrays import takes_arrays
from kdprobe.errors import AnalysisError


@dataclass(frozen=True)
class Agreement:
    """How two networks a and b answer the same images; shares from 0 to 1, NaN where there is no such image.

    Attributes:
        table: images that both get right, only a; only b, neither: [2, 2].
        accuracy_a: share that a gets right.
        accuracy_b: share that b gets right.
        agreement: share with the same answer.
        kappa: Cohen's kappa of the answers, agreement beyond what the shares of the classes give by chance; NaN where
            both always give one and the same answer.
        observed: share that both get right or both get wrong.
        expected: the same share if they erred independently.
        error_consistency: Cohen's kappa of being right, which does not ask which wrong answer is given; 1 where they
            are right on the same images throughout, even if that is all of them.
        right_jaccard: images that both get right, as a share of those that at least one does.
        agreement_a_right: share with the same answer among the images that a gets right.
        agreement_a_wrong: share with the same answer among those that a gets wrong: how many mistakes of a b makes too.
        agreement_b_right: the same for b.
        agreement_b_wrong: the same for b.
        same_error: share with the same answer among the images that both get wrong.

    Example:
        >>> import torch
        >>> from analyses.evaluation import agreement
        >>> answers = torch.tensor([0, 1, 1, 0])
        >>> agreement(answers, answers, torch.tensor([0, 0, 1, 1])).kappa
        1.0
    """

    table: Int64[ndarray, "2 2"]
    accuracy_a: float
    accuracy_b: float
    agreement: float
    kappa: float
    observed: float
    expected: float
    error_consistency: float
    right_jaccard: float
    agreement_a_right: float
    agreement_a_wrong: float
    agreement_b_right: float
    agreement_b_wrong: float
    same_error: float


@takes_arrays
def agreement(
    predictions_a: Int64[Tensor, " a"], predictions_b: Int64[Tensor, " b"], targets: Int64[Tensor, " n"]
) -> Agreement:
    """Compare the answers of two networks.

    Args:
        predictions_a: classes that a answers.
        predictions_b: classes that b answers.
        targets: true classes.

    Raises:
        AnalysisError: if there are no images, or not the same number everywhere.

    Reference:
        Cohen (1960), A coefficient of agreement for nominal scales; Geirhos, Meding, Wichmann (2020), Beyond accuracy:
        quantifying trial-by-trial behaviour of CNNs and humans by measuring error consistency, equations 1 and 2.

    Example:
        >>> import torch
        >>> from analyses.evaluation import agreement
        >>> targets = torch.tensor([0, 0, 1, 1])
        >>> found = agreement(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 1, 0]), targets)
        >>> found.accuracy_a, found.accuracy_b, found.agreement
        (0.75, 0.5, 0.75)
    """
    sizes = [len(one) for one in (predictions_a, predictions_b, targets)]
    if len(set(sizes)) > 1 or not sizes[0]:
        raise AnalysisError(
            f"agreement needs two answers and the true class for each image, but got {sizes[0]}, {sizes[1]} and "
            f"{sizes[2]}"
        )
    n_images = sizes[0]
    right_a, right_b, same = predictions_a == targets, predictions_b == targets, predictions_a == predictions_b
    cells = [(right_a & right_b), (right_a & ~right_b), (~right_a & right_b), (~right_a & ~right_b)]
    both, only_a, only_b, neither = (int(cell.sum()) for cell in cells)
    share_a, share_b = (both + only_a) / n_images, (both + only_b) / n_images
    shared = float(same.double().mean())
    observed, expected = (both + neither) / n_images, share_a * share_b + (1 - share_a) * (1 - share_b)
    return Agreement(
        table=torch.tensor([[both, only_a], [only_b, neither]]).numpy(),
        accuracy_a=share_a,
        accuracy_b=share_b,
        agreement=shared,
        kappa=beyond_chance(shared, _by_chance(predictions_a, predictions_b)),
        observed=observed,
        expected=expected,
        error_consistency=1.0 if both + neither == n_images else beyond_chance(observed, expected),
        right_jaccard=_share(both, both + only_a + only_b),
        agreement_a_right=_share(both, both + only_a),
        agreement_a_wrong=_share_among(same, ~right_a),
        agreement_b_right=_share(both, both + only_b),
        agreement_b_wrong=_share_among(same, ~right_b),
        same_error=_share_among(same, ~right_a & ~right_b),
    )


def beyond_chance(observed: float, expected: float) -> float:
    """Cohen's kappa from the share that agrees and the share that would by chance; NaN where chance gives all."""
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan


def _by_chance(one: Tensor, other: Tensor) -> float:
    """The share of equal answers if each network drew its answers from those that it gives."""
    n_classes = int(torch.maximum(one.max(), other.max())) + 1
    counts = [answers.bincount(minlength=n_classes) for answers in (one, other)]
    return int((counts[0] * counts[1]).sum()) / len(one) ** 2


def _share(count: int, of: int) -> float:
    return count / of if of else math.nan


def _share_among(same: Tensor, chosen: Tensor) -> float:
    return _share(int((same & chosen).sum()), int(chosen.sum()))
