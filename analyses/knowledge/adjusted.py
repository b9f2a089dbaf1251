"""The share of a network's variance that a linear map of another network's features explains in the population.

The residual of a regression on d features is too small for the population's, as d directions are fitted to noise as
well. Dividing sums of squares by their degrees of freedom makes up for it, for any number of features below that of the
samples and without a penalty that hides shared directions of little variance:

    share = 1 - [RSS / (n - d - 1)] / [TSS / (n - 1)]

with squared Frobenius norms of centred features. The interval is the delete-one-group jackknife's with Student's t; a
group is left out in closed form, by its own block of the hat matrix.

Reference:
    Theil (1961), Economic forecasts and policy, section 6.4 (the adjusted coefficient of determination); Cook and
    Weisberg (1982), Residuals and influence in regression, equation 3.4.6 (deletion of several samples at once).
"""

from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from analyses.jackknife import jackknife_t
from analyses.knowledge.coordinates import Coordinates
from analyses.knowledge.share import Share
from kdprobe.errors import Undefined

MIN_FREEDOM = 30  # degrees of freedom of the residual; with fewer the predictor is cut to its leading components
N_GROUPS = 20  # left out in turn; more where they would take a larger part of the degrees of freedom than ...
_SMALLER = 3  # ... a third
_LOST = 1e-9  # what is left of a direction that only the samples left out have


class Support(NamedTuple):
    """What one network's features offer to explain the other's with.

    Attributes:
        n: independent samples.
        rank: of the features, numerically.
        used: leading principal components that explain; all of them where the samples suffice.
        held: share of the features' variance along these.
    """

    n: int
    rank: int
    used: int
    held: float

    @property
    def freedom(self) -> int:
        """Degrees of freedom of what is left unexplained."""
        return self.n - self.used - 1

    @property
    def sample_limited(self) -> bool:
        """Whether the samples are too few for all of the features' directions."""
        return self.n - self.rank - 1 < MIN_FREEDOM

    @property
    def lower_bound(self) -> bool:
        """Whether some directions could not be used, which may share more."""
        return self.used < self.rank

    def limits(self, name: str) -> str:
        """What the samples were too few for, in words; empty if for nothing.

        Args:
            name: of the network.
        """
        if self.lower_bound:
            return (
                f"{self.n} independent samples are too few for all {self.rank} components of the {name}'s features; "
                f"this is what the leading {self.used} explain, which hold {100 * self.held:.1f} % of their variance"
            )
        if self.sample_limited:
            return f"n - d - 1 = {self.freedom} degrees of freedom are few, so the interval is wide"
        return ""


def basis_of(features: Coordinates) -> tuple[Float64[Tensor, "n used"], Support]:
    """Orthonormal variables that explain another network, chosen without looking at it.

    Args:
        features: of independent samples.
    """
    n, rank = features.values.shape
    used = rank if n - rank - 1 >= MIN_FREEDOM else min(rank, n // 3)
    if used == rank:
        return torch.linalg.qr(features.values)[0], Support(n, rank, rank, 1.0)
    values, squares = features.principal()
    basis = values[:, -used:] / squares[-used:].sqrt()
    return basis, Support(n, rank, used, float(squares[-used:].sum() / squares.sum()))


def adjusted_share(
    target: Coordinates,
    basis: Float64[Tensor, "n used"],
    support: Support,
    order: Tensor,
    *,
    name: str,
    confidence: float = 0.95,
) -> Share:
    """The share of the target's variance that the other network explains, adjusted for its number of directions.

    Args:
        target: features of independent samples.
        basis: of the other network, from `basis_of`, and so the next.
        support: what the basis is of.
        order: places of the samples in random order, which makes the groups.
        name: of the other network, for the reason.
        confidence: of the interval.

    Raises:
        Undefined: if the target varies within one group alone.
    """
    n, values = support.n, target.values
    residuals = values - basis @ (basis.mT @ values)
    total, left = (float(x.square().sum()) for x in (values, residuals))
    value = 1 - (left / support.freedom) / (total / (n - 1))
    n_groups = min(n, max(N_GROUPS, ceil(_SMALLER * n / support.freedom)))
    without = []
    for group in order.tensor_split(n_groups):
        rest, unexplained, lost = _without(values[group], residuals[group], basis[group], n)
        if total - rest <= 1e-12 * total:
            raise Undefined(f"all variance is in {len(group)} of {n} samples; take more samples")
        m = n - len(group)
        without.append(1 - ((left - unexplained) / (m - support.used + lost - 1)) / ((total - rest) / (m - 1)))
    half = float(jackknife_t(np.array(without), level=confidence))
    return Share(
        *(value, value - half, value + half),
        bound="lower" if support.lower_bound else "",
        limits=support.limits(name),
    )


def _without(values: Tensor, residuals: Tensor, basis: Tensor, n: int) -> tuple[float, float, int]:
    """What the sums of squares, total and left, lose without a group's rows, and how many directions go with them."""
    m = len(values)
    total = values.square().sum() + values.sum(0).square().sum() / (n - m)
    hat = torch.full((m, m), 1 / n, dtype=values.dtype, device=values.device) + basis @ basis.mT
    leaves, axes = torch.linalg.eigh(torch.eye(m, dtype=values.dtype, device=values.device) - hat)
    kept = leaves > _LOST
    along = axes[:, kept].mT @ residuals
    return float(total), float((along.square().sum(1) / leaves[kept]).sum()), int((~kept).sum())
