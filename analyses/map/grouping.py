"""Permutational analysis of variance: whether networks of one group are more alike than chance makes them."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from analyses.map.geometry import inner_products
from kdprobe.errors import AnalysisError, Undefined

_AT_ONCE = 1 << 22  # numbers that permuted matrices take together


class Permanova(NamedTuple):
    """How much of the squared distances between networks a grouping explains.

    Attributes:
        f: pseudo-F, mean square of the groups over mean square of the rest.
        share: of the sum of all squared distances, what the groups explain, in [0, 1].
        p_value: of groups that do not matter.
        permutations: number of random ones behind it.
        arrangements: number of different ones that there are: no p value is smaller than one in so many.
    """

    f: float
    share: float
    p_value: float
    permutations: int
    arrangements: int


def permanova(
    distances: Float[np.ndarray, "N N"],
    groups: Sequence[Hashable],
    within: Sequence[Hashable] | None = None,
    *,
    permutations: int = 9999,
    seed: int = 0,
) -> Permanova:
    """Test whether groups lie apart, given another grouping.

    The other grouping is explained first, and networks are permuted inside its groups alone. For methods within seeds
    this asks: with the seed held fixed, does the method decide where a network lies?

    Groups that spread differently are told apart as well as groups that lie apart: the test cannot say which it is.

    Args:
        distances: symmetric.
        groups: of each network.
        within: the other group of each network; none if not given.
        permutations: number of random ones.
        seed: of them.

    Raises:
        AnalysisError: for another number of groups than of networks, or a distance that is NaN.
        Undefined: where there is nothing to test or to compare with, saying why.

    Reference:
        Anderson (2001), A new method for non-parametric multivariate analysis of variance; Anderson, ter Braak (2003),
        Permutation tests for multi-factorial analysis of variance, for the restricted permutations.
    """
    n = len(distances)
    other = [0] * n if within is None else list(within)
    if {len(groups), len(other)} != {n}:
        raise AnalysisError(f"each of the {n} networks needs one group, but there are {len(groups)} and {len(other)}")
    products = inner_products(distances)
    before, after = _projection(other), _projection(groups, other)
    df, rest = round(np.trace(after) - np.trace(before)), round(n - np.trace(after))
    arrangements = _arrangements(groups, other)
    _require_something(groups, df, rest, arrangements)
    explained = after - before
    total, left = float(np.trace(products)), float(np.trace(products) - (before * products).sum())
    least = 1e-12 * n * max(float(np.abs(products).max()), np.finfo(float).tiny)  # rounding of the sums
    if left <= least:
        raise Undefined("all networks are equal, so that there are no distances to explain")
    square = float((explained * products).sum())
    permuted = _permuted(explained, products, other, permutations, seed)
    as_large = int((permuted >= square - least).sum())
    f = math.inf if left - square <= least else (square / df) / ((left - square) / rest)
    return Permanova(f, square / total, (1 + as_large) / (1 + permutations), permutations, arrangements)


def _projection(*factors: Sequence[Hashable]) -> NDArray[np.float64]:
    """Onto what a mean for each group of each factor, added up, can be [N, N]."""
    columns = [[label == one for label in labels] for labels in factors for one in dict.fromkeys(labels)]
    basis, sizes, _ = np.linalg.svd(np.array(columns, np.float64).T, full_matrices=False)
    kept = basis[:, sizes > 1e-9 * sizes[0]]
    found: NDArray[np.float64] = kept @ kept.T
    return found


def _permuted(
    explained: NDArray[np.float64],
    products: NDArray[np.float64],
    within: Sequence[Hashable],
    permutations: int,
    seed: int,
) -> NDArray[np.float64]:
    """The sum of squares of the groups after each permutation of the networks."""
    rng, n = np.random.default_rng(seed), len(products)
    strata = [np.flatnonzero([label == one for label in within]) for one in dict.fromkeys(within)]
    found = []
    for start in range(0, permutations, max(1, _AT_ONCE // n**2)):
        count = min(permutations - start, max(1, _AT_ONCE // n**2))
        orders = np.tile(np.arange(n), (count, 1))
        for places in strata:
            orders[:, places] = rng.permuted(orders[:, places], axis=1)
        moved = products[orders[:, :, None], orders[:, None, :]]
        found.append((explained * moved).sum((1, 2)))
    return np.concatenate(found) if found else np.zeros(0)


def _arrangements(groups: Sequence[Hashable], within: Sequence[Hashable]) -> int:
    """In how many ways the groups can be dealt out inside the groups of the other grouping."""
    counts = Counter(zip(within, groups, strict=True))
    whole = math.prod(math.factorial(size) for size in Counter(within).values())
    return whole // math.prod(math.factorial(size) for size in counts.values())


def _require_something(groups: Sequence[Hashable], df: int, rest: int, arrangements: int) -> None:
    if len(set(groups)) < 2:
        raise Undefined("all networks are of one group")
    if df < 1 or arrangements < 2:
        raise Undefined("no two networks differ in this grouping alone, so that it cannot be told from the other one")
    if rest < 1:
        raise Undefined("nothing is left to compare the groups with: too few networks share one")
