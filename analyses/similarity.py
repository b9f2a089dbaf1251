"""Other measures of how alike two feature sets of the same samples are.

All take features [n, d] and centre them first; all are 1 for features equal up to rotation, scale and shift.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from analyses.hsic import centred_gram
from kdprobe.errors import AnalysisError, near_matches
from kdprobe.features import REDUCERS
from kdprobe.store import FeatureStore


def canonical_correlations(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"]) -> Float[Tensor, " k"]:
    """Canonical correlations, largest first; k is the smaller rank.

    Args:
        x: features; with as many dimensions as samples every correlation is 1.
        y: features of the same samples.

    Returns:
        float64, in [0, 1] up to rounding.

    Raises:
        AnalysisError: for different samples, or features that do not vary.

    Reference:
        Björck, Golub (1973), Numerical methods for computing angles between linear subspaces.
    """
    _require_same_samples(x, y)
    one, other = _left_basis(x)[0], _left_basis(y)[0]
    correlations: Tensor = torch.linalg.svdvals(one.T @ other)
    return correlations


def svcca(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"], *, variance: float = 0.99) -> float:
    """Mean canonical correlation of the leading principal components.

    Args:
        x: features.
        y: features of the same samples.
        variance: share of it that the components kept explain, in (0, 1].

    Returns:
        in [0, 1]; invariant to rotation, scale and shift.

    Raises:
        AnalysisError: for different samples, or features that do not vary.

    Reference:
        Raghu, Gilmer, Yosinski, Sohl-Dickstein (2017), SVCCA, section 2.
    """
    _require_same_samples(x, y)
    one, other = (_leading(*_left_basis(features), variance) for features in (x, y))
    return float(torch.linalg.svdvals(one.T @ other).mean())


def pwcca(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"]) -> float:
    """Mean canonical correlation, weighted by how much of x each canonical variable accounts for.

    Args:
        x: features whose variables are weighted.
        y: features of the same samples.

    Returns:
        in [0, 1]; not symmetric, invariant to any invertible linear map of y.

    Raises:
        AnalysisError: for different samples, or features that do not vary.

    Reference:
        Morcos, Raghu, Bengio (2018), Insights on representational similarity in neural networks, section 2.1.
    """
    _require_same_samples(x, y)
    one, other = _left_basis(x)[0], _left_basis(y)[0]
    rotation, correlations, _ = torch.linalg.svd(one.T @ other, full_matrices=False)
    variables = one @ rotation  # [n, k], orthonormal
    weights = (variables.T @ _centred(x)).abs().sum(1)
    return float((weights * correlations).sum() / weights.sum())


def procrustes(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"]) -> float:
    """Correlation after the best rotation: nuclear norm of X'Y over both Frobenius norms.

    The orthogonal Procrustes distance of features of unit norm is sqrt(2 - 2 times this).

    Args:
        x: features.
        y: features of the same samples.

    Returns:
        in [0, 1]; invariant to rotation, scale and shift.

    Raises:
        AnalysisError: for different samples, or features that do not vary.

    Reference:
        Ding, Denain, Steinhardt (2021), Grounding representation similarity through statistical testing, section 2.
    """
    _require_same_samples(x, y)
    (one, sizes), (other, scales) = _left_basis(x), _left_basis(y)
    inner = (one * sizes).T @ (other * scales)
    return float(torch.linalg.svdvals(inner).sum() / (sizes.norm() * scales.norm()))


def rsa(x: Float[Tensor, "n ..."], y: Float[Tensor, "m ..."], *, ranks: bool = False) -> float:
    """Correlation of the distances between samples.

    Args:
        x: features.
        y: features of the same samples.
        ranks: Spearman's correlation instead of Pearson's.

    Returns:
        in [-1, 1]; invariant to rotation, scale and shift.

    Raises:
        AnalysisError: for different samples, or distances that do not vary.

    Reference:
        Kriegeskorte, Mur, Bandettini (2008), Representational similarity analysis.
    """
    _require_same_samples(x, y)
    one, other = (_distances(features) for features in (x, y))
    if ranks:
        one, other = rankdata(one), rankdata(other)
    if one.std() == 0 or other.std() == 0:
        raise AnalysisError("RSA is undefined: all distances between samples are the same")
    return float(np.corrcoef(one, other)[0, 1])


MEASURES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "svcca": svcca,
    "pwcca": pwcca,
    "procrustes": procrustes,
    "rsa": rsa,
    "rsa-spearman": lambda x, y: rsa(x, y, ranks=True),
}


def stored_similarity(
    teacher: FeatureStore,
    student: FeatureStore,
    measure: str,
    *,
    teacher_layers: str | Sequence[str] = "all",
    student_layers: str | Sequence[str] = "all",
    reduce: str = "gap",
) -> Float[Tensor, "Lt Ls"]:
    """One of `MEASURES` for every pair of stored layers, over all samples.

    Args:
        teacher: holds the rows' features.
        student: holds the columns' features; may be the same file.
        measure: a name in `MEASURES`.
        teacher_layers: as `FeatureStore.layers` takes them.
        student_layers: the same for the student.
        reduce: what of a feature is compared, as `kdprobe.capture` takes it.

    Raises:
        AnalysisError: for an unknown measure, files of different samples, or features that do not vary.
        StoreError: if a file is damaged or holds Gram matrices.
    """
    if measure not in MEASURES:
        raise AnalysisError(f"no measure {measure!r}{near_matches(measure, MEASURES)}")
    if not torch.equal(teacher.index, student.index):
        raise AnalysisError(f"{teacher.path} and {student.path} hold other samples or another order")
    rows = _reduced(teacher, "teacher", teacher_layers, reduce)
    columns = _reduced(student, "student", student_layers, reduce)
    return torch.tensor([[MEASURES[measure](x, y) for y in columns] for x in rows], dtype=torch.float64)


def _reduced(store: FeatureStore, role: str, layers: str | Sequence[str], reduce: str) -> list[Tensor]:
    held = role if role in store.roles else store.roles[0]
    if store.content == "grams":
        raise AnalysisError(f"{store.path} holds Gram matrices; this measure needs features")
    reducer = REDUCERS[reduce]
    parts: dict[str, list[Tensor]] = {name: [] for name in store.layers(held, layers)}
    for _, features in store.minibatches(held, layers):
        for name, values in features.items():
            wide = values.to(torch.promote_types(values.dtype, torch.float32))  # a mean of halves is no half
            parts[name].append(reducer(wide, store.layout(held, name)).flatten(1))
    return [torch.cat(values) for values in parts.values()]


def _centred(features: Tensor) -> Tensor:
    wide = features.flatten(1).to(torch.float64)
    return wide - wide.mean(0)


def _left_basis(features: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal basis [n, r] of the centred features' columns and its singular values [r], r their rank."""
    centred = _centred(features)
    basis, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    cut = sizes[:1] * max(centred.shape) * torch.finfo(torch.float64).eps
    rank = int((sizes > cut).sum())
    if rank == 0:
        raise AnalysisError("similarity is undefined: the features are the same for all samples")
    return basis[:, :rank], sizes[:rank]


def _leading(basis: Tensor, sizes: Tensor, variance: float) -> Tensor:
    share = (sizes**2).cumsum(0) / (sizes**2).sum()
    return basis[:, : int((share < variance - 1e-12).sum()) + 1]


def _distances(features: Tensor) -> NDArray[np.float64]:
    gram = centred_gram(features.to(torch.float64)).cpu()
    squares = gram.diagonal()
    above = (squares[:, None] + squares[None, :] - 2 * gram)[*torch.triu_indices(len(gram), len(gram), 1)]
    distances: NDArray[np.float64] = above.clamp(min=0).sqrt().numpy()  # a square: below zero there is only rounding
    return distances


def _require_same_samples(x: Tensor, y: Tensor) -> None:
    if len(x) != len(y):
        raise AnalysisError(f"both need features of the same samples, but got {len(x)} and {len(y)}")
