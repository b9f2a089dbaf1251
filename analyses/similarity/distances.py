"""Distances between all samples of a layer, and the measures that compare those of two layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from analyses.similarity.measure import FeatureSet, Measure
from kdprobe.errors import Undefined
from kdprobe.features.gram import centred_gram
from kdprobe.features.rounding import distance_tolerance

_NEAR = 1e-6  # of both squared lengths: below it the squared distance of two samples has lost digits
_SAME = 1e-12  # of the squares of all standardised distances: below it those that are left are the same
_BLOCK = 1 << 22  # differences made at a time


def distances(features: FeatureSet) -> tuple[Float[Tensor, "n n"], float]:
    """Euclidean distances of all pairs of samples, and how far two of them may be apart by rounding alone.

    They come from inner products of centred features; where two samples are so near that these lose their digits, from
    their differences.

    Raises:
        Undefined: for features that do not vary.
    """
    varying = features.varying
    gram = centred_gram(varying)
    lengths = gram.diagonal()
    both = lengths[:, None] + lengths[None, :]
    squares = both - 2 * gram
    near = (squares < _NEAR * both).nonzero()
    for pairs in torch.split(near, max(1, _BLOCK // varying.shape[1])):
        one, other = pairs.unbind(1)
        squares[one, other] = (varying[one] - varying[other]).square().sum(1)
    tolerance = distance_tolerance(varying, features.stored, scale=features.scale)
    return squares.clamp_(min=0).sqrt_().fill_diagonal_(0), tolerance


def rsa(x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."], *, ranks: bool = False) -> float:
    """Correlation of the distances between samples.

    Args:
        x: features.
        y: features of the same samples.
        ranks: Spearman's correlation instead of Pearson's; distances that are equal but for rounding are ties.

    Returns:
        in [-1, 1]; invariant to rotation, scale and shift.

    Raises:
        AnalysisError: for different samples.
        Undefined: for features that do not vary, or distances that are all the same.

    Reference:
        Kriegeskorte, Mur, Bandettini (2008), Representational similarity analysis.
    """
    return (RankRSA() if ranks else RSA()).between(x, y)


@dataclass(frozen=True)
class RSA(Measure[Tensor]):
    """As `rsa`; of each layer, distances [n, n] of mean 0 and norm 1 over all pairs of different samples."""

    title: ClassVar[str] = "RSA (Pearson)"

    def prepare(self, features: FeatureSet) -> Tensor:
        """Distances, standardised."""
        found, tolerance = distances(features)
        rows, columns = torch.triu_indices(features.n, features.n, 1, device=found.device)
        pairs = found[rows, columns]
        if not len(pairs) or float(pairs.max() - pairs.min()) <= tolerance:
            raise Undefined("RSA is undefined: all distances between samples are the same but for rounding")
        return _standardised(found, self._scores(pairs, tolerance))

    def without(self, features: FeatureSet, prepared: Tensor, kept: Tensor) -> Tensor:
        """The distances that are left, standardised again."""
        left = prepared[kept][:, kept]
        return _standardised(
            left, self._scores(left[*torch.triu_indices(len(left), len(left), 1, device=left.device)], 0.0)
        )

    def _scores(self, pairs: Tensor, _tolerance: float) -> Tensor:
        return pairs

    def compare(self, one: Tensor, other: Tensor) -> float:
        """The correlation."""
        return float(one.flatten() @ other.flatten())

    def compare_all(self, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> NDArray[np.float64]:
        """Correlations of all pairs of layers as products of matrices, some samples at a time."""
        return products(rows, columns)

    def left_out(
        self,
        rows: Sequence[tuple[FeatureSet, Tensor]],
        columns: Sequence[tuple[FeatureSet, Tensor]],
        groups: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The correlations of what is left, from sums of products of each group with all samples and with itself."""
        numbers, counts = np.unique(groups, return_counts=True)
        members = [torch.from_numpy(np.flatnonzero(groups == number)) for number in numbers]
        one, other = ([prepared for _, prepared in side] for side in (rows, columns))
        all_of = np.stack([products([x[own] for x in one], [y[own] for y in other]) for own in members])
        within = np.stack([products([x[own][:, own] for x in one], [y[own][:, own] for y in other]) for own in members])
        left = (len(groups) - counts).astype(np.float64)
        pairs = np.maximum(left * (left - 1), 1)[:, None]
        (sums, variances), (other_sums, other_variances) = (
            _moments_left(side, members, pairs) for side in (one, other)
        )
        shared = all_of.sum(0) - 2 * all_of + within - (sums / pairs)[:, :, None] * other_sums[:, None]
        return shared / np.sqrt(variances[:, :, None] * other_variances[:, None]), counts.astype(np.float64)

    def reordered(self, prepared: Tensor, order: Tensor) -> Tensor:
        """Rows and columns permuted."""
        return prepared[order][:, order]


@dataclass(frozen=True)
class RankRSA(RSA):
    """As `rsa` of ranks."""

    title: ClassVar[str] = "RSA (Spearman)"

    def left_out(
        self,
        rows: Sequence[tuple[FeatureSet, Tensor]],
        columns: Sequence[tuple[FeatureSet, Tensor]],
        groups: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of distances that are ranked again."""
        return Measure.left_out(self, rows, columns, groups)

    def _scores(self, pairs: Tensor, tolerance: float) -> Tensor:
        return torch.from_numpy(tied_ranks(pairs.cpu().numpy(), tolerance)).to(pairs.device)


def _standardised(matrix: Tensor, scores: Tensor) -> Tensor:
    """Scores of all pairs, of mean 0 and norm 1, in both halves of a matrix [n, n] with a diagonal of 0."""
    scores = scores - scores.mean()
    scores /= scores.norm() * 2**0.5  # each pair is there twice
    rows, columns = torch.triu_indices(len(matrix), len(matrix), 1, device=matrix.device)
    matrix[rows, columns] = scores
    matrix[columns, rows] = scores
    return matrix


def _moments_left(
    layers: Sequence[Tensor], groups: Sequence[Tensor], pairs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of the entries without each group, and of squares around their mean, NaN where 0 but for rounding."""
    sums, squares = (
        np.array([_sums_left(entries, groups) for entries in powers]).T
        for powers in (layers, (layer.square() for layer in layers))
    )
    around = squares - sums**2 / pairs
    return sums, np.where(around > _SAME, around, np.nan)


def _sums_left(entries: Tensor, groups: Sequence[Tensor]) -> list[float]:
    of_rows = entries.sum(1)
    total = of_rows.sum()
    return [float(total - 2 * of_rows[group].sum() + entries[group][:, group].sum()) for group in groups]


def products(rows: Sequence[Tensor], columns: Sequence[Tensor]) -> NDArray[np.float64]:
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


def tied_ranks(values: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Ranks, the mean one for values that are within a tolerance of each other.

    Values follow each other in groups that end where a gap is wider than the tolerance. A group that is itself wider,
    as of many values that lie close together, is cut into steps of the tolerance.
    """
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    starts = np.r_[True, np.diff(ascending) > tolerance]
    first = ascending[starts][np.cumsum(starts) - 1]  # of each value's group
    steps = np.floor((ascending - first) / tolerance) if tolerance > 0 else ascending - first
    steps = np.where(ascending - first <= tolerance, 0.0, steps)
    numbers = np.empty(len(values))
    numbers[order] = np.cumsum(starts | np.r_[True, np.diff(steps) != 0])
    found: NDArray[np.float64] = rankdata(numbers)
    return found
