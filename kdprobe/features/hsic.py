"""The Hilbert-Schmidt independence criterion of two Gram matrices over the same samples.

The unbiased estimator is an inner product of U-centred Gram matrices, so it is bilinear: each
matrix is transformed once, and all pairs of layers are one matrix product (`analyses.cka.networks`).
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from kdprobe.errors import AnalysisError, near_matches

MIN_SAMPLES = 4


def unbiased_hsic(gram_x: Float[Tensor, "n n"], gram_y: Float[Tensor, "m m"]) -> Float[Tensor, ""]:
    """Unbiased HSIC; it can be negative, and is near zero for independent features.

    With the diagonals set to zero (K, L) it equals
    [tr(KL) + 1'K1 1'L1 / ((n-1)(n-2)) - 2/(n-2) 1'KL1] / (n(n-3)); computed here as the mean
    product of the U-centred matrices, which is the same number without the cancellation of large
    sums, and unchanged when the features of a matrix are shifted.

    Args:
        gram_x: symmetric; n is at least 4.
        gram_y: symmetric, of the same samples in the same order.

    Returns:
        a float64 scalar.

    Raises:
        AnalysisError: for fewer than 4 samples or matrices of different sizes.

    Reference:
        Song, Smola, Gretton, Bedo, Borgwardt (2012), Feature selection via dependence
        maximization, equation 5; Székely, Rizzo (2014), Partial distance correlation, section 3.

    Example:
        >>> import torch
        >>> from kdprobe.features import unbiased_hsic
        >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
        >>> gram = x @ x.T
        >>> shuffled = gram.roll(1, 0).roll(1, 1)  # of the same images in another order
        >>> bool(unbiased_hsic(gram, gram) > 10 * unbiased_hsic(gram, shuffled).abs())
        True
    """
    n = _common_size(gram_x, gram_y)
    return (u_centre(gram_x) * u_centre(gram_y)).sum() / (n * (n - 3))


def biased_hsic(gram_x: Float[Tensor, "n n"], gram_y: Float[Tensor, "m m"]) -> Float[Tensor, ""]:
    """Biased HSIC, tr(KHLH) / (n-1)^2: never negative, and far above zero for wide independent features.

    Args:
        gram_x: symmetric; n is at least 4.
        gram_y: symmetric, of the same samples in the same order.

    Returns:
        a float64 scalar.

    Raises:
        AnalysisError: for fewer than 4 samples or matrices of different sizes.

    Reference:
        Gretton, Bousquet, Smola, Schölkopf (2005), Measuring statistical dependence with
        Hilbert-Schmidt norms, definition 2.
    """
    n = _common_size(gram_x, gram_y)
    return (double_centre(gram_x) * double_centre(gram_y)).sum() / (n - 1) ** 2


def comparable(
    gram: Float[Tensor, "*stack n n"], kernel: str = "linear", estimator: str = "unbiased"
) -> Float[Tensor, "*stack n n"]:
    """Transform a Gram matrix so that the sum of products of two such matrices is their HSIC.

    Args:
        gram: linear Gram matrix, or several for the linear kernel; n is at least 4.
        kernel: a name in `KERNELS`.
        estimator: a name in `ESTIMATORS`.

    Raises:
        AnalysisError: for fewer than 4 samples, or an unknown kernel or estimator.
    """
    n = _common_size(gram, gram)
    if kernel not in KERNELS:
        raise AnalysisError(f"no kernel {kernel!r}{near_matches(kernel, KERNELS)}")
    if estimator not in ESTIMATORS:
        raise AnalysisError(f"no estimator of HSIC {estimator!r}{near_matches(estimator, ESTIMATORS)}")
    centre, scale = ESTIMATORS[estimator]
    return centre(KERNELS[kernel](gram)) / scale(n)


def rbf(gram: Float[Tensor, "n n"], width: float = 1.0) -> Float[Tensor, "n n"]:
    """Gaussian kernel exp(-d_ij^2 / (2 s^2)) with s = `width` times the median distance between samples.

    Args:
        gram: linear Gram matrix of centred features.
        width: factor on the median distance, above 0.

    Returns:
        float64; ones where all samples are the same or more than half of the distances are 0.

    Reference:
        Kornblith, Norouzi, Lee, Hinton (2019), Similarity of neural network representations revisited, section 4.
    """
    squares = gram.diagonal().to(torch.float64)
    distances = squares[:, None] + squares[None, :] - 2 * gram.to(torch.float64)
    distances = distances.clamp(min=0)  # a square; below zero there is only rounding, of equal samples
    scale = (width * distances[*torch.triu_indices(len(gram), len(gram), 1)].sqrt().quantile(0.5)) ** 2
    if scale == 0:
        return torch.ones_like(distances)
    return torch.exp(-distances / (2 * scale))


def u_centre(gram: Float[Tensor, "*stack n n"]) -> Float[Tensor, "*stack n n"]:
    """Zero the diagonal and every row sum so that inner products are unbiased.

    Off the diagonal, K_ij - r_i/(n-2) - r_j/(n-2) + s/((n-1)(n-2)), where r are the row sums and s
    is the sum of K without its diagonal.

    Args:
        gram: symmetric; n is at least 4.

    Returns:
        float64; K_ij + a_i + a_j has the same result as K_ij for any a.

    Reference:
        Székely, Rizzo (2014), Partial distance correlation, definition 2.
    """
    n = gram.shape[-1]
    centred = double_centre(gram)  # without change of the result: keeps the sums below small
    centred.diagonal(dim1=-2, dim2=-1).zero_()
    rows = centred.sum(-1, keepdim=True) / (n - 2)
    total = rows.sum(-2, keepdim=True) / (n - 1)
    centred -= rows
    centred -= rows.mT
    centred += total
    centred.diagonal(dim1=-2, dim2=-1).zero_()
    return centred


def double_centre(gram: Float[Tensor, "*stack n n"]) -> Float[Tensor, "*stack n n"]:
    """Subtract row and column means: the Gram matrix of mean-free features, as float64 copy."""
    wide = gram.to(torch.float64)
    rows = wide.mean(-1, keepdim=True)
    centred = wide - rows
    centred -= rows.mT
    centred += rows.mean(-2, keepdim=True)
    return centred


def _common_size(gram_x: Tensor, gram_y: Tensor) -> int:
    if gram_x.shape != gram_y.shape or gram_x.shape[-2] != gram_x.shape[-1]:
        raise AnalysisError(
            f"HSIC needs two square matrices over the same samples, but got "
            f"{list(gram_x.shape)} and {list(gram_y.shape)}"
        )
    n = gram_x.shape[-1]
    if n < MIN_SAMPLES:
        raise AnalysisError(f"HSIC needs at least {MIN_SAMPLES} samples, but got {n}")
    return n


# Kernels as functions of the linear Gram matrix; estimators as centring and the root of what divides the product.
KERNELS: dict[str, Callable[[Tensor], Tensor]] = {"linear": lambda gram: gram, "rbf": rbf}
ESTIMATORS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[int], float]]] = {
    "unbiased": (u_centre, lambda n: math.sqrt(n * (n - 3))),
    "biased": (double_centre, lambda n: n - 1.0),
}
