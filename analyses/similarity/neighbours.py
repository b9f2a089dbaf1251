"""Measures by nearest neighbours: whether the samples that are alike for one layer are alike for the other.

Neighbours are those of the largest inner products, never oneself; of rows of length 1 these are cosines, without that
long vectors are favoured. Where several samples are equally near and only some of them fit into the k, each is
a neighbour in part: values are the exact means over random orders of such ties, and do not depend on the order of
samples.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from analyses.similarity.measure import FeatureSet, Measure
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.hsic import MIN_SAMPLES

_BLOCK = 1 << 25  # inner products made at a time
_SPREAD = 8.0  # how many times the rounding of one product that of a sum may be


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest samples of each sample, as sparse matrices [n, n] of the same pattern.

    Attributes:
        share: 1 for a neighbour, less for one of several that are equally near.
        product: its inner product with the sample.
    """

    share: Any
    product: Any

    def reordered(self, order: Tensor) -> "Neighbours":
        """Of permuted samples."""
        rows = order.cpu().numpy()
        return Neighbours(self.share[rows][:, rows], self.product[rows][:, rows])


def nearest(features: FeatureSet, k: int, *, cosine: bool = False) -> Neighbours:
    """The k nearest samples of each; no more than a block of inner products is held at once.

    Args:
        features: of n samples.
        k: from 1 to n - 1.
        cosine: bring rows to length 1 first; a row of zeros stays as it is.

    Raises:
        AnalysisError: for another k.
        Undefined: for features that do not vary.
    """
    n = features.n
    if not 1 <= k < n:
        raise AnalysisError(f"k must be from 1 to {n - 1}, one less than the samples, but is {k}")
    assert features.scale  # raises where nothing varies
    rows = features.rows.double()
    lengths = rows.norm(dim=1)
    if cosine:
        rows = rows / torch.where(lengths > 0, lengths, 1.0)[:, None]
        lengths = (lengths > 0).double()
    eps = torch.finfo(features.stored).eps / features.d**0.5 + _SPREAD * torch.finfo(torch.float64).eps
    rounding = eps * lengths * lengths.amax()
    step = max(1, _BLOCK // n)
    parts = [_block(rows, start, rows[start : start + step] @ rows.T, k, rounding) for start in range(0, n, step)]
    counts, columns, shares, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    pointers = np.r_[0, np.cumsum(counts)]
    return Neighbours(*(sparse.csr_array((data, columns, pointers), shape=(n, n)) for data in (shares, values)))


def _block(rows: Tensor, start: int, block: Tensor, k: int, rounding: Tensor) -> tuple[NDArray[Any], ...]:
    """Of some samples: how many neighbours each has, which, their shares and their inner products."""
    place = torch.arange(len(block), device=block.device)
    block[place, start + place] = -torch.inf
    bound = block.topk(k, dim=1).values[:, -1:]
    within = rounding[start : start + len(block), None]
    sure, near = block > bound + within, block >= bound - within
    n_sure, n_near = sure.sum(1), near.sum(1)
    part = (k - n_sure).double() / (n_near - n_sure).clamp(min=1)
    rows_at, columns = near.nonzero(as_tuple=True)
    shares = torch.where(sure[rows_at, columns], 1.0, part[rows_at])
    found = n_near, columns, shares, block[rows_at, columns]
    return tuple(one.cpu().numpy() for one in found)


def mutual_knn(x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."], *, k: int = 10) -> float:
    """Mean share of the k nearest neighbours that both have in common.

    Args:
        x: features, taken as they are: divide rows by their lengths for cosines.
        y: features of the same samples.
        k: neighbours of each sample, below n.

    Returns:
        in [0, 1]; about k / (n - 1) for independent features, 1 for k = n - 1.

    Raises:
        AnalysisError: for different samples, or another k.
        Undefined: for features that do not vary.

    Reference:
        Huh, Cheung, Wang, Isola (2024), The platonic representation hypothesis, appendix B.
    """
    return MutualKNN(k, cosine=False).between(x, y)


def cycle_knn(x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."], *, k: int = 10) -> float:
    """Share of samples that come back to themselves: one of their neighbours by y has them as a neighbour by x.

    Args:
        x: features, taken as they are.
        y: features of the same samples.
        k: neighbours of each sample, below n.

    Returns:
        in [0, 1]; not symmetric; about 1 - (1 - k / (n - 1))^k for independent features.

    Raises:
        AnalysisError: for different samples, or another k.
        Undefined: for features that do not vary.

    Reference:
        As `mutual_knn`.
    """
    return CycleKNN(k, cosine=False).between(x, y)


def cknna(x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."], *, k: int = 10, eps: float = 0.0) -> float:
    """CKA over the pairs of samples that are neighbours in both.

    Args:
        x: features, taken as they are.
        y: features of the same samples, at least 4.
        k: neighbours of each sample, from 2 to n - 1, of which the last gives unbiased CKA.
        eps: added to the denominator; the authors add 1e-6, which makes the value depend on the features' size.

    Returns:
        1 for equal features; can be negative; not symmetric, as neighbours are not.

    Raises:
        AnalysisError: for different or too few samples, or another k.
        Undefined: for features that do not vary, or whose alignment with themselves is not positive.

    Reference:
        As `mutual_knn`.
    """
    return CKNNA(k, cosine=False, eps=eps).between(x, y)


@dataclass(frozen=True)
class NeighbourMeasure(Measure[Neighbours]):
    """What the measures by neighbours have in common.

    Attributes:
        k: neighbours of each sample.
        cosine: bring rows to length 1 first, as for stored and shown layers.
    """

    k: int = 10
    cosine: bool = True

    def prepare(self, features: FeatureSet) -> Neighbours:
        """The neighbours of each sample."""
        return nearest(features, self.k, cosine=self.cosine)

    def reordered(self, prepared: Neighbours, order: Tensor) -> Neighbours:
        """Rows and columns permuted."""
        return prepared.reordered(order)


@dataclass(frozen=True)
class MutualKNN(NeighbourMeasure):
    """As `mutual_knn`."""

    title: ClassVar[str] = "mutual k-NN (cosine)"

    def compare(self, one: Neighbours, other: Neighbours) -> float:
        """The mean share of neighbours in common."""
        return float(one.share.multiply(other.share).sum() / (self.k * one.share.shape[0]))


@dataclass(frozen=True)
class CycleKNN(NeighbourMeasure):
    """As `cycle_knn`."""

    title: ClassVar[str] = "cycle k-NN (cosine)"
    symmetric: ClassVar[bool] = False
    no_interval: ClassVar[str] = (
        "the share for k neighbours falls with the number of samples, so that an interval around it would miss the "
        "value of the population; read it beside its permutation null"
    )

    def compare(self, one: Neighbours, other: Neighbours) -> float:
        """The share of samples that come back."""
        n = one.share.shape[0]
        back = other.share.multiply(one.share.T).tocsr()  # [i, j]: j is a neighbour of i by y, and i of j by x
        never = np.ones(n)
        sure = other.share.copy()
        sure.data = (sure.data == 1).astype(np.float64)
        certain = back.multiply(sure).tocsr()
        filled = np.repeat(np.arange(n), np.diff(certain.indptr))
        np.multiply.at(never, filled, 1 - certain.data)
        for row in np.flatnonzero(np.diff(other.share.indptr) > self.k):  # has ties at its end
            never[row] *= _tied(other.share[[row]], one.share[:, [row]].T.tocsr(), self.k)
        return float(1 - never.mean())


def _tied(own: Any, back: Any, k: int) -> float:
    """Probability that none of the neighbours drawn among ties comes back: a mean over all equal choices of them."""
    tied = own.indices[own.data < 1]
    n_drawn = k - int((own.data == 1).sum())
    stays = 1 - back[[0]][:, tied].toarray().ravel()
    sums = np.zeros(n_drawn + 1)  # means, over choices of s among the ties so far, of the products of `stays`
    sums[0] = 1.0
    for seen, value in enumerate(stays, 1):
        chosen = np.arange(1, n_drawn + 1) / seen  # of s among `seen`, the share of choices with the last one
        taken = np.minimum(chosen, 1.0)
        sums[1:] = (1 - taken) * sums[1:] + taken * value * sums[:-1]
    return float(sums[n_drawn])


@dataclass(frozen=True)
class CKNNA(NeighbourMeasure):
    """As `cknna`."""

    title: ClassVar[str] = "CKNNA (cosine)"
    symmetric: ClassVar[bool] = False
    eps: float = 0.0

    def prepare(self, features: FeatureSet) -> Neighbours:
        """Neighbours of a layer whose alignment with itself is positive."""
        if features.n < MIN_SAMPLES or self.k < 2:
            raise AnalysisError(
                f"CKNNA needs at least {MIN_SAMPLES} samples and a k of at least 2, but got {features.n} and {self.k}"
            )
        found = super().prepare(features)
        if self._alignment(found, found) <= 0:
            raise Undefined("CKNNA is undefined: the layer's alignment with itself over its neighbours is not positive")
        return found

    def compare(self, one: Neighbours, other: Neighbours) -> float:
        """The alignment of both over that of each with itself."""
        own = self._alignment(one, one) * self._alignment(other, other)
        return float(self._alignment(one, other) / (own**0.5 + self.eps))

    def _alignment(self, one: Neighbours, other: Neighbours) -> float:
        """Unbiased HSIC of the inner products of neighbours in both."""
        both = one.share if one is other else one.share.multiply(other.share)
        x, y = both.multiply(one.product).tocsr(), both.multiply(other.product).tocsr()
        n = x.shape[0]
        middle = x.sum(0) @ y.sum(1)
        value = x.multiply(y.T).sum() + x.sum() * y.sum() / ((n - 1) * (n - 2)) - 2 * middle / (n - 2)
        return float(value / (n * (n - 3)))
