"""Two coordinates for each image, from a network's features."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray
from sklearn.decomposition import PCA

from kdprobe.errors import AnalysisError

PlaneMethod = Literal["pca", "umap"]


def project(
    features: Float[ndarray, "n d"], *, method: PlaneMethod = "pca", seed: int = 0
) -> tuple[Float64[ndarray, "n 2"], Float64[ndarray, " 2"]]:
    """Places of samples in a plane.

    Args:
        features: of n samples.
        method: `pca`, the two directions of the largest variance; or `umap`, neighbourhoods, if it is installed.
        seed: of UMAP.

    Returns:
        the places, and the share of the variance along each axis, which is NaN for UMAP.

    Raises:
        AnalysisError: for UMAP without its package.

    Reference:
        McInnes, Healy & Melville (2018), UMAP: Uniform manifold approximation and projection.

    Example:
        >>> import numpy as np
        >>> from analyses.images import project
        >>> line = np.arange(4.0)[:, None] * np.array([3.0, 0.0, 4.0])  # steps of length 5
        >>> places, shares = project(line)
        >>> np.abs(np.diff(places[:, 0])).round(6).tolist(), shares.round(6).tolist()
        ([5.0, 5.0, 5.0], [1.0, 0.0])
    """
    if method == "umap":
        return _umap(features, seed), np.full(2, np.nan)
    places, shares = np.zeros((len(features), 2)), np.zeros(2)
    if not np.ptp(features, axis=0).any():  # all in one place
        return places, shares
    n_axes = min(2, *features.shape)
    found = PCA(n_axes, svd_solver="full").fit(features.astype(np.float64))
    places[:, :n_axes] = found.transform(features)
    shares[:n_axes] = found.explained_variance_ratio_
    return places, shares


def facing(places: Float64[ndarray, "n 2"], others: Float64[ndarray, "n 2"]) -> Float64[ndarray, "n 2"]:
    """The same places with each axis turned to the side where it goes along with that of `others`."""
    along = np.einsum("nk,nk->k", places - places.mean(0), others - others.mean(0))
    return places * np.where(along < 0, -1.0, 1.0)


def _umap(features: ndarray, seed: int) -> Float64[ndarray, "n 2"]:
    try:
        from umap import UMAP
    except ImportError as error:
        raise AnalysisError("--projection umap needs the package umap-learn; install it, or take pca") from error
    found: ndarray = UMAP(n_components=2, random_state=seed).fit_transform(features)
    return found.astype(np.float64)
