"""Distance correlation: 0 in the population exactly where two layers are independent, in any way, not only linearly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from analyses.arrays import takes_arrays
from analyses.similarity.distances import distances
from analyses.similarity.matrices import Centring, correlations_left, products
from analyses.similarity.measure import FeatureSet, Measure
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.hsic import MIN_SAMPLES, double_centre, u_centre

_LEAST = 1e-12  # of the longest distance: below it the centred distances are rounding


@takes_arrays
def distance_correlation(
    x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."], *, exponent: float = 1.0, unbiased: bool = True
) -> float:
    """Distance correlation of two sets of features.

    Args:
        x: features.
        y: features of the same samples, at least 4.
        exponent: of the distances, above 0 and below 2.
        unbiased: the bias-corrected estimate of the *squared* distance correlation, which is near 0 for independent
            features of any width and can be negative; otherwise the biased distance correlation itself, in [0, 1],
            which nears 1 for all features that are much wider than there are samples. The two are not comparable.

    Returns:
        1 for features equal up to rotation, scale and shift.

    Raises:
        AnalysisError: for different or fewer than 4 samples, or another exponent.
        Undefined: for features that do not vary, or whose samples are all equally far apart.

    Reference:
        Székely, Rizzo, Bakirov (2007), Measuring and testing dependence by correlation of distances, definition 3;
        Székely, Rizzo (2014), Partial distance correlation with methods for dissimilarities, section 3.

    Example:
        >>> from analyses.similarity import distance_correlation
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(200, 8, generator=generator)
        >>> rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
        >>> other = torch.randn(200, 8, generator=generator)
        >>> round(distance_correlation(x, 3 * x @ rotation), 2)
        1.0
        >>> round(distance_correlation(x, other), 2)
        0.01
    """
    squared = DistanceCorrelation(exponent, unbiased).between(x, y)
    return squared if unbiased else math.sqrt(max(squared, 0.0))


@dataclass(frozen=True)
class DistanceCorrelation(Measure[Tensor]):
    """The squared distance correlation; of each layer, centred distances [n, n] of norm 1."""

    title: ClassVar[str] = "distance correlation, squared, unbiased"
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    exponent: float = 1.0
    unbiased: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.exponent < 2:
            raise AnalysisError(f"the exponent of distances must lie between 0 and 2, but is {self.exponent}")

    def prepare(self, features: FeatureSet) -> Tensor:
        """Distances, centred and normalised."""
        found, tolerance = distances(features)
        longest = float(found.max())
        centred = self._centred(found if self.exponent == 1 else found**self.exponent)
        norm = float(centred.norm())
        if norm <= max(_LEAST * longest**self.exponent, tolerance**self.exponent) * features.n:
            raise Undefined(
                "distance correlation is undefined: its variance is 0 but for rounding, as where all samples are "
                "equally far apart"
            )
        return centred.div_(norm)

    def _centred(self, powers: Tensor) -> Tensor:
        return u_centre(powers) if self.unbiased else double_centre(powers)

    def compare(self, one: Tensor, other: Tensor) -> float:
        """The sum of products."""
        return float(one.flatten() @ other.flatten())

    def compare_all(self, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> NDArray[np.float64]:
        """The same of all pairs of layers at once."""
        return products(rows, columns)

    def left_out(
        self,
        rows: Sequence[tuple[FeatureSet, Tensor]],
        columns: Sequence[tuple[FeatureSet, Tensor]],
        groups: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The values of what is left, from sums of products."""
        one, other = ([prepared for _, prepared in side] for side in (rows, columns))
        return correlations_left(one, other, groups, self._centring)

    def _centring(self, n: int) -> Centring:
        if not self.unbiased:
            return Centring(rows=2 / n, total=1 / n**2)
        return (
            Centring(rows=2 / (n - 2), total=1 / ((n - 1) * (n - 2))) if n >= MIN_SAMPLES else Centring(0.0, math.nan)
        )

    def reordered(self, prepared: Tensor, order: Tensor) -> Tensor:
        """Rows and columns permuted."""
        return prepared[order][:, order]
