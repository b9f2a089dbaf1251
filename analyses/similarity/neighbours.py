"""Measures by nearest neighbours: whether the samples that are alike for one layer are alike for the other.

Neighbours are those of the largest inner products, never oneself; of rows of length 1 these are cosines, without that
long vectors are favoured. Where several samples are equally near and only some of them fit into the k, each is
a neighbour in part: values are the exact means over random orders of such ties, and do not depend on the order of
samples. Two layers of the same neighbours and the same ties are given the same order, and so have all in common.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from analyses.arrays import takes_arrays
from analyses.similarity.measure import FeatureSet, Measure
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.hsic import MIN_SAMPLES

_BLOCK = 1 << 23  # inner products made at a time
_FEW = 4  # layers that are compared one by one
_SPREAD_OUT = 1 << 20  # shares of one layer spread out at a time
_SPREAD = 8.0  # how many times the rounding of one product that of a sum may be


@dataclass(frozen=True, eq=False)
class Reserve:
    """More near samples of each sample than are its neighbours; they move up where some samples are left out.

    Attributes:
        columns: which they are [n, c], ascending.
        values: their inner products with the sample [n, c].
        least: what no other sample exceeds [n, 1].
        rounding: how far products may be apart by rounding alone [n, 1].
    """

    columns: Tensor
    values: Tensor
    least: Tensor
    rounding: Tensor

    def without(self, kept: Tensor) -> "Reserve":
        """Of the samples that are kept, with minus infinity for what is left out."""
        places = torch.full((len(self.columns),), -1, device=self.columns.device)
        places[kept] = torch.arange(len(kept), device=places.device)
        columns = places[self.columns[kept]]
        values = self.values[kept].masked_fill(columns < 0, -torch.inf)
        return Reserve(columns, values, self.least[kept], self.rounding[kept])


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest samples of each sample, as sparse matrices [n, n] of the same pattern.

    Attributes:
        share: 1 for a neighbour, less for one of several that are equally near.
        product: its inner product with the sample.
        reserve: what is next to them; None of permuted samples.
    """

    share: Any
    product: Any
    reserve: Reserve | None = None

    @property
    def n(self) -> int:
        """Number of samples."""
        return int(self.share.shape[0])

    @cached_property
    def samples(self) -> NDArray[np.int64]:
        """The sample of each pair of a sample and its neighbour."""
        return np.repeat(np.arange(self.n), np.diff(self.share.indptr))

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """A number for each such pair, ascending."""
        return np.asarray(self.samples * self.n + self.share.indices, np.int64)

    def same(self, other: "Neighbours") -> bool:
        """Whether all neighbours are the same, and all ties."""
        parts = ("indices", "indptr", "data")
        return all(np.array_equal(getattr(self.share, part), getattr(other.share, part)) for part in parts)

    def alignment(self, other: "Neighbours") -> float:
        """Unbiased HSIC of the inner products of neighbours in both."""
        n, (shared, place) = self.n, _find(self.pairs, other.pairs)
        mine, others = np.flatnonzero(shared), place[shared]
        both = self.share.data[mine] * (1.0 if self.same(other) else other.share.data[others])
        x, y = both * self.product.data[mine], both * other.product.data[others]
        samples, columns = self.samples[mine], self.share.indices[mine]
        there, back = _find(columns * n + samples, self.pairs[mine])
        middle = np.bincount(columns, x, n) @ np.bincount(samples, y, n)
        value = x[there] @ y[back[there]] + x.sum() * y.sum() / ((n - 1) * (n - 2)) - 2 * middle / (n - 2)
        return float(value / (n * (n - 3)))

    @cached_property
    def with_itself(self) -> float:
        """The same of the sample's neighbours alone."""
        return self.alignment(self)

    def reordered(self, order: Tensor) -> "Neighbours":
        """Of permuted samples."""
        rows = order.cpu().numpy()
        return Neighbours(*(one[rows][:, rows].sorted_indices() for one in (self.share, self.product)))


def nearest(features: FeatureSet, k: int, *, cosine: bool = False) -> Neighbours:
    """The k nearest samples of each, by cosine if wished (a row of zeros stays as it is), made some at a time."""
    assert features.scale  # raises where nothing varies
    rows, rounding = _directions(features, cosine=cosine)
    return _neighbours(_reserve(rows, rounding, k), k, lambda: rows)


def _directions(features: FeatureSet, *, cosine: bool) -> tuple[Tensor, Tensor]:
    """The rows [n, d], of length 1 if so wished, and how far their inner products may be rounded [n, 1]."""
    rows = features.rows.double()
    lengths = rows.norm(dim=1)
    if cosine:
        rows = rows / torch.where(lengths > 0, lengths, 1.0)[:, None]
        lengths = (lengths > 0).double()
    eps = torch.finfo(features.stored).eps / features.d**0.5 + _SPREAD * torch.finfo(torch.float64).eps
    return rows, (eps * lengths * lengths.amax())[:, None]


