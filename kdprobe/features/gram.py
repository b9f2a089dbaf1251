"""Gram matrices of centred features, made while the features are hot.

A shift of the features changes neither unbiased nor biased HSIC, so that one product of the features as they are is
enough, and centring is left to the Gram matrix. Where that would lose digits, because features are far from zero, or
too large or too small for products in float32, the features are shifted and multiplied in float64. Which way a layer
needs is a property of its features alone. It is judged from the Gram matrices of many layers at once (`judged`), so
that a processor that is fed by another one waits once, not once per layer; `kdprobe.features.gram_capture` does that.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import reduce

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kdprobe.errors import AnalysisError
from kdprobe.features.hsic import MIN_SAMPLES, double_centre, u_centre
from kdprobe.features.rounding import most_rounding, precision_of, varying_columns

_CACHE_BYTES, _DEVICE_BYTES = 1 << 22, 1 << 26  # of features widened at a time: a processor's last cache; a device's
_STRIP = 4096  # features multiplied at a time; sums of these products are in float64
_STRIPS_ROOM = 1 << 22  # products of strips that are held at a time
_FAR = 32.0  # squared mean over variance, up to which features are multiplied as they are
_NOISE = 2.0**-9  # rounding of a product, as a fraction of what is left of the products after U-centring
_LEAST = 1e-28  # of a sample's square in float32: below it products lose digits at the end of the range
_MOST = 1e140  # of a sample's square in float64: HSIC is made of products of two


class Way(Enum):
    """How a Gram matrix is made."""

    PLAIN = "one product of the features as they are"
    EQUAL = "zeros, as all samples are equal"
    WIDE = "a product of shifted features in float64"
    CAREFUL = "the same, of the features that vary by more than rounding"


@dataclass(frozen=True, eq=False)
class Product:
    """What is made of a layer at once; none of it has been looked at.

    Attributes:
        way: how it was made.
        plain: [n, n] float64, of the features as they are; zeros of equal ones.
        eps: of the precision of that product; 0 where nothing is left to be judged.
        wide: [n, n] float64, of features that were shifted, if there is one.
        holds: whether it is right, where `plain` alone does not tell.
    """

    way: Way
    plain: Float[Tensor, "n n"]
    eps: float = 0.0
    wide: Float[Tensor, "n n"] | None = None
    holds: Bool[Tensor, ""] | None = None


def centred_gram(features: Float[Tensor, "n ..."]) -> Float[Tensor, "n n"]:
    """Inner products of all pairs of samples after the mean sample was subtracted.

    Half precision is widened to float32 first; float32 and float64 are multiplied as they are, or in float64 where
    digits would be lost. Features that differ between samples by rounding alone (`kdprobe.features.rounding`) give a
    matrix of exact zeros.

    Args:
        features: one row, map or token sequence per sample.

    Returns:
        a float64 matrix on the features' device.

    Raises:
        AnalysisError: if features are NaN or infinite, with their number, or so large or small that the squares of
            their products are out of float64's range.
    """
    return decided(features).plain


def decided(features: Float[Tensor, "n ..."]) -> Product:
    """The centred Gram matrix and the way in which it had to be made, found by looking at each way's result.

    Raises:
        AnalysisError: as `centred_gram`.
    """
    for way in (Way.PLAIN, Way.EQUAL, Way.WIDE):
        grams, right = judged([multiplied(features, way)])
        if bool(right):
            return Product(way, grams[0])
    with torch.autocast(features.device.type, enabled=False):
        return Product(Way.CAREFUL, _careful(_rows(features)))


def multiplied(features: Float[Tensor, "n ..."], way: Way) -> Product:
    """The product of features for a way other than `CAREFUL`; whether it was the right one, `judged` tells."""
    rows = _rows(features)
    with torch.autocast(rows.device.type, enabled=False):
        if way is Way.EQUAL:
            zeros = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
            return Product(way, zeros, holds=_equal(rows))
        dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
        plain, eps = _plain(rows, dtype), torch.finfo(dtype).eps
        if way is Way.PLAIN:
            return Product(way, plain, eps)
        wide = double_centre(_shifted(rows))
        return Product(way, plain, eps, wide, _exceeds_rounding(wide.trace(), rows))


def judged(products: Sequence[Product]) -> tuple[Float[Tensor, "L n n"], Bool[Tensor, " L"]]:
    """Centred Gram matrices of all layers, and whether each is right; without waiting for the device.

    Args:
        products: of at least one layer, all on one device, of the same samples.
    """
    stack = torch.stack([one.plain for one in products]) if len(products) > 1 else products[0].plain[None]
    n, squares = stack.shape[1], stack.diagonal(dim1=1, dim2=2).sum(1)
    grams = _by_layers(double_centre, stack)
    spread = grams.diagonal(dim1=1, dim2=2).sum(1)
    right = (squares <= (1 + _FAR) * spread) & (squares > _LEAST * n) & (spread < _MOST * n)
    right &= _eps_of(products, stack) * squares / n <= _NOISE * _by_layers(_structure, grams)
    for place, one in enumerate(products):
        if one.wide is not None and one.holds is not None:
            grams[place] = torch.where(right[place], grams[place], one.wide)
            right[place] |= one.holds
        elif one.holds is not None:
            right[place] = one.holds
        elif one.eps == 0:
            right[place] = True
    return grams, right


def _structure(grams: Tensor) -> Tensor:
    """Root mean square of the U-centred products of each layer; NaN for fewer than 4 samples."""
    n = grams.shape[1]
    if n < MIN_SAMPLES:
        return grams.new_full((len(grams),), math.nan)
    return (u_centre(grams).square_().sum((1, 2)) / (n * (n - 3))).sqrt()


def _eps_of(products: Sequence[Product], like: Tensor) -> float | Tensor:
    each = [one.eps for one in products]
    used = {eps for eps in each if eps}
    return max(each) if len(used) < 2 else torch.tensor(each, dtype=like.dtype).to(like.device)


def _by_layers(function: Callable[[Tensor], Tensor], stack: Tensor) -> Tensor:
    """A function of [L, n, n], of a few large matrices at a time, which bounds what it needs beside its result."""
    at_once = max(1, _DEVICE_BYTES // (stack[0].numel() * stack.itemsize))
    if len(stack) <= at_once:
        return function(stack)
    return torch.cat([function(part) for part in torch.split(stack, at_once)])


def _rows(features: Tensor) -> Tensor:
    """[n, ...] -> [n, d] in the order of memory, as a view where one exists: a Gram matrix has no column order."""
    features = features.detach() if features.requires_grad else features
    if features.is_contiguous():
        return features if features.ndim == 2 else features.flatten(1)
    by_stride = sorted(range(1, features.ndim), key=features.stride, reverse=True)
    return features.permute(0, *by_stride).flatten(1)


def _plain(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Products of rows, of some columns at a time where all their strips would be many or all have to be widened."""
    columns = _STRIP * max(1, _STRIPS_ROOM // len(rows) ** 2)
    if rows.dtype != dtype:
        columns = min(columns, _columns(rows, dtype))
    blocks = torch.split(rows, columns, 1) if rows.shape[1] > columns else (rows,)
    return reduce(Tensor.add_, (_sum_of_strips(block if block.dtype == dtype else block.to(dtype)) for block in blocks))


def _sum_of_strips(rows: Tensor) -> Tensor:
    """The same in float64 of strips: threads share them out better than one wide product, and few digits get lost."""
    n, width = rows.shape
    wanted = max(1, width // _STRIP)
    count = next((count for count in range(wanted, wanted // 2, -1) if width % count == 0), wanted)
    wide, (step, across) = width // count, rows.stride()
    strips = rows.as_strided((count, n, wide), (wide * across, step, across))
    made = torch.bmm(strips, strips.mT)
    gram = made.sum(0, dtype=torch.float64) if count > 1 else made[0].to(torch.float64)
    rest = rows[:, count * wide :] if width % count else None
    return gram if rest is None else gram.add_(rest @ rest.mT)


def _shifted(rows: Tensor) -> Tensor:
    """Products of rows that were shifted by the first one, which is exact near it, in float64."""
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for block in torch.split(rows, _columns(rows, torch.float64), 1):
        wide = block.to(torch.float64)
        shifted = wide - wide[:1]
        gram.addmm_(shifted, shifted.mT)
    return gram


def _columns(rows: Tensor, dtype: torch.dtype) -> int:
    """How many columns are widened at a time."""
    room = _CACHE_BYTES if rows.device.type == "cpu" else _DEVICE_BYTES
    return max(_STRIP, room // (len(rows) * dtype.itemsize))


def _equal(rows: Tensor) -> Tensor:
    """Whether all samples are exactly equal, as after the zeros that residual branches begin with."""
    return torch.stack([(block == block[:1]).all() for block in torch.split(rows, _columns(rows, torch.bool), 1)]).all()


def _exceeds_rounding(total: Tensor, rows: Tensor) -> Tensor:
    """Whether the spread is too large to be rounding, and float64 holds the squares of its products."""
    n = len(rows)
    least = n * most_rounding(rows[0], _assumed(rows)) ** 2
    return (total > least) & (total > n / _MOST) & (total < n * _MOST)


def _assumed(rows: Tensor) -> torch.dtype:
    """The least precision that features may have been computed in, as halves may have been widened."""
    return rows.dtype if torch.finfo(rows.dtype).bits == 16 else torch.bfloat16


def _careful(rows: Tensor) -> Tensor:
    """Without columns that vary by rounding alone; only where the spread is small are these looked for."""
    gram = double_centre(_shifted(rows))
    total, n = float(gram.trace()), len(rows)
    if not math.isfinite(total):
        _refuse_non_finite(rows)
    if total <= n * float(most_rounding(rows[0], _assumed(rows))) ** 2:
        varying = varying_columns(rows, precision_of(rows))
        if not varying.any():
            return torch.zeros_like(gram)
        gram = gram if varying.all() else double_centre(_shifted(rows[:, varying]))
        total = float(gram.trace())
    if not 1 / _MOST < total / n < _MOST:
        raise AnalysisError(
            f"the features vary by {math.sqrt(total / n):.1g} around their mean, so the squares of their products "
            "are out of float64's range; scale them closer to 1"
        )
    return gram


def _refuse_non_finite(rows: Tensor) -> None:
    nan, infinite = int(rows.isnan().sum()), int(rows.isinf().sum())
    if nan or infinite:
        raise AnalysisError(f"{nan} NaN and {infinite} infinite values among {rows.numel()} features")
