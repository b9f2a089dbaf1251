"""Is one network better than another on the same images?

If they were equally good, each image on which only one of them is right could as well have gone the
other way. Swapping those images at random and independently shows which differences chance gives.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64
from numpy import ndarray

CHUNK = 10_000


class Difference(NamedTuple):
    """A difference of two networks and how often chance gives one as large, in either direction."""

    value: float
    p_value: float


def paired_permutation(
    right: Bool[ndarray, " n"],
    other: Bool[ndarray, " n"],
    targets: Int64[ndarray, " n"],
    *,
    n_permutations: int = 99_999,
    seed: int = 0,
) -> tuple[Difference, Difference]:
    """Test the differences in accuracy and in UAR of two networks, paired by image.

    Args:
        right: whether the one is right on each image.
        other: whether the other is right.
        targets: true classes; classes without images do not count.
        n_permutations: random swaps.
        seed: of the swaps.

    Returns:
        accuracy and UAR: right minus other as fractions, with two-sided p-values of at least
        1 / (n_permutations + 1).

    Reference:
        Good (2005), Permutation, parametric and bootstrap tests of hypotheses, chapter 3.

    Example:
        >>> import numpy as np
        >>> from analyses.evaluation import paired_permutation
        >>> targets = np.arange(100) % 2
        >>> right, other = np.arange(100) < 90, np.arange(100) < 70
        >>> accuracy, uar = paired_permutation(right, other, targets, n_permutations=999)
        >>> accuracy
        Difference(value=0.2, p_value=0.001)
    """
    _, own, images = np.unique(targets, return_inverse=True, return_counts=True)
    net = np.bincount(own, right.astype(float) - other)  # images won minus lost, by class
    split = np.bincount(own, right != other).astype(np.int64)  # images that only one gets right, by class
    weights = np.stack([np.full(len(images), 1 / len(targets)), 1 / (images * len(images))], axis=1)  # [C, 2]
    observed = net @ weights
    rng, extreme = np.random.default_rng(seed), np.zeros(2)
    for start in range(0, n_permutations, CHUNK):
        won = rng.binomial(split, 0.5, size=(min(CHUNK, n_permutations - start), len(split)))
        swapped = (2 * won - split) @ weights
        extreme += (np.abs(swapped) >= np.abs(observed) - 1e-12).sum(0)  # equal values may differ in rounding
    p_values = (1 + extreme) / (1 + n_permutations)
    accuracy, uar = (Difference(float(v), float(p)) for v, p in zip(observed, p_values, strict=True))
    return accuracy, uar
