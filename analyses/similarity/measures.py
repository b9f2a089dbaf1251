"""Other measures of how alike two feature sets of the same samples are.

All take features [n, d] and centre them first; all are 1 for features equal up to rotation, scale and shift. Directions
and distances that only rounding tells apart (`kdprobe.features.rounding`) do not count. Where few samples in many
dimensions make a value 1 whatever the features are, it is refused; where they do so in part, it comes with a warning.
"""

import math
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from analyses.arrays import as_tensor
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.gram import centred_gram
from kdprobe.features.rounding import distance_tolerance, precision_of, rank_tolerance, varying_columns


class Measured(NamedTuple):
    """A value, and a remark without which it would mislead; empty if there is none."""

    value: float
    remark: str = ""


class Prepared:
    """One feature set, with what the measures need of it, computed once.

    Args:
        features: [n, ...].
        stored: the precision of the file that they come from, where it is known.

    Attributes:
        n: samples.
        d: dimensions.
    """

    def __init__(self, features: Tensor, stored: torch.dtype | None = None) -> None:
        rows = as_tensor(features, name="features", least=2).detach().flatten(1)
        if not bool(torch.isfinite(rows).all()):
            raise AnalysisError("similarity needs finite features, but some are NaN or infinite")
        self.n, self.d = rows.shape
        self._rows, self._stored = rows, precision_of(rows, stored)

    @cached_property
    def _varying(self) -> tuple[Tensor, float]:
        """Which columns vary by more than rounding, and the factor that brings them to a size near 1.

        Raises:
            Undefined: if there are none.
        """
        columns = varying_columns(self._rows, self._stored)
        if not columns.any():
            raise Undefined(
                "the features are the same for all samples but for rounding, so that similarity is undefined"
            )
        largest = float(self._rows[:, columns].abs().amax())
        return columns, math.ldexp(1.0, -math.frexp(largest)[1])

    def require_variation(self) -> None:
        """Check that the features vary.

        Raises:
            Undefined: if they do not by more than rounding.
        """
        assert self._varying

    @property
    def varying(self) -> Tensor:
        """The columns that vary [n, v], float64, scaled."""
        columns, scale = self._varying
        return self._rows[:, columns].double() * scale

    @property
    def centred(self) -> Tensor:
        """The same without their mean."""
        varying = self.varying
        return varying - varying.mean(0)

    @cached_property
    def basis(self) -> tuple[Tensor, Tensor]:
        """Orthonormal basis [n, r] of the centred features' columns and its singular values [r], r their rank."""
        basis, sizes, _ = torch.linalg.svd(self.centred, full_matrices=False)
        cut = rank_tolerance(self.varying, float(sizes[0]), self._stored, scale=self._varying[1])
        rank = max(1, int((sizes > cut).sum()))
        return basis[:, :rank], sizes[:rank]

    @cached_property
    def distances(self) -> tuple[NDArray[np.float64], float]:
        """Distances of all pairs of samples, and how far two may be apart by rounding alone."""
        varying = self.varying
        gram = centred_gram(varying).cpu()
        squares = gram.diagonal()
        above = (squares[:, None] + squares[None, :] - 2 * gram)[*torch.triu_indices(self.n, self.n, 1)]
        # Differences of inner products have their rounding, of which a distance near 0 is the root.
        arithmetic = 4 * float(squares.amax() * torch.finfo(torch.float64).eps * self.d**0.5) ** 0.5
        tolerance = max(distance_tolerance(varying, self._stored, scale=self._varying[1]), arithmetic)
        return above.clamp(min=0).sqrt().numpy(), tolerance


