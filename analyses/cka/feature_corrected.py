"""CKA of populations of units, of which a layer's units are a sample.

Reference:
    Chun, Canatar, Chung, Lee (2025), Estimating neural representation alignment from sparsely sampled inputs and
    features, arXiv 2502.15104.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from analyses.arrays import as_tensor, takes_arrays
from kdprobe.devices import exact_float32
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.gram import centred_gram
from kdprobe.features.hsic import MIN_SAMPLES, comparable


@exact_float32
@takes_arrays
def feature_corrected_cka(
    x: Float[Tensor, "*k n dx"], y: Float[Tensor, "*l m dy"], *, same_units: bool = False
) -> float:
    """CKA without the bias of few units: HSIC of a layer with itself is that of pairs of *different* units.

    Ordinary CKA is too low where units are few, as each unit is also paired with itself. HSICs are averaged over
    minibatches before they are divided. Columns must be units of the networks, such as channels that were averaged over
    positions: a rotation, as by principal components, changes the value and makes it meaningless.

    Args:
        x: features of n samples, or of k minibatches of n samples; n is at least 4, and dx at least 2.
        y: features of the same samples.
        same_units: whether the columns of x and y are the same units, which are then not paired with each other either.

    Returns:
        near 0 for independent features; not bounded by 1.

    Raises:
        AnalysisError: for other shapes, fewer than 4 samples or fewer than 2 units.
        Undefined: where HSIC of one of the layers with itself is not positive.

    Example:
        >>> import torch
        >>> from analyses.cka import feature_corrected_cka, minibatch_cka
        >>> generator = torch.Generator().manual_seed(0)
        >>> shared = torch.randn(20, 64, 4, generator=generator)  # two networks that see the same four directions
        >>> x, y = (shared @ torch.randn(4, 16, generator=generator) for _ in range(2))
        >>> minibatch_cka(x, y) < feature_corrected_cka(x, y)
        True
    """
    x, y = (_minibatches(one, name) for one, name in ((x, "x"), (y, "y")))
    if x.shape[:2] != y.shape[:2]:
        raise AnalysisError(
            f"x and y need the same minibatches and samples, but have the shapes {list(x.shape)} and {list(y.shape)}"
        )
    if same_units and x.shape != y.shape:
        raise AnalysisError(f"the same units need equal widths, but x has {x.shape[-1]} and y {y.shape[-1]}")
    made = [[corrected(one) for one in side] for side in (x, y)]
    shared = [float((a[0] * b[0]).sum()) for a, b in zip(*made, strict=True)]
    pairs = x.shape[-1] * y.shape[-1]
    if same_units:
        pairs -= x.shape[-1]
        shared = [value - float(unit_hsic(a, b).sum()) for value, a, b in zip(shared, x, y, strict=True)]
    own = [sum(one[1] for one in side) for side in made]
    if reason := not_positive(*own):
        raise Undefined(reason)
    return float(sum(shared) / pairs / (own[0] ** 0.5 * own[1] ** 0.5))


def corrected(features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n n"], float]:
    """What one minibatch of a layer gives: inner products that are HSIC when multiplied, and HSIC with itself.

    Args:
        features: of at least 4 samples and 2 units.

    Returns:
        U-centred inner products; the mean over pairs of different units of the estimate of their squared covariance.
    """
    made = comparable(centred_gram(features))
    d = features.shape[1]
    own = float(made.square().sum()) - float(unit_hsic(features, features).sum())
    return made, own / (d * (d - 1))


def unit_hsic(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Unbiased estimate of the squared covariance of each unit of x with the same unit of y, float64."""
    a, c = (one.double() - one.double().mean(0) for one in (x, y))
    n = len(a)
    products = a * c
    cross, mixed = products.sum(0), products.square().sum(0)
    own = a.square().sum(0) * c.square().sum(0)
    return (cross**2 - mixed + own / ((n - 1) * (n - 2)) - 2 * mixed / (n - 2)) / (n * (n - 3))


def not_positive(own_x: float, own_y: float) -> str:
    """Why there is no value; empty if there is one."""
    for own in (own_x, own_y):
        if not own > 0:
            return (
                "feature-corrected CKA is undefined: the mean squared covariance of different units is estimated as "
                f"{own:.2g}, which is not positive, as of units that are uncorrelated; take more units or samples"
            )
    return ""


def _minibatches(features: Tensor, name: str) -> Tensor:
    features = as_tensor(features, name=name, least=2)
    stacked = features if features.ndim > 2 else features[None]
    if stacked.ndim > 3 or stacked.shape[1] < MIN_SAMPLES or stacked.shape[2] < 2:
        raise AnalysisError(
            f"{name} must be of at least {MIN_SAMPLES} samples and 2 units, [n, d] or [k, n, d], but has the shape "
            f"{list(features.shape)}"
        )
    largest = float(stacked.abs().amax())
    scale = math.ldexp(1.0, -math.frexp(largest)[1]) if math.isfinite(largest) and largest > 0 else 1.0
    return stacked.double() * scale if stacked.dtype == torch.float64 else stacked
