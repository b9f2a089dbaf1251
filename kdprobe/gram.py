"""Gram matrices of centred features, made while the features are hot.

A feature matrix is shifted and multiplied in column blocks that stay in the processor's cache, so
that it is read from memory once and never copied as a whole; the blocks' products are summed in
float64. A shift of the features changes neither unbiased nor biased HSIC, but without it the
products of features far from zero lose all their digits.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kdprobe.errors import AnalysisError

_BLOCK_BYTES = 1 << 20


def centred_gram(features: Float[Tensor, "n ..."]) -> Float[Tensor, "n n"]:
    """Inner products of all pairs of samples after the mean sample was subtracted.

    Half precision is widened to float32 first; float32 and float64 are multiplied as they are.
    Where a float32 product overflows although every feature is finite, float64 is used.
    Features that are the same for every sample give a matrix of exact zeros.

    Args:
        features: one row, map or token sequence per sample.

    Returns:
        a float64 matrix on the features' device.

    Raises:
        AnalysisError: if a feature is NaN or infinite, with their number.
    """
    rows = _rows(features.detach())
    with torch.autocast(rows.device.type, enabled=False):
        gram = _sum_of_blocks(rows, torch.promote_types(rows.dtype, torch.float32))
        if not torch.isfinite(gram).all():
            _refuse_non_finite(rows)
            gram = _sum_of_blocks(rows, torch.float64)
    return gram


def _rows(features: Tensor) -> Tensor:
    """[n, ...] -> [n, d] in the order of memory, as a view where one exists: a Gram matrix has no column order."""
    by_stride = sorted(range(1, features.ndim), key=features.stride, reverse=True)
    return features.permute(0, *by_stride).flatten(1)


def _sum_of_blocks(rows: Tensor, dtype: torch.dtype) -> Tensor:
    n, width = rows.shape
    gram = torch.zeros(n, n, dtype=torch.float64, device=rows.device)
    columns = width if rows.is_cuda else max(256, _BLOCK_BYTES // (n * dtype.itemsize))
    scratch = torch.empty(n, min(columns, width), dtype=dtype, device=rows.device)
    for start in range(0, width, columns):
        block = rows[:, start : start + columns].to(dtype)
        shifted = scratch[:, : block.shape[1]]
        # Two shifts: the first is exact near the first sample and leaves zeros where nothing varies,
        # the second keeps the products small where the first sample is an outlier.
        torch.sub(block, block[0], out=shifted)
        shifted -= shifted.mean(0)
        gram += shifted @ shifted.T
    return gram


def _refuse_non_finite(rows: Tensor) -> None:
    nan, infinite = int(rows.isnan().sum()), int(rows.isinf().sum())
    if nan or infinite:
        raise AnalysisError(f"{nan} NaN and {infinite} infinite values among {rows.numel()} features")
