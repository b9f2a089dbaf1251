"""Layers as symmetric matrices over the samples: sums of products of all pairs, and without each group of samples."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyses.jackknife import Array

_BLOCK = 1 << 22  # entries multiplied at a time
_SAME = 1e-12  # of the squares of all entries: below it those that are left are the same


class Centring(NamedTuple):
    """What centring a matrix of m samples takes off a sum of products.

    With row sums a_i and b_i, and sums a and b, of two matrices, the sum of products of the centred ones is that of the
    matrices less `rows` times the sum of a_i b_i, plus `total` times a b.

    Attributes:
        rows: of the products of row sums.
        total: of the product of the sums.
    """

    rows: float
    total: float


def products(rows: Sequence[Tensor], columns: Sequence[Tensor]) -> Array:
    """Sums of products of the entries of all pairs of matrices of one shape: an array [rows, columns]."""
    total = np.zeros((len(rows), len(columns)))
    if not total.size:
        return total
    n, width = rows[0].shape
    step = max(1, _BLOCK // (width * max(total.shape)))
    for start in range(0, n, step):
        left, right = (torch.stack([one[start : start + step] for one in side]) for side in (rows, columns))
        total += (left.flatten(1) @ right.flatten(1).T).cpu().numpy()
    return total


def correlations_left(
    rows: Sequence[Tensor],
    columns: Sequence[Tensor],
    groups: NDArray[np.int64],
    centring: Callable[[int], Centring],
) -> tuple[Array, Array]:
    """Correlations of the entries that are left without each group of samples, centred again.

    They come from sums of products of each group with all samples and with itself, which together are little more than
    one comparison of all pairs.

    Args:
        rows: matrices [n, n] of one network.
        columns: of the other.
        groups: the number of each sample's group [n].
        centring: of so many samples.

    Returns:
        correlations [groups, rows, columns], NaN where nothing that is left varies; the groups' numbers of samples.
    """
    numbers, counts = np.unique(groups, return_counts=True)
    members = [torch.from_numpy(np.flatnonzero(groups == number)) for number in numbers]
    of_group = np.stack([products([x[own] for x in rows], [y[own] for y in columns]) for own in members])
    within = np.stack([products([x[own][:, own] for x in rows], [y[own][:, own] for y in columns]) for own in members])
    taken = [centring(int(len(groups) - count)) for count in counts]
    (sums, own), (other_sums, other_own) = (_sums_left(side, members, taken) for side in (rows, columns))
    shared = of_group.sum(0) - 2 * of_group + within
    for place, (one, other, off) in enumerate(zip(sums, other_sums, taken, strict=True)):
        shared[place] += off.total * np.outer(one.sum(1), other.sum(1)) - off.rows * one @ other.T
    return shared / np.sqrt(own[:, :, None] * other_own[:, None]), counts.astype(np.float64)


def _sums_left(layers: Sequence[Tensor], groups: Sequence[Tensor], centring: Sequence[Centring]) -> tuple[Array, Array]:
    """Row sums without each group [G, L, n], 0 in its own rows; and squares once centred [G, L], NaN where all same."""
    n = len(layers[0]) if layers else 0
    member = torch.zeros(n, len(groups), dtype=torch.float64)
    for place, group in enumerate(groups):
        member[group, place] = 1
    sums, squares = np.zeros((len(groups), len(layers), n)), np.zeros((len(groups), len(layers)))
    for place, entries in enumerate(layers):
        kept = 1 - member.to(entries.device)
        rows_left = (entries @ kept).mul_(kept).T  # [G, n]
        squares_left = ((entries.square() @ kept) * kept).sum(0)
        sums[:, place], squares[:, place] = rows_left.cpu().numpy(), squares_left.cpu().numpy()
    for place, off in enumerate(centring):
        one = sums[place]
        squares[place] += off.total * one.sum(1) ** 2 - off.rows * (one**2).sum(1)
    return sums, np.where(squares > _SAME, squares, np.nan)
