"""Distances between all samples of a layer, and the measures that compare those of two layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from analyses.arrays import takes_arrays
from analyses.similarity.matrices import products
from analyses.similarity.measure import FeatureSet, Measure
from kdprobe.errors import Undefined
from kdprobe.features.rounding import distance_tolerance

_NEAR = 1e-6  # of both squared lengths: below it the squared distance of two samples has lost digits
_FAR = 8.0  # how many times as long as without their mean features may be after a shift by the first sample
_IN_CACHE = 1 << 17  # distances made at a time
_BLOCK = 1 << 22  # differences made at a time


def distances(features: FeatureSet) -> tuple[Float[Tensor, "n n"], float]:
    """Euclidean distances of all pairs of samples, and how far two of them may be apart by rounding alone.

    They come from inner products of shifted features, some samples at a time; where two samples are so near that these
    lose their digits, from their differences.

    Raises:
        Undefined: for features that do not vary.
    """
    varying = features.varying
    tolerance = distance_tolerance(varying, features.stored, scale=features.scale)
    shifted = varying - varying[0]  # exact where samples have values in common
    n, mean, lengths = len(shifted), shifted.mean(0), shifted.square().sum(1)
    if float(lengths.sum()) > _FAR * float(lengths.sum() - n * (mean @ mean)):
        lengths = (shifted := shifted - mean).square().sum(1)
    found = shifted.new_empty(n, n)
    step = max(1, _IN_CACHE // n)
    for start in range(0, n, step):
        stop = min(start + step, n)
        both = lengths[start:stop, None] + lengths[:stop]
        squares = torch.addmm(both, shifted[start:stop], shifted[:stop].T, alpha=-2)
        both.mul_(_NEAR).diagonal(start).fill_(-torch.inf)
        near = (squares < both).nonzero()
        for pairs in torch.split(near, max(1, _BLOCK // varying.shape[1])):
            one, other = pairs.unbind(1)
            squares[one, other] = (varying[start + one] - varying[other]).square().sum(1)
        torch.sqrt(squares.clamp_(min=0), out=found[start:stop, :stop])
        found[:start, start:stop] = found[start:stop, :start].T
    return found.fill_diagonal_(0), tolerance


@takes_arrays
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

    Example:
        >>> from analyses.similarity import rsa
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(200, 8, generator=generator)
        >>> rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
        >>> other = torch.randn(200, 8, generator=generator)
        >>> round(rsa(x, 3 * x @ rotation), 2)
        1.0
        >>> round(rsa(x, other), 2)
        0.01
    """
    return (RankRSA() if ranks else RSA()).between(x, y)


@dataclass(frozen=True)
class RSA(Measure[Tensor]):
    """As `rsa`; of each layer, distances [n, n] of mean 0 and norm 1 over all pairs of different samples."""

    title: ClassVar[str] = "RSA (Pearson)"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    no_interval: ClassVar[str] = (
        "where features have heavy tails, a few far samples decide how distances correlate, so that an interval would "
        "too often miss the value of the population; rsa-spearman has intervals"
    )

    def prepare(self, features: FeatureSet) -> Tensor:
        """Distances, standardised."""
        found, tolerance = distances(features)
        longest, shortest = float(found.max()), float(found.fill_diagonal_(torch.inf).min())
        if not longest - shortest > tolerance:
            raise Undefined("RSA is undefined: all distances between samples are the same but for rounding")
        return self._standardised(found.fill_diagonal_(0), tolerance)

    def _standardised(self, matrix: Tensor, tolerance: float) -> Tensor:
        """In place: of mean 0 and norm 1 over all pairs of different samples, with a diagonal of 0."""
        n = len(matrix)
        matrix -= matrix.sum() / (n * (n - 1))
        matrix.fill_diagonal_(0)
        return matrix.div_(matrix.norm())

    def compare(self, one: Tensor, other: Tensor) -> float:
        """The correlation."""
        return float(one.flatten() @ other.flatten())

    def compare_all(self, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> NDArray[np.float64]:
        """Correlations of all pairs of layers as products of matrices, some samples at a time."""
        return products(rows, columns)

    def reordered(self, prepared: Tensor, order: Tensor) -> Tensor:
        """Rows and columns permuted."""
        return prepared[order][:, order]


@dataclass(frozen=True)
class RankRSA(RSA):
    """As `rsa` of ranks; of each layer, twice their deviation from the mean rank, whole numbers [n, n]."""

    title: ClassVar[str] = "RSA (Spearman)"
    no_interval: ClassVar[str] = ""

    def _standardised(self, matrix: Tensor, tolerance: float) -> Tensor:
        rows, columns = torch.triu_indices(len(matrix), len(matrix), 1, device=matrix.device)
        ranks = tied_ranks(matrix[rows, columns].cpu().numpy(), tolerance)
        deviations = torch.from_numpy(2 * ranks - (len(ranks) + 1)).to(matrix.device)
        matrix[rows, columns] = deviations
        matrix[columns, rows] = deviations
        return matrix

    def without(self, features: FeatureSet, prepared: Tensor, kept: Tensor) -> Tensor:
        """The ranks of what is left, counted, as what was alike stays so and the order is known."""
        n, left = len(kept), prepared[kept][:, kept].long()
        most = len(prepared) * (len(prepared) - 1) // 2
        counts = torch.bincount(left.add_(most).flatten(), minlength=2 * most)
        counts[most] -= n  # the diagonal; of all others, each is there twice
        deviations = (counts.cumsum(0) - counts).double() + counts / 2 - n * (n - 1) // 2
        return deviations[left].fill_diagonal_(0)

    def compare(self, one: Tensor, other: Tensor) -> float:
        """The correlation."""
        return float(self.compare_all([one], [other])[0, 0])

    def compare_all(self, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> NDArray[np.float64]:
        """The correlations of all pairs of layers, NaN where all ranks of one are the same."""
        sizes = [np.array([float(one.norm()) or np.nan for one in side]) for side in (rows, columns)]
        found: NDArray[np.float64] = products(rows, columns) / np.outer(*sizes)
        return found


def tied_ranks(values: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Ranks, the mean one for values that are within a tolerance of each other.

    Values follow each other in groups that end where a gap is wider than the tolerance. A group that is itself wider,
    as of many values that lie close together, is cut into steps of the tolerance.
    """
    order = np.argsort(values)
    ascending = values[order]
    starts = np.r_[True, np.diff(ascending) > tolerance]
    if tolerance > 0:
        since = ascending - ascending[starts][np.cumsum(starts) - 1]  # the first value of each group
        steps = np.where(since <= tolerance, 0.0, np.floor(since / tolerance))
        starts |= np.r_[True, np.diff(steps) != 0]
    first = np.flatnonzero(starts)
    last = np.r_[first[1:], len(values)]
    found = np.empty(len(values))
    found[order] = np.repeat((first + last + 1) / 2, last - first)
    return found
