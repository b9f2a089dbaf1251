"""Procrustes similarity: how alike two layers are after the best rotation."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from analyses.arrays import takes_arrays
from analyses.similarity.measure import NO_POPULATION_VALUE, FeatureSet, Measure, counts
from kdprobe.features.rounding import column_errors, rank_tolerances


@takes_arrays
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
        Undefined: for features that do not vary.

    Warns:
        UserWarning: where the features span all dimensions of the samples, so that unrelated ones come out near 1.

    Reference:
        Ding, Denain, Steinhardt (2021), Grounding representation similarity through statistical testing, section 2.

    Example:
        >>> from analyses.similarity import procrustes
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(200, 8, generator=generator)
        >>> rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
        >>> other = torch.randn(200, 8, generator=generator)
        >>> round(procrustes(x, 3 * x @ rotation), 2)
        1.0
        >>> round(procrustes(x, other), 2)
        0.19
    """
    return Procrustes().between(x, y)


@dataclass(frozen=True, eq=False)
class Turned:
    """Centred features in coordinates in which there are no more dimensions than samples.

    Attributes:
        values: [n, at most n], of Frobenius norm 1; a rotation of the features.
        fills_samples: whether they span all n - 1 directions of the centred samples.
        d: dimensions of the features.
    """

    values: Tensor
    fills_samples: bool
    d: int


@dataclass(frozen=True)
class Procrustes(Measure[Turned]):
    """As `procrustes`."""

    title: ClassVar[str] = "Procrustes similarity"
    no_interval: ClassVar[str] = NO_POPULATION_VALUE

    def prepare(self, features: FeatureSet) -> Turned:
        """The features themselves, or the triangle of their QR decomposition where there are more dimensions."""
        centred = features.centred
        n, width = centred.shape
        values = torch.linalg.qr(centred.T, mode="r").R.T if width > n else centred
        return Turned(values / torch.linalg.matrix_norm(values), _fills_samples(features, values), features.d)

    def compare(self, one: Turned, other: Turned) -> float:
        """The nuclear norm."""
        return float(torch.linalg.svdvals(one.values.T @ other.values).sum())

    def reordered(self, prepared: Turned, order: Tensor) -> Turned:
        """Rows permuted."""
        return Turned(prepared.values[order], prepared.fills_samples, prepared.d)

    def remark(self, one: Turned, other: Turned) -> str:
        """Of layers that leave no direction of the samples out."""
        if not (one.fills_samples and other.fills_samples):
            return ""
        return (
            f"{counts(len(one.values), one.d, other.d)} leave no direction of the samples out, so that features that "
            "have nothing in common come out near 1 as well"
        )


def _fills_samples(features: FeatureSet, values: Tensor) -> bool:
    n, width = values.shape
    if width < n - 1:
        return False
    sizes = torch.linalg.svdvals(values)
    errors = column_errors(features.varying, features.stored, scale=features.scale)
    return int((sizes > rank_tolerances(errors, n, sizes)).sum()) >= n - 1
