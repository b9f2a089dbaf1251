"""Gram matrices of centred features, made while the features are hot.

A feature matrix is shifted and multiplied in column blocks that stay in the processor's last cache, so
that it is read from memory once and never copied as a whole; the blocks' products are summed in
float64. A shift of the features changes neither unbiased nor biased HSIC, but without it the
products of features far from zero lose all their digits.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kdprobe.errors import AnalysisError
from kdprobe.features.rounding import most_rounding, precision_of, varying_columns

_BLOCK_BYTES = 1 << 22
_STRIPS = 8  # of a block, multiplied side by side: threads share out strips better than one short, wide product
_WORST_SHIFT = 8.0
_LEAST = 1e-28  # of a sample's square in float32: below it products lose digits at the end of the range
_MOST = 1e140  # of a sample's square in float64: HSIC is made of products of two


def centred_gram(features: Float[Tensor, "n ..."]) -> Float[Tensor, "n n"]:
    """Inner products of all pairs of samples after the mean sample was subtracted.

    Half precision is widened to float32 first; float32 and float64 are multiplied as they are.
    Where float32 products overflow although every feature is finite, or are too small for its digits, float64 is used.
    Features that differ between samples by rounding alone (`kdprobe.features.rounding`) give a matrix of exact zeros.

    Args:
        features: one row, map or token sequence per sample.

    Returns:
        a float64 matrix on the features' device.

    Raises:
        AnalysisError: if features are NaN or infinite, with their number, or so large or small that the squares of
            their products are out of float64's range.
    """
    rows = _rows(features.detach())
    dtype = torch.promote_types(rows.dtype, torch.float32)
    with torch.autocast(rows.device.type, enabled=False):
        gram = _gram(rows, dtype)
        total = float(gram.trace())  # not finite where any product is not
        if not math.isfinite(total):
            _refuse_non_finite(rows)
        if total == 0 and bool((rows == rows[0]).all()):  # as after the zeros that residual branches begin with
            return gram
        if dtype == torch.float32 and not _LEAST * len(rows) < total < math.inf:
            gram = _gram(rows, torch.float64)
            total = float(gram.trace())
        return _without_rounding(gram, total, rows)


def _without_rounding(gram: Tensor, total: float, rows: Tensor) -> Tensor:
    """The matrix without columns that vary by rounding alone; these are looked for only where the spread is small."""
    n = len(rows)
    assumed = rows.dtype if torch.finfo(rows.dtype).bits == 16 else torch.bfloat16  # which were perhaps widened
    if total <= n * most_rounding(rows[0], assumed) ** 2:
        varying = varying_columns(rows, precision_of(rows))
        if not varying.any():
            return torch.zeros_like(gram)
        gram = gram if varying.all() else _gram(rows[:, varying], torch.float64)
        total = float(gram.trace())
    if not 1 / _MOST < total / n < _MOST:
        raise AnalysisError(
            f"the features vary by {math.sqrt(total / n):.1g} around their mean, so the squares of their products "
            "are out of float64's range; scale them closer to 1"
        )
    return gram


def _rows(features: Tensor) -> Tensor:
    """[n, ...] -> [n, d] in the order of memory, as a view where one exists: a Gram matrix has no column order."""
    by_stride = sorted(range(1, features.ndim), key=features.stride, reverse=True)
    return features.permute(0, *by_stride).flatten(1)


def _gram(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Shift by the first sample, which is exact near it, then centre; an outlier there costs a second pass."""
    shifted = _sum_of_blocks(rows, dtype, by_mean=False)
    gram = _double_centred(shifted)
    if shifted.trace() > _WORST_SHIFT * gram.trace():
        gram = _double_centred(_sum_of_blocks(rows, dtype, by_mean=True))
    return gram


def _sum_of_blocks(rows: Tensor, dtype: torch.dtype, *, by_mean: bool) -> Tensor:
    n, width = rows.shape
    gram = torch.zeros(n, n, dtype=torch.float64, device=rows.device)
    columns = width if rows.is_cuda else max(256, _BLOCK_BYTES // (n * dtype.itemsize))
    scratch = torch.empty(n, min(columns, width), dtype=dtype, device=rows.device)
    for start in range(0, width, columns):
        block = rows[:, start : start + columns].to(dtype)
        shifted = scratch[:, : block.shape[1]]
        torch.sub(block, block[0], out=shifted)
        if by_mean:
            shifted -= shifted.mean(0)
        _add_product(gram, shifted)
    return gram.tril() + gram.tril(-1).mT


def _add_product(gram: Tensor, shifted: Tensor) -> None:
    """Add the lower triangle of shifted @ shifted.T, in row blocks that skip most of the upper one."""
    n, width = shifted.shape
    n_strips = 1 if shifted.is_cuda or width % _STRIPS else _STRIPS
    strips = shifted.view(n, n_strips, width // n_strips).transpose(0, 1)  # [strips, n, width / strips]
    step = max(16, n // 4)
    for start in range(0, n, step):
        stop = min(start + step, n)
        products = torch.bmm(strips[:, start:stop], strips[:, :stop].mT)
        gram[start:stop, :stop] += products.sum(0, dtype=torch.float64)


def _double_centred(gram: Tensor) -> Tensor:
    rows = gram.mean(-1, keepdim=True)
    return gram - rows - rows.mT + rows.mean()


def _refuse_non_finite(rows: Tensor) -> None:
    nan, infinite = int(rows.isnan().sum()), int(rows.isinf().sum())
    if nan or infinite:
        raise AnalysisError(f"{nan} NaN and {infinite} infinite values among {rows.numel()} features")
