"""How much of the variation of features is only rounding.

Rounding is not variation: it is not a direction of canonical correlations, it does not make a constant feature vary,
and it does not break a tie of two distances. Its size belongs to the precision in which numbers were *stored or
computed*, not to the one in which they are held: float32 features that were widened to float64 are float32 features,
and halves that were widened to either are halves. Counts, one-hot vectors and other multiples of one step fit into
halves as well, but were not rounded to them; they are exact.
"""

import math

import torch
from torch import Tensor

_UNITS = (
    0.5  # of eps times the size, which is half a unit in the last place to a whole one: equal numbers rounded apart
)
_STORED, _COMPUTED = 0.5, 8.0  # units that numbers are off by, at most: rounded once (.29), or after sums of products
_CLEARLY = 4.0  # how many times as large a spread must be to be more than the noise of a chain of computations
_BLOCK = 1 << 18  # values widened at a time, which stay in a processor's cache
_COLUMNS = 64  # at least
_ROUNDED = 0.125  # of halves that numbers were rounded to, one in two has its last bit set; of exact ones hardly any


def precision_of(features: Tensor, stored: torch.dtype | None = None) -> torch.dtype:
    """The precision that features were stored or computed in.

    Args:
        features: features of any floating type.
        stored: the precision of the file that they come from, if known.
    """
    if stored is not None:
        return stored
    if torch.finfo(features.dtype).bits == 16:
        return features.dtype
    for half in (torch.float16, torch.bfloat16):
        if _fits(features, half) and _was_rounded_to(features, half):
            return half
    return torch.float32 if _fits(features, torch.float32) else features.dtype


def _fits(features: Tensor, dtype: torch.dtype) -> bool:
    """Whether every value is one of a narrower type; most that do not fit show it in the first rows."""
    return all(bool((part == part.to(dtype).to(part.dtype)).all()) for part in (features[:8], features))


def _was_rounded_to(features: Tensor, half: torch.dtype) -> bool:
    """Whether values that fit into halves use their digits at every size, as multiples of one step do not.

    Small multiples of a step need fewer digits than the largest ones, so that their last bits are 0. Where each
    column's values are all of its largest size, whole numbers are taken as exact.
    """
    rows = features.detach().flatten(1)
    sizes = torch.frexp(rows.abs())[1]
    last = (rows.to(half).view(torch.int16) & 1).bool()
    some = rows != 0
    top = torch.where(some, sizes, -10_000).amax(0) if len(rows) else sizes
    small = some & (sizes < top)
    if bool(small.any()):
        return float(last[small].double().mean()) >= _ROUNDED
    return bool(some.any()) and bool((rows != rows.round()).any()) and float(last[some].double().mean()) >= _ROUNDED


def column_errors(features: Tensor, stored: torch.dtype | None = None, *, scale: float = 1.0) -> Tensor:
    """The size of the random errors of each column, float64 [d].

    Numbers are off by a few units in the last place of their own size, which a common mean may make much larger than
    their spread. Products of up to 2,048 float32 numbers made directions of at most 2.6 such units, a third of
    `_COMPUTED`; halves are rounded once, after a computation in float32.

    Args:
        features: [n, d], not centred.
        stored: as `precision_of` takes it.
        scale: what they were multiplied by after they were stored.
    """
    precision = torch.finfo(precision_of(features, stored))
    units = _STORED if precision.bits == 16 else _COMPUTED
    errors: Tensor = units * (precision.eps * _mean_squares(features).sqrt() + scale * precision.tiny * precision.eps)
    return errors


def errors_along(errors: Tensor, axes: Tensor) -> Tensor:
    """The size of the errors of columns [d] along axes of length 1, in columns [d, r]."""
    size: Tensor = torch.linalg.vector_norm(errors[:, None] * axes, dim=0)
    return size


def rank_tolerances(errors: Tensor, n: int, sizes: Tensor, along: Tensor | None = None) -> Tensor:
    """The singular values of centred features up to which a direction is rounding.

    Along an axis the errors add up to what a random matrix does: in proportion to the root of the number of samples, as
    variation does, so that more samples hide no direction.

    Args:
        errors: of the features' columns [d].
        n: samples.
        sizes: singular values of the centred features [r].
        along: the size of the errors along the axis of each [r]; without, the limit is that of whatever axis has the
            largest errors.

    Returns:
        float64, one for each singular value.

    Reference:
        Vershynin (2018), High-dimensional probability, theorem 4.4.5 (norm of a random matrix).
    """
    d = len(errors)
    if along is None:
        random = (math.sqrt(n) * errors.max() + errors.norm()).expand(len(sizes))
    else:
        random = (math.sqrt(n) + math.sqrt(d)) * along
    limits: Tensor = random + math.sqrt(max(n, d)) * torch.finfo(torch.float64).eps * sizes.max()
    return limits


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
    return _UNITS * (limits.eps * values.detach().double().abs() + limits.tiny * limits.eps)


def _clearly(precision: torch.dtype) -> float:
    """`_CLEARLY`; halves are rounded once, after a computation in float32, and have few digits to lose."""
    return 1.0 if torch.finfo(precision).bits == 16 else _CLEARLY


def most_rounding(row: Tensor, precision: torch.dtype) -> Tensor:
    """At least the norm, float64, of what rounding and a chain of computations can do to a sample, from one pass."""
    limits = torch.finfo(precision)
    size: Tensor = torch.linalg.vector_norm(row.detach(), dtype=torch.float64)
    return _CLEARLY * _UNITS * (limits.eps * size + limits.tiny * limits.eps * math.sqrt(len(row)))


def varying_columns(rows: Tensor, precision: torch.dtype) -> Tensor:
    """Which columns of [n, d] vary by more than rounding; none where the features as a whole do not.

    Features whose whole spread is as small as rounding may hold noise that is large beside a column of small values, as
    where large numbers cancelled; then only columns count that exceed the rounding of half of the columns as well.
    """
    spread = torch.empty(rows.shape[1], dtype=torch.float64, device=rows.device)
    size = torch.empty_like(spread)
    for columns in _blocks(rows):
        block = rows[:, columns].double()
        size[columns] = block.abs().amax(0)
        unit = torch.where(size[columns] > 0, size[columns], 1.0)  # squares of small numbers would be 0
        near = (block - block[:1]) / unit  # exact where samples are alike, so that their mean is not rounded either
        spread[columns] = unit * (near - near.mean(0)).square().mean(0).sqrt()
    rounding = rounding_of(size, precision)
    noise, unit = _clearly(precision) * rounding, rounding.amax()
    if bool((spread / unit).square().sum() > (noise / unit).square().sum()):
        return spread > rounding / _CLEARLY
    return spread > torch.maximum(noise, noise.median())


def _mean_squares(rows: Tensor) -> Tensor:
    return torch.cat([rows[:, columns].double().square().mean(0) for columns in _blocks(rows)])


def _blocks(rows: Tensor) -> list[slice]:
    """Slices of columns of [n, d] that are widened at a time."""
    step = max(_COLUMNS, _BLOCK // len(rows))
    return [slice(start, start + step) for start in range(0, rows.shape[1], step)]