def _reserve(rows: Tensor, rounding: Tensor, k: int) -> Reserve:
    n = len(rows)
    count = min(2 * k + 20, n - 1)
    found = []
    for own in torch.split(torch.arange(n, device=rows.device), max(1, _BLOCK // n)):
        values, columns = _inner_products(rows, own).topk(count, dim=1)
        columns, order = columns.sort(1)
        found.append((columns, values.gather(1, order)))
    columns, values = map(torch.cat, zip(*found, strict=True))
    least = values.amin(1, keepdim=True) if count < n - 1 else torch.full_like(rounding, -torch.inf)
    return Reserve(columns, values, least, rounding)


def _inner_products(rows: Tensor, own: Tensor) -> Tensor:
    """Of some samples with all; minus infinity with themselves."""
    block = rows[own] @ rows.T
    return block.scatter_(1, own[:, None], -torch.inf)


def _neighbours(reserve: Reserve, k: int, rows: Callable[[], Tensor]) -> Neighbours:
    """The neighbours among a reserve, or among all samples where it does not hold all that are as near as the last."""
    n, every = len(reserve.columns), torch.arange(len(reserve.columns), device=reserve.columns.device)
    near = reserve.values.topk(k, dim=1).values
    enough = (reserve.least < near[:, -1:] - reserve.rounding)[:, 0]
    known = (every, reserve.columns, reserve.values, near, reserve.rounding)
    found = [_entries(*(one[enough] for one in known))]
    for own in torch.split(every[~enough], max(1, _BLOCK // n)) if not enough.all() else ():
        products = _inner_products(rows(), own)
        near = products.topk(k, dim=1).values
        found.append(_entries(own, every.expand_as(products), products, near, reserve.rounding[own]))
    samples, columns, shares, values = (torch.cat(part).cpu().numpy() for part in zip(*found, strict=True))
    share, product = (sparse.csr_array((data, (samples, columns)), shape=(n, n)) for data in (shares, values))
    return Neighbours(share.sorted_indices(), product.sorted_indices(), reserve)


def _entries(own: Tensor, columns: Tensor, values: Tensor, nearest: Tensor, rounding: Tensor) -> tuple[Tensor, ...]:
    """Of some samples' inner products with others, k the largest: sample, neighbour, share and product of each."""
    k, bound = nearest.shape[1], nearest[:, -1:]
    sure, near = values > bound + rounding, values >= bound - rounding
    n_sure, n_near = sure.sum(1), near.sum(1)
    part = (k - n_sure).double() / (n_near - n_sure).clamp(min=1)
    shares = torch.where(sure, 1.0, part[:, None])
    return own.repeat_interleave(n_near), columns[near], shares[near], values[near]


def _find(wanted: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether each number is among known ones, which ascend, and where."""
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return known[place] == wanted, place


@takes_arrays
def mutual_knn(x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."], *, k: int = 10) -> float:
    """Mean share of the k nearest neighbours that both have in common.

    Args:
        x: features, taken as they are: divide rows by their lengths for cosines.
        y: features of the same samples.
        k: neighbours of each sample, from 1 to n - 2; of all others as neighbours, every value is 1.

    Returns:
        in [0, 1]; about k / (n - 1) for independent features, exactly 1 for equal ones.

    Raises:
        AnalysisError: for different samples, or another k.
        Undefined: for features that do not vary.

    Reference:
        Huh, Cheung, Wang, Isola (2024), The platonic representation hypothesis, appendix B.

    Example:
        >>> from analyses.similarity import mutual_knn
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(200, 8, generator=generator)
        >>> rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
        >>> other = torch.randn(200, 8, generator=generator)
        >>> round(mutual_knn(x, x @ rotation), 2)
        1.0
        >>> round(mutual_knn(x, other), 2)
        0.05
    """
    return MutualKNN(k, cosine=False).between(x, y)


@takes_arrays
def cycle_knn(x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."], *, k: int = 10) -> float:
    """Share of samples that come back to themselves: one of their neighbours by y has them as a neighbour by x.

    Args:
        x: features, taken as they are.
        y: features of the same samples.
        k: neighbours of each sample, from 1 to n - 2; of all others as neighbours, every value is 1.

    Returns:
        in [0, 1]; not symmetric; about 1 - (1 - k / (n - 1))^k for independent features.

    Raises:
        AnalysisError: for different samples, or another k.
        Undefined: for features that do not vary.

    Reference:
        As `mutual_knn`.

    Example:
        >>> from analyses.similarity import cycle_knn
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(200, 8, generator=generator)
        >>> rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
        >>> other = torch.randn(200, 8, generator=generator)
        >>> round(cycle_knn(x, x @ rotation, k=3), 2)
        0.4
        >>> round(cycle_knn(x, other, k=3), 2)
        0.05
    """
    return CycleKNN(k, cosine=False).between(x, y)


@takes_arrays
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

    Example:
        >>> from analyses.similarity import cknna
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(200, 8, generator=generator)
        >>> rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
        >>> other = torch.randn(200, 8, generator=generator)
        >>> round(cknna(x, x @ rotation), 2)
        1.0
        >>> round(cknna(x, x + other / 2), 2)
        0.54
    """
    return CKNNA(k, cosine=False, eps=eps).between(x, y)


@dataclass(frozen=True)
class NeighbourMeasure(Measure[Neighbours]):
    """What the measures by neighbours have in common.

    Attributes:
        k: neighbours of each sample.
        cosine: bring rows to length 1 first, as for stored and shown layers.
        others: samples that must be left beside oneself and one's neighbours.
    """

    others: ClassVar[int] = 1
    k: int = 10
    cosine: bool = True

    def facts(self, n: int) -> dict[str, Any]:
        """The number of neighbours, and the value of independent features where it is known."""
        return {"neighbours": self.k} | ({} if (chance := self.chance(n)) is None else {"chance": chance})

    def chance(self, n: int) -> float | None:
        """What independent features come to on n samples; None where no formula is known."""
        return None

    def prepare(self, features: FeatureSet) -> Neighbours:
        """The neighbours of each sample."""
        self._check(features.n)
        return nearest(features, self.k, cosine=self.cosine)

    def reordered(self, prepared: Neighbours, order: Tensor) -> Neighbours:
        """Rows and columns permuted."""
        return prepared.reordered(order)

    def without(self, features: FeatureSet, prepared: Neighbours, kept: Tensor) -> Neighbours:
        """The neighbours among the samples that are left, from the reserve."""
        if prepared.reserve is None:
            return super().without(features, prepared, kept)
        self._check(len(kept))
        return _neighbours(
            prepared.reserve.without(kept), self.k, lambda: _directions(features, cosine=self.cosine)[0][kept]
        )

    def _check(self, n: int) -> None:
        most = n - 1 - self.others
        if not 1 <= self.k <= most:
            why = ", as with all others as neighbours every value is 1" if self.k == n - 1 else ""
            raise AnalysisError(f"the neighbours k of {n} samples must be from 1 to {most}, but are {self.k}{why}")


@dataclass(frozen=True)
class MutualKNN(NeighbourMeasure):
    """As `mutual_knn`."""

    title: ClassVar[str] = "mutual k-NN (cosine)"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def chance(self, n: int) -> float:
        """The share of all others that are neighbours."""
        return self.k / (n - 1)

    def compare(self, one: Neighbours, other: Neighbours) -> float:
        """The mean share of neighbours in common."""
        return 1.0 if one.same(other) else float(one.share.multiply(other.share).sum() / (self.k * one.n))

    def compare_all(self, rows: Sequence[Neighbours], columns: Sequence[Neighbours]) -> NDArray[np.float64]:
        """The same of all pairs of layers, some samples at a time: all rows with one column spread out."""
        if not rows or len(columns) < _FEW:
            return super().compare_all(rows, columns)
        shared, n = np.zeros((len(rows), len(columns))), rows[0].n
        for start in range(0, n, step := max(1, _SPREAD_OUT // n)):
            left, right = (
                [one.share[start : start + step].reshape((1, -1)).tocsr() for one in side] for side in (rows, columns)
            )
            left, whole = sparse.vstack(left, format="csr"), np.zeros(left[0].shape[1])
            for place, one in enumerate(right):
                whole[one.indices] = one.data
                shared[:, place] += left @ whole
                whole[one.indices] = 0
        return np.where([[x.same(y) for y in columns] for x in rows], 1.0, shared / (self.k * n))


@dataclass(frozen=True)
class CycleKNN(NeighbourMeasure):
    """As `cycle_knn`."""

    title: ClassVar[str] = "cycle k-NN (cosine)"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
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
    others: ClassVar[int] = 0
    eps: float = 0.0

    def prepare(self, features: FeatureSet) -> Neighbours:
        """Neighbours of a layer whose alignment with itself is positive."""
        return self._aligned(features.n, lambda: super(CKNNA, self).prepare(features))

    def without(self, features: FeatureSet, prepared: Neighbours, kept: Tensor) -> Neighbours:
        """The same of the samples that are left."""
        return self._aligned(len(kept), lambda: super(CKNNA, self).without(features, prepared, kept))

    def _aligned(self, n: int, find: Callable[[], Neighbours]) -> Neighbours:
        if n < MIN_SAMPLES or self.k < 2:
            raise AnalysisError(
                f"CKNNA needs at least {MIN_SAMPLES} samples and a k of at least 2, but got {n} and {self.k}"
            )
        found = find()
        if found.with_itself <= 0:
            raise Undefined("CKNNA is undefined: the layer's alignment with itself over its neighbours is not positive")
        return found

    def compare(self, one: Neighbours, other: Neighbours) -> float:
        """The alignment of both over that of each with itself."""
        return one.alignment(other) / (math.sqrt(one.with_itself * other.with_itself) + self.eps)
