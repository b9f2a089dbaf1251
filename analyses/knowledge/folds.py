"""Splitting samples for what is fitted on some and measured on others."""

import torch
from jaxtyping import Float64
from torch import Tensor

from kdprobe.errors import AnalysisError, Undefined
from kdprobe.mean_interval import cut_interval, mean_interval, shares_interval

MIN_PER_FOLD = 4


def split_samples(n: int, folds: int, *, seed: int = 0, what: str = "samples") -> list[Tensor]:
    """Places of the samples of each fold, in random order; sizes differ by one at most.

    Args:
        n: samples.
        folds: parts.
        seed: of the order.
        what: the samples' name, for errors.

    Raises:
        AnalysisError: for fewer than two folds, or fewer than four samples per fold.
    """
    if folds < 2:
        raise AnalysisError(f"what is learned from some folds is measured on another, so 2 are needed, not {folds}")
    if n < MIN_PER_FOLD * folds:
        raise AnalysisError(f"{n} {what} are too few for {folds} folds; at least {MIN_PER_FOLD * folds} are needed")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return list(order.tensor_split(folds))


def training_means(values: Float64[Tensor, "n r"], folds: list[Tensor]) -> Float64[Tensor, "n r"]:
    """For each sample the mean of all samples outside its fold.

    Args:
        values: with mean zero.
        folds: places of the samples of each.
    """
    means = torch.empty_like(values)
    for held_out in folds:
        means[held_out] = -values[held_out].sum(0) / (len(values) - len(held_out))  # all samples sum to 0
    return means


def explained(
    values: Float64[Tensor, "n r"], predicted: Float64[Tensor, "n r"], means: Tensor | float, folds: list[Tensor]
) -> tuple[Float64[Tensor, " k"], Float64[Tensor, " k"]]:
    """Squared errors per fold of the predictions, and of means alone.

    Args:
        values: what was to be predicted, with mean zero.
        predicted: for each sample.
        means: what predicts it without any knowledge: `training_means` [n, r], or 0 for the mean of all samples.
        folds: places of the samples of each.

    Raises:
        Undefined: if a fold's samples all equal the mean of the others.
    """
    errors, totals = [], []
    for held_out in folds:
        own = values[held_out]
        errors.append((own - predicted[held_out]).square().sum())
        totals.append((own - (means[held_out] if isinstance(means, Tensor) else means)).square().sum())
    if min(totals) == 0:
        raise Undefined("the features of a whole fold equal the mean of the others; take fewer folds")
    return torch.stack(errors), torch.stack(totals)


def interval(
    value: float, by_fold: list[float], *, confidence: float = 0.95, n_images: int | None = None
) -> tuple[float, float, float]:
    """Value, low, high: the value and Student's interval from its spread over folds.

    Folds share most of what they learned from, so that the interval is an approximation. Of a share of so many images
    that is equal in all folds it is the interval that the images alone give, and none leaves 0 to 1.
    """
    if n_images is None:
        half = mean_interval(by_fold, confidence=confidence)[1]
        return value, value - half, value + half
    return cut_interval(value, shares_interval(by_fold, n_images=n_images, confidence=confidence)[1])
