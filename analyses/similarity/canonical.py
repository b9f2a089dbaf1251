"""Measures by canonical correlations: which directions of the samples two layers share.

Where few samples in many dimensions make a value 1 whatever the features are, it is refused; where they do so in part,
it comes with a remark.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from analyses.arrays import takes_arrays
from analyses.similarity.measure import NO_POPULATION_VALUE, FeatureSet, Measure, counts
from kdprobe.features.rounding import column_errors, errors_along, rank_tolerances


@dataclass(frozen=True, eq=False)
class Basis:
    """The directions of the samples that a layer's centred features span.

    Attributes:
        directions: orthonormal [n, r], those of the largest variation first.
        sizes: singular values [r].
        loadings: what of each direction is in each column [r, v]: the features are `directions @ loadings`.
        d: dimensions of the features.
    """

    directions: Tensor
    sizes: Tensor
    loadings: Tensor
    d: int

    @property
    def rank(self) -> int:
        """Number of directions."""
        return self.directions.shape[1]

    def reordered(self, order: Tensor) -> "Basis":
        """Of permuted samples."""
        return Basis(self.directions[order], self.sizes, self.loadings, self.d)

    def leading(self, variance: float) -> "Basis":
        """The leading directions, which explain a fraction of the variance."""
        share = (self.sizes**2).cumsum(0) / (self.sizes**2).sum()
        kept = int((share < variance - 1e-12).sum()) + 1
        return Basis(self.directions[:, :kept], self.sizes[:kept], self.loadings[:kept], self.d)


def basis(features: FeatureSet) -> Basis:
    """The basis of a layer; directions that are only rounding are left out.

    Raises:
        Undefined: for features that do not vary.
    """
    directions, sizes, turned = torch.linalg.svd(features.centred, full_matrices=False)
    errors = column_errors(features.varying, features.stored, scale=features.scale)
    real = sizes > rank_tolerances(errors, len(directions), sizes, errors_along(errors, turned.T))
    real[0] = True
    return Basis(directions[:, real], sizes[real], sizes[real, None] * turned[real], features.d)


@takes_arrays
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

    Example:
        >>> import torch
        >>> from analyses.similarity import canonical_correlations
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(1000, 3, generator=generator)
        >>> y = torch.cat([x[:, :1], torch.randn(1000, 2, generator=generator)], 1)  # one direction in common
        >>> canonical_correlations(x, y).round(decimals=1).tolist()
        [1.0, 0.1, 0.0]
    """
    one, other = _CCA().prepared_pair(x, y)
    correlations: Tensor = torch.linalg.svdvals(one.directions.T @ other.directions)
    return correlations


@takes_arrays
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

    Example:
        >>> from analyses.similarity import svcca
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(200, 8, generator=generator)
        >>> rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
        >>> other = torch.randn(200, 8, generator=generator)
        >>> round(svcca(x, 3 * x @ rotation), 2)
        1.0
        >>> round(svcca(x, other), 2)
        0.19
    """
    return SVCCA(variance).between(x, y)


@takes_arrays
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

    Example:
        >>> from analyses.similarity import pwcca
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(200, 8, generator=generator)
        >>> rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
        >>> other = torch.randn(200, 8, generator=generator)
        >>> round(pwcca(x, 3 * x @ rotation), 2)
        1.0
        >>> round(pwcca(x, other), 2)
        0.19
    """
    return PWCCA().between(x, y)


@dataclass(frozen=True)
class _CCA(Measure[Basis]):
    """What the measures by canonical correlations have in common."""

    title: ClassVar[str] = "CCA"
    no_interval: ClassVar[str] = NO_POPULATION_VALUE

    def prepare(self, features: FeatureSet) -> Basis:
        """The directions of a layer."""
        return basis(features)

    def compare(self, one: Basis, other: Basis) -> float:
        """The mean correlation."""
        return float(torch.linalg.svdvals(one.directions.T @ other.directions).mean())

    def reordered(self, prepared: Basis, order: Tensor) -> Basis:
        """Rows permuted."""
        return prepared.reordered(order)

    def undefined(self, one: Basis, other: Basis) -> str:
        """Of layers that leave no direction of the samples out, so that all correlations are 1."""
        if max(one.rank, other.rank) < len(one.directions) - 1:
            return ""
        return (
            f"{self.title} is 1 whatever the features are: {counts(len(one.directions), one.d, other.d)} leave no "
            "direction of the samples out; take more samples than dimensions, or features of fewer dimensions"
        )

    def remark(self, one: Basis, other: Basis) -> str:
        """Centred, n samples span n - 1 dimensions: spaces of p and q in them share p + q - (n - 1) at least."""
        n = len(one.directions)
        shared = one.rank + other.rank - (n - 1)
        if shared <= 0:
            return ""
        return (
            f"{shared} of {min(one.rank, other.rank)} correlations in {self.title} are 1 whatever the features are: "
            f"{counts(n, one.d, other.d)} span {one.rank} + {other.rank} of {n - 1} directions of the samples"
        )


@dataclass(frozen=True)
class SVCCA(_CCA):
    """As `svcca`."""

    title: ClassVar[str] = "SVCCA"
    variance: float = 0.99

    def prepare(self, features: FeatureSet) -> Basis:
        """The leading directions."""
        return basis(features).leading(self.variance)


@dataclass(frozen=True)
class PWCCA(_CCA):
    """As `pwcca`."""

    title: ClassVar[str] = "PWCCA"
    symmetric: ClassVar[bool] = False

    def compare(self, one: Basis, other: Basis) -> float:
        """The mean, weighted by what each canonical variable of the first has in its columns."""
        rotation, correlations, _ = torch.linalg.svd(one.directions.T @ other.directions, full_matrices=False)
        weights = (rotation.T @ one.loadings).abs().sum(1)
        return float((weights * correlations).sum() / weights.sum())
