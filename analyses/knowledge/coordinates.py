"""Features as centred float64 coordinates with the same inner products, never wider than there are samples.

Whatever depends on inner products alone (ridge regression, principal and canonical directions, CKA) is the
same for the features and for their coordinates, so that features of 100,000 values cost no more than n of them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.hsic import double_centre
from kdprobe.features.rounding import column_errors, errors_along, precision_of, rank_tolerances, varying_columns

_BLOCK = 4096  # columns widened at a time
_LARGEST = 1e140  # and its inverse the smallest: sums of squares, and products of these, must be numbers


@dataclass(frozen=True, eq=False)
class Coordinates:
    """One layer's features in the coordinates that the analyses use.

    Attributes:
        features: as they were given, [n, d].
        mean: of the features, float64 [d].
        values: the centred features where d < n and no direction is rounding, else (as a rule) their principal
            coordinates; float64 [n, r].
        scales: root of the sum of squares of each principal coordinate [r]; None where the values are the features.
    """

    features: Tensor
    mean: Tensor
    values: Tensor
    scales: Tensor | None

    def centred(self) -> Float64[Tensor, "n d"]:
        """The features without their mean."""
        return self.values if self.scales is None else self.features.double() - self.mean

    def restore(self, values: Float64[Tensor, "m r"]) -> Float64[Tensor, "m d"]:
        """Coordinates as features without their mean."""
        if self.scales is None:
            return values
        weights = (values / self.scales**2) @ self.values.T  # [m, n]
        restored = torch.empty(len(values), self.features.shape[1], dtype=torch.float64, device=values.device)
        for columns, block in _blocks(self.features, self.mean):
            restored[:, columns] = weights @ block
        return restored

    def principal(self) -> tuple[Float64[Tensor, "n r"], Float64[Tensor, " r"]]:
        """Principal coordinates, the one of least variance first, and the sum of squares of each."""
        if self.scales is not None:
            return self.values, self.scales.square()
        squares, axes = torch.linalg.eigh(self.values.mT @ self.values)
        return self.values @ axes, squares


def coordinates(
    features: Float[Tensor, "n ..."],
    *,
    name: str = "feature",
    shorten: bool = True,
    stored: torch.dtype | None = None,
) -> Coordinates:
    """Centre features and, where they are wider than their rank, turn them into principal coordinates.

    Args:
        features: one row, map or token sequence per sample, of any floating type.
        name: whose features, for errors.
        shorten: take principal coordinates at all; without, the values are the centred features themselves.
        stored: the precision in which they were stored or computed; found out of the values if not given.

    Raises:
        AnalysisError: if a value is NaN or infinite, or all are of a size whose squares are.
        Undefined: if all samples have the same feature but for rounding.
    """
    rows = features.detach().flatten(1)
    finite = torch.isfinite(rows).sum().item()
    if finite < rows.numel():
        raise AnalysisError(f"{rows.numel() - finite} of {rows.numel()} values of the {name} are NaN or infinite")
    largest = float(rows.abs().amax())
    if largest > _LARGEST or 0 < largest < 1 / _LARGEST:
        raise AnalysisError(
            f"the {name} has values of up to {largest:.3g}, whose squares float64 cannot hold; divide it by that"
        )
    varying = varying_columns(rows, precision_of(rows, stored))
    if not varying.any():
        raise Undefined(
            f"the {name} is the same for all {len(rows)} samples but for rounding, so it has no variance to decompose"
        )
    mean = rows.mean(0, dtype=torch.float64)
    mean += _mean_without(
        rows, mean
    )  # the first mean is rounded to the size of the features, not to that of their spread
    if not shorten:
        return Coordinates(rows, mean, rows.double() - mean, None)
    if rows.shape[1] >= len(rows):
        varied, its_mean = (rows, mean) if varying.all() else (rows[:, varying], mean[varying])
        return Coordinates(rows, mean, *_principal(varied, its_mean, column_errors(varied, stored)))
    centred = rows.double() - mean
    squares, axes, real = _axes(centred, column_errors(rows, stored))
    if real.all():
        return Coordinates(rows, mean, centred, None)
    return Coordinates(rows, mean, centred @ axes[:, real], squares[real].sqrt())


def _mean_without(rows: Tensor, mean: Tensor) -> Tensor:
    """Mean of what remains of the rows without `mean`."""
    return torch.cat([block.mean(0) for _, block in _blocks(rows, mean)])


def _own_rounding(squares: Tensor, n_sums: int) -> float:
    """What an eigenvalue of sums of products is off by: the root of how many were summed, and the matrix's size."""
    return (math.sqrt(n_sums) + len(squares)) * torch.finfo(torch.float64).eps * float(squares[-1])


