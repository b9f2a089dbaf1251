"""Permutational analysis of variance: whether networks of one group are more alike than chance makes them."""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import combinations, product
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
        smallest_p: that any distances between so many networks, grouped like this, could give.
        permutations: number of random ones behind the p value; 0 where it is exact.
        groupings: number of different ones that there are; groups that only change their names are the same grouping.
    """

    f: float
    share: float
    p_value: float
    smallest_p: float
    permutations: int
    groupings: int


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
    this asks: with the seed held fixed, does the method decide where a network lies? Where there are no more different
    groupings than numbers that random permutations would give, all of them are counted, and the p value is exact.

    Groups that spread differently are told apart as well as groups that lie apart: the test cannot say which it is.

    Args:
        distances: symmetric.
        groups: of each network.
        within: the other group of each network; none if not given.
        permutations: number of random ones, where there are more groupings.
        seed: of them.

    Raises:
        AnalysisError: for another number of groups than of networks, or a distance that is NaN.
        Undefined: where there is nothing to test or to compare with, saying why.

    Reference:
        Anderson (2001), A new method for non-parametric multivariate analysis of variance; Anderson, ter Braak (2003),
        Permutation tests for multi-factorial analysis of variance, for the restricted permutations.

    Example:
        >>> import numpy as np
        >>> from analyses.map import permanova
        >>> points = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 5.2])
        >>> found = permanova(abs(points[:, None] - points), ["a"] * 3 + ["b"] * 3)
        >>> round(found.share, 2), found.p_value, found.smallest_p
        (1.0, 0.1, 0.1)
    """
    n = len(distances)
    other = [0] * n if within is None else list(within)
    if {len(groups), len(other)} != {n}:
        raise AnalysisError(f"each of the {n} networks needs one group, but there are {len(groups)} and {len(other)}")
    products = inner_products(distances)
    before, after = _projection(other), _projection(groups, other)
    df, rest = round(np.trace(after) - np.trace(before)), round(n - np.trace(after))
    _require_something(groups, df, rest)
    explained = after - before
    total, left = float(np.trace(products)), float(np.trace(products) - (before * products).sum())
    least = 1e-12 * n * max(float(np.abs(products).max()), np.finfo(float).tiny)  # rounding of the sums
    if left <= least:
        raise Undefined("all networks are equal, so that there are no distances to explain")
    square = float((explained * products).sum())
    f = math.inf if left - square <= least else (square / df) / ((left - square) / rest)
    n_groupings, smallest = _count(groups, other), 1 / (1 + permutations)
    if n_groupings <= permutations + 1:
        permutations, orders = 0, np.array(list(_every_grouping(groups, other)))
        smallest = float((_squares(explained, explained, orders) > df - 1e-6).mean())  # those that explain the same
        p_value = float((_squares(explained, products, orders) >= square - least).mean())
    else:
        drawn = (_squares(explained, products, part) for part in _random_orders(other, permutations, seed))
        p_value = (1 + sum(int((squares >= square - least).sum()) for squares in drawn)) * smallest
    if smallest > 1 - 1e-9:
        raise Undefined("however the networks are dealt out, the grouping is the same")
    return Permanova(f, square / total, p_value, smallest, permutations, n_groupings)


def _projection(*factors: Sequence[Hashable]) -> NDArray[np.float64]:
    """Onto what a mean for each group of each factor, added up, can be [N, N]."""
    columns = [[label == one for label in labels] for labels in factors for one in dict.fromkeys(labels)]
    basis, sizes, _ = np.linalg.svd(np.array(columns, np.float64).T, full_matrices=False)
    kept = basis[:, sizes > 1e-9 * sizes[0]]
    found: NDArray[np.float64] = kept @ kept.T
    return found


