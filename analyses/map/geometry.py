"""Networks as points: distances of similarities, a map of them in few dimensions, and a tree."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from kdprobe.errors import AnalysisError

_Array = NDArray[np.float64]


class Ordination(NamedTuple):
    """A map of networks.

    Attributes:
        points: [N, axes], around 0; the axis that holds most comes first.
        shares: of the sum of all squared distances, what each axis holds [axes], in [0, 1].
        negative: what no axis can show because the distances are not Euclidean, as a fraction of what all axes hold;
            0 up to rounding for measures that are cosines, as CKA, RSA and Procrustes' similarity of few dimensions.
    """

    points: _Array
    shares: _Array
    negative: float


def chord_distances(similarity: Float[np.ndarray, "N N"]) -> Float[np.ndarray, "N N"]:
    """Distances sqrt(2 - 2 s) of similarities s.

    Where the similarity is the cosine of two vectors, as CKA is of centred Gram matrices, it is the straight distance
    of these vectors at length 1. A similarity above 1, as rounding makes it, is a distance of 0.

    Args:
        similarity: at most 1 for equal networks; its diagonal is not used.

    Returns:
        symmetric, from the mean of both directions, with a diagonal of 0; NaN where the similarity is.

    Example:
        >>> import numpy as np
        >>> from analyses.map import chord_distances
        >>> chord_distances(np.array([[1.0, 0.5], [0.5, 1.0]]))
        array([[0., 1.],
               [1., 0.]])
    """
    distances: _Array = np.sqrt(np.maximum(2 - (similarity + similarity.T), 0))
    np.fill_diagonal(distances, 0)
    return distances


def principal_coordinates(distances: Float[np.ndarray, "N N"], axes: int = 2) -> Ordination:
    """Classical multidimensional scaling: points whose distances come as close as any to those given.

    Of distances between vectors it is the principal component analysis of these vectors.

    Args:
        distances: symmetric.
        axes: of the map; those beyond what the distances hold are 0.

    Raises:
        AnalysisError: if a distance is NaN.

    Reference:
        Gower (1966), Some distance properties of latent root and vector methods used in multivariate analysis.

    Example:
        >>> import numpy as np
        >>> from analyses.map import principal_coordinates
        >>> found = principal_coordinates(np.array([[0.0, 3, 6], [3, 0, 3], [6, 3, 0]]))  # points on a line
        >>> found.shares.round(2).tolist()
        [1.0, 0.0]
    """
    sizes, vectors = np.linalg.eigh(inner_products(distances))
    order = np.argsort(-sizes, kind="stable")[:axes]
    positive = float(sizes[sizes > 0].sum())
    kept = np.maximum(sizes[order], 0)
    points = vectors[:, order] * np.sqrt(kept)
    largest = points[np.abs(points).argmax(0), np.arange(points.shape[1])]
    points *= np.where(largest < 0, -1.0, 1.0)  # the sign of an axis is arbitrary: the largest coordinate is positive
    shares = kept / positive if positive > 0 else kept
    wider = ((0, 0), (0, max(axes - len(order), 0)))
    negative = -float(sizes[sizes < 0].sum()) / positive if positive > 0 else 0.0
    return Ordination(np.pad(points, wider), np.pad(shares, wider[1]), negative)


def average_linkage(distances: Float[np.ndarray, "N N"]) -> Float[np.ndarray, "M 4"]:
    """The tree that joins the two nearest groups of networks again and again, by their mean distance.

    Args:
        distances: symmetric.

    Returns:
        N - 1 joins as `scipy.cluster.hierarchy.linkage` describes them: both groups, their distance, and the number of
        networks; ordered so that neighbouring leaves are alike.

    Raises:
        AnalysisError: if a distance is NaN.

    Reference:
        Sokal, Michener (1958), A statistical method for evaluating systematic relationships.

    Example:
        >>> import numpy as np
        >>> from analyses.map import average_linkage
        >>> distances = np.array([[0.0, 1, 4], [1, 0, 4], [4, 4, 0]])
        >>> average_linkage(distances).tolist()  # 0 and 1 join at 1, then 2 at 4
        [[1.0, 0.0, 1.0, 2.0], [2.0, 3.0, 4.0, 3.0]]
    """
    _require_known(distances)
    if len(distances) < 2:
        return np.zeros((0, 4))
    joins: _Array = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return joins


def inner_products(distances: Float[np.ndarray, "N N"]) -> Float[np.ndarray, "N N"]:
    """Inner products of points around their mean, of whose distances these are.

    Raises:
        AnalysisError: if a distance is NaN.
    """
    _require_known(distances)
    halves = -(distances**2) / 2
    rows = halves.mean(0)
    centred: _Array = halves - rows - rows[:, None] + rows.mean()
    return centred


def _require_known(distances: _Array) -> None:
    if unknown := int(np.isnan(distances).sum()):
        raise AnalysisError(f"{unknown} distances are NaN; leave out the networks that have no similarity with others")