def _axes(centred: Tensor, errors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The principal axes of features with fewer dimensions than samples, and which are more than rounding.

    Sums of squares lose what is smaller than the root of float64's precision. Where that may be more than the rounding
    of the features, as beside a channel a million times larger, the features themselves are decomposed.

    Args:
        centred: features [n, d].
        errors: of their columns [d].

    Returns:
        sums of squares, the smallest first [d]; axes [d, d]; and which of them are real [d].
    """
    n = len(centred)
    squares, axes = torch.linalg.eigh(centred.T @ centred)
    own = _own_rounding(squares, n)
    limits = rank_tolerances(errors, n, squares[-1:].sqrt(), errors_along(errors, axes)).square()
    if not bool(((squares <= own) & (limits < own)).any()):
        return squares, axes, (squares > limits) & (squares > own)
    _, sizes, turned = torch.linalg.svd(torch.linalg.qr(centred, mode="r").R)
    sizes, axes = sizes.flip(0), turned.T.flip(1)
    return sizes.square(), axes, sizes > rank_tolerances(errors, n, sizes, errors_along(errors, axes))


def _principal(rows: Tensor, mean: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates along all principal axes that have more than rounding, from the Gram matrix, and their sizes.

    Where the largest errors of any axis may hide a direction that has smaller ones, each is set beside its own; and
    where the Gram matrix is too coarse for it, as in `_axes`, the features themselves are decomposed.
    """
    n = len(rows)
    squares, axes = torch.linalg.eigh(double_centre(_gram(rows, mean)))
    own = _own_rounding(squares, rows.shape[1])
    limit = rank_tolerances(errors, n, squares[-1:].sqrt()).square()
    if not bool((squares[1:] <= limit).any()):  # the first is the mean's
        real = squares > max(float(limit), own)
        sizes = squares[real].sqrt()
        return axes[:, real] * sizes, sizes
    sizes = squares.clamp(min=own).sqrt()
    limits = _limits(rows, mean, errors, axes, sizes)
    if bool(((squares[1:] <= own) & (limits[1:].square() < own)).any()):
        triangle = torch.linalg.qr((rows.double() - mean).T, mode="r").R
        turned, sizes, _ = torch.linalg.svd(triangle.T, full_matrices=False)
        axes, sizes = turned.flip(1), sizes.flip(0)
        limits = _limits(rows, mean, errors, axes, sizes.clamp(min=float(torch.finfo(sizes.dtype).tiny)))
    else:
        limits = limits.clamp(min=own**0.5)
    real = sizes > limits
    return axes[:, real] * sizes[real], sizes[real]


def _limits(rows: Tensor, mean: Tensor, errors: Tensor, turned: Tensor, sizes: Tensor) -> Tensor:
    """`rank_tolerances` of the axes that belong to directions of the samples [n, r] with these sizes."""
    squares = torch.zeros_like(sizes)
    for columns, block in _blocks(rows, mean):
        squares += (errors[columns, None] * (block.T @ turned / sizes)).square().sum(0)
    return rank_tolerances(errors, len(rows), sizes[-1:], squares.sqrt())


def _gram(rows: Tensor, mean: Tensor) -> Tensor:
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for _, block in _blocks(rows, mean):
        gram += block @ block.T
    return gram


def _blocks(rows: Tensor, mean: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Columns without their mean, a few thousand at a time."""
    for start in range(0, rows.shape[1], _BLOCK):
        columns = slice(start, start + _BLOCK)
        yield columns, rows[:, columns].double() - mean[columns]