def canonical_correlations(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"]) -> Float[Tensor, " k"]:
    """Canonical correlations, largest first; k is the smaller rank.

    Args:
        x: features.
        y: features of the same samples.

    Returns:
        float64, in [0, 1] up to rounding.

    Raises:
        AnalysisError: for different samples.
        Undefined: for features that do not vary, or that span all n - 1 dimensions of centred samples, so that every
            correlation is 1.

    Warns:
        UserWarning: where some correlations are 1 because both span more than that together.

    Reference:
        Björck, Golub (1973), Numerical methods for computing angles between linear subspaces.
    """
    one, other = _both(x, y)
    bases = one.basis[0], other.basis[0]
    _warn(_by_construction("CCA", one, other, *bases))
    correlations: Tensor = torch.linalg.svdvals(bases[0].T @ bases[1])
    return correlations


def svcca(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"], *, variance: float = 0.99) -> float:
    """Mean canonical correlation of the leading principal components.

    Args:
        x: features.
        y: features of the same samples.
        variance: fraction of it that the leading components explain, in (0, 1].

    Returns:
        in [0, 1]; invariant to rotation, scale and shift.

    Raises:
        AnalysisError: for different samples.
        Undefined: as `canonical_correlations`, of the leading components.

    Warns:
        UserWarning: likewise.

    Reference:
        Raghu, Gilmer, Yosinski, Sohl-Dickstein (2017), SVCCA, section 2.
    """
    return _told(_svcca(*_both(x, y), variance=variance))


def pwcca(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"]) -> float:
    """Mean canonical correlation, weighted by how much of x each canonical variable accounts for.

    Args:
        x: features whose variables are weighted.
        y: features of the same samples.

    Returns:
        in [0, 1]; not symmetric, invariant to any invertible linear map of y.

    Raises:
        AnalysisError: for different samples.
        Undefined: as `canonical_correlations`.

    Warns:
        UserWarning: likewise.

    Reference:
        Morcos, Raghu, Bengio (2018), Insights on representational similarity in neural networks, section 2.1.
    """
    return _told(_pwcca(*_both(x, y)))


def procrustes(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"]) -> float:
    """Correlation after the best rotation: nuclear norm of X'Y over both Frobenius norms.

    The orthogonal Procrustes distance of features of unit norm is sqrt(2 - 2 times this).

    Args:
        x: features.
        y: features of the same samples.

    Returns:
        in [0, 1]; invariant to rotation, scale and shift.

    Raises:
        AnalysisError: for different samples.
        Undefined: for features that do not vary, or 2 samples, of which it is always 1.

    Warns:
        UserWarning: where the features span all dimensions of the samples, so that unrelated ones come out near 1.

    Reference:
        Ding, Denain, Steinhardt (2021), Grounding representation similarity through statistical testing, section 2.
    """
    return _told(_procrustes(*_both(x, y)))


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
    return _told(_rsa(*_both(x, y), ranks=ranks))


def _svcca(one: Prepared, other: Prepared, *, variance: float = 0.99) -> Measured:
    bases = _leading(*one.basis, variance), _leading(*other.basis, variance)
    remark = _by_construction("SVCCA", one, other, *bases)
    return Measured(float(torch.linalg.svdvals(bases[0].T @ bases[1]).mean()), remark)


def _pwcca(one: Prepared, other: Prepared) -> Measured:
    bases = one.basis[0], other.basis[0]
    remark = _by_construction("PWCCA", one, other, *bases)
    rotation, correlations, _ = torch.linalg.svd(bases[0].T @ bases[1], full_matrices=False)
    variables = bases[0] @ rotation  # [n, k], orthonormal
    weights = (variables.T @ one.centred).abs().sum(1)
    return Measured(float((weights * correlations).sum() / weights.sum()), remark)


def _procrustes(one: Prepared, other: Prepared) -> Measured:
    (left, sizes), (right, scales) = one.basis, other.basis
    if one.n == 2:
        raise Undefined("Procrustes is 1 whatever the features are: 2 samples have one direction; take more samples")
    inner = (left * (sizes / sizes.norm())).T @ (right * (scales / scales.norm()))
    remark = ""
    if min(len(sizes), len(scales)) >= one.n - 1:
        remark = (
            f"{_counts(one, other)} leave no direction of the samples out, so that features that have nothing in "
            "common come out near 1 as well"
        )
    return Measured(float(torch.linalg.svdvals(inner).sum()), remark)


def _rsa(one: Prepared, other: Prepared, *, ranks: bool = False) -> Measured:
    for prepared in (one, other):
        distances, tolerance = prepared.distances
        if not len(distances) or np.ptp(distances) <= tolerance:
            raise Undefined("RSA is undefined: all distances between samples are the same but for rounding")
    both = [tied_ranks(*side.distances) if ranks else side.distances[0] for side in (one, other)]
    return Measured(float(np.corrcoef(both[0], both[1])[0, 1]))


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


#: as `kdprobe similarity` names them
MEASURES: dict[str, Callable[[Prepared, Prepared], Measured]] = {
    "svcca": _svcca,
    "pwcca": _pwcca,
    "procrustes": _procrustes,
    "rsa": _rsa,
    "rsa-spearman": lambda x, y: _rsa(x, y, ranks=True),
}


def _both(x: Any, y: Any) -> tuple[Prepared, Prepared]:
    x, y = as_tensor(x, name="x", least=2), as_tensor(y, name="y", least=2)
    if len(x) != len(y):
        raise AnalysisError(f"x and y need features of the same samples, but have {len(x)} and {len(y)} rows")
    return Prepared(x), Prepared(y)


def _told(measured: Measured) -> float:
    _warn(measured.remark)
    return measured.value


def _warn(remark: str) -> None:
    if remark:
        warnings.warn(remark, UserWarning, stacklevel=4)


def _leading(basis: Tensor, sizes: Tensor, variance: float) -> Tensor:
    share = (sizes**2).cumsum(0) / (sizes**2).sum()
    return basis[:, : int((share < variance - 1e-12).sum()) + 1]


def _by_construction(name: str, one: Prepared, other: Prepared, left: Tensor, right: Tensor) -> str:
    """A remark where some correlations of two bases are 1 whatever the features are; empty where none is.

    Centred, n samples span n - 1 dimensions: two spaces of p and q dimensions in them share p + q - (n - 1) at least.

    Raises:
        Undefined: where all correlations are.
    """
    ranks, free = (left.shape[1], right.shape[1]), one.n - 1
    if max(ranks) >= free:
        raise Undefined(
            f"{name} is 1 whatever the features are: {_counts(one, other)} leave no direction of the samples out; take "
            "more samples than dimensions, or features of fewer dimensions"
        )
    shared = sum(ranks) - free
    if shared <= 0:
        return ""
    return (
        f"{shared} of {min(ranks)} correlations in {name} are 1 whatever the features are: {_counts(one, other)} span "
        f"{ranks[0]} + {ranks[1]} of {free} directions of the samples"
    )


def _counts(one: Prepared, other: Prepared) -> str:
    return f"{one.n} samples in {one.d} and {other.d} dimensions"