def _squares(
    explained: NDArray[np.float64], products: NDArray[np.float64], orders: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The sum of squares of the groups with the networks in each order."""
    at_once = max(1, _AT_ONCE // len(products) ** 2)
    parts = [orders[start : start + at_once] for start in range(0, len(orders), at_once)]
    found = [(explained * products[part[:, :, None], part[:, None, :]]).sum((1, 2)) for part in parts]
    return np.concatenate(found)


def _random_orders(within: Sequence[Hashable], permutations: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Orders of the networks that leave each in its group of the other grouping, some at a time."""
    rng, n = np.random.default_rng(seed), len(within)
    at_once = max(1, _AT_ONCE // n**2)
    for start in range(0, permutations, at_once):
        orders = np.tile(np.arange(n), (min(permutations - start, at_once), 1))
        for places in _strata(within):
            orders[:, places] = rng.permuted(orders[:, places], axis=1)
        yield orders


def _strata(within: Sequence[Hashable]) -> list[list[int]]:
    """The networks of each group of the other grouping."""
    return [[place for place, label in enumerate(within) if label == one] for one in dict.fromkeys(within)]


def _profiles(groups: Sequence[Hashable], within: Sequence[Hashable]) -> dict[Hashable, list[tuple[int, int]]]:
    """How many networks each group has where there are others too; alike ones can change their names."""
    found: dict[Hashable, list[tuple[int, int]]] = {group: [] for group in groups}
    for number, places in enumerate(_strata(within)):
        sizes = Counter(groups[place] for place in places)
        for group, size in sizes.items() if len(sizes) > 1 else ():
            found[group].append((number, size))
    return found


def _count(groups: Sequence[Hashable], within: Sequence[Hashable]) -> int:
    """The number of different groupings when networks are dealt out inside the groups of the other grouping."""
    sizes = Counter(zip(within, groups, strict=True)).values()
    names = Counter(tuple(profile) for profile in _profiles(groups, within).values() if profile).values()
    whole = math.prod(map(math.factorial, Counter(within).values()))
    return whole // math.prod(map(math.factorial, [*sizes, *names]))


def _every_grouping(groups: Sequence[Hashable], within: Sequence[Hashable]) -> Iterator[list[int]]:
    """An order of the networks for each different grouping: which one takes whose place."""
    profiles, dealt = _profiles(groups, within), []
    for number, places in enumerate(_strata(within)):
        alike: dict[tuple[tuple[int, int], ...], list[list[int]]] = {}  # the places of each group, by its profile
        for group in dict.fromkeys(groups[place] for place in places):
            own = [place for place in places if groups[place] == group]
            alike.setdefault(tuple(profiles[group]), []).append(own)
        seats = [place for same in alike.values() for own in same for place in own]
        nameless = [bool(profile) and profile[0][0] == number for profile in alike]  # names are given once
        sizes = [[len(own) for own in same] for same in alike.values()]
        dealt.append(
            [
                dict(zip(seats, (place for parts in split for part in parts for place in part), strict=True))
                for blocks in _splits(places, [sum(of_each) for of_each in sizes])
                for split in product(*map(_splits, blocks, sizes, nameless))
            ]
        )
    for parts in product(*dealt):
        taken = {seat: place for part in parts for seat, place in part.items()}
        yield [taken[seat] for seat in range(len(groups))]


def _splits(
    places: Sequence[int], sizes: Sequence[int], nameless: bool = False
) -> Iterator[tuple[tuple[int, ...], ...]]:
    """All ways to deal places out to blocks of these sizes; to nameless ones, all equally large, each way once."""
    if not sizes:
        yield ()
        return
    kept = tuple(places[:1]) if nameless else ()
    for more in combinations(places[len(kept) :], sizes[0] - len(kept)):
        block = (*kept, *more)
        for rest in _splits([place for place in places if place not in block], sizes[1:], nameless):
            yield (block, *rest)


def _require_something(groups: Sequence[Hashable], df: int, rest: int) -> None:
    if len(set(groups)) < 2:
        raise Undefined("all networks are of one group")
    if df < 1:
        raise Undefined("no two networks differ in this grouping alone, so that it cannot be told from the other one")
    if rest < 1:
        raise Undefined("nothing is left to compare the groups with: too few networks share one")
