"""How much of the variation of features is only the rounding of the numbers that they are made of.

Rounding is not variation: it is neither a direction of canonical correlations, nor makes it a constant feature one that
varies, nor is a tie of two distances broken by it. Its size belongs to the precision in which numbers were *stored or
computed*, not to the one in which they are held: float32 features that were widened to float64 are float32 features.
"""

import math

import torch
from torch import Tensor

#: units in the last place that a chain of operations in float32 or float64 may leave between equal samples; numbers of
#: half precision were as a rule computed in float32 and rounded once
_UNITS, _UNITS_OF_HALVES = 8.0, 1.0
_CLEARLY = 4.0
_BLOCK = 4096  # columns widened at a time


def precision_of(features: Tensor, stored: torch.dtype | None = None) -> torch.dtype:
    """The precision that features were stored or computed in.

    Args:
        features: of any floating type.
        stored: that of the file that they come from, where it is known.
    """
    if stored is not None:
        return stored
    if features.dtype == torch.float64 and bool((features == features.float().double()).all()):
        return torch.float32
    return features.dtype


def rank_tolerance(features: Tensor, largest: float, stored: torch.dtype | None = None, *, scale: float = 1.0) -> float:
    """The singular value of centred features up to which a direction is rounding.

    That is `max(n, d) * eps * largest` with the eps of the precision in which they were computed, and at least what
    rounding at the size of the features themselves, which a common mean may make much larger than their spread, gives
    a matrix of random errors. Half precision counts by the latter: times `max(n, d)` its eps is more than 1 from 1,024
    samples on, and it is rounded once, after a computation in float32.

    Args:
        features: [n, d], not centred.
        largest: singular value of the centred features.
        stored: as `precision_of` takes it.
        scale: what they were multiplied by after they were stored.

    Reference:
        Press et al. (2007), Numerical recipes, section 2.6.4; Vershynin (2018), High-dimensional probability, theorem
        4.4.5 (norm of a random matrix).
    """
    n, d = features.shape
    precision = torch.finfo(precision_of(features, stored))
    computed = min(precision.eps, torch.finfo(torch.float32).eps)
    sizes = torch.sqrt(_mean_squares(features))  # [d], root mean square of each column
    errors = 2 * (precision.eps * sizes + scale * precision.tiny * precision.eps)
    random = math.sqrt(n) * float(errors.max()) + float(errors.norm())
    return max(max(n, d) * computed * largest, random)


def distance_tolerance(features: Tensor, stored: torch.dtype | None = None, *, scale: float = 1.0) -> float:
    """How far two distances between samples can be apart by rounding alone.

    Args:
        features: [n, d], not centred.
        stored: as `precision_of` takes it.
        scale: what they were multiplied by after they were stored.
    """
    precision = torch.finfo(precision_of(features, stored))
    longest = float(features.double().square().sum(1).amax().sqrt())
    smallest = scale * precision.tiny * precision.eps
    return 2 * (precision.eps * longest + smallest * math.sqrt(features.shape[1]))


def rounding_of(values: Tensor, precision: torch.dtype) -> Tensor:
    """Standard deviation, float64, up to which values of these sizes are the same but for rounding."""
    limits = torch.finfo(precision)
    units = _UNITS_OF_HALVES if limits.bits == 16 else _UNITS
    return units * (limits.eps * values.detach().double().abs() + limits.tiny * limits.eps)


def varying_columns(rows: Tensor, precision: torch.dtype) -> Tensor:
    """Which columns of [n, d] vary by more than rounding; none where the features as a whole do not.

    Features whose whole spread is as small as rounding may hold noise that is large beside a column of small values, as
    where large numbers cancelled; then only columns count that clearly exceed the rounding of half of the columns.
    """
    spread = torch.empty(rows.shape[1], dtype=torch.float64, device=rows.device)
    size = torch.empty_like(spread)
    for start in range(0, rows.shape[1], _BLOCK):
        columns = slice(start, start + _BLOCK)
        block = rows[:, columns].double()
        size[columns] = block.abs().amax(0)
        unit = torch.where(size[columns] > 0, size[columns], 1.0)  # squares of small numbers would be 0
        spread[columns] = unit * ((block - block.mean(0)) / unit).square().mean(0).sqrt()
    rounding = rounding_of(size, precision)
    if bool((spread / rounding.amax()).square().sum() > (rounding / rounding.amax()).square().sum()):
        return spread > rounding / _CLEARLY
    return spread > _CLEARLY * torch.maximum(rounding, rounding.median())


def _mean_squares(rows: Tensor) -> Tensor:
    blocks = (rows[:, start : start + _BLOCK].double() for start in range(0, rows.shape[1], _BLOCK))
    return torch.cat([block.square().mean(0) for block in blocks])
