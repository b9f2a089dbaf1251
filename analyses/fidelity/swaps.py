"""Is one network closer to the teacher than another on the same images?

If they were alike, each image's two answers could as well have been given the other way round. Swapping them at random
and independently shows which differences chance gives. The interval combines those of both networks, as far as their
errors are not the same images'.
"""

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from analyses.fidelity.quantities import ROUNDING, Answers, quantities

_NUMBERS = 2_000_000  # random ones held at a time


def swap_test(one: Answers, other: Answers, *, n_permutations: int = 9_999, seed: int = 0) -> Float64[ndarray, " q"]:
    """Test every quantity's difference of two networks with one teacher, paired by image.

    Args:
        one: answers of a network.
        other: answers of another one to the same images.
        n_permutations: random swaps.
        seed: of the swaps.

    Returns:
        two-sided p values of at least 1 / (n_permutations + 1); NaN where a quantity of either is not defined.

    Reference:
        Good (2005), Permutation, parametric and bootstrap tests of hypotheses, chapter 3.
    """
    n_images, right = len(one.right), float(one.right.mean())
    total, apart = one.columns + other.columns, one.columns - other.columns
    apart = apart[(apart != 0).any(1)]  # images with the same answer stay as they are
    observed = np.abs(one.values - other.values)
    rng, extreme = np.random.default_rng(seed), np.zeros(len(observed))
    chunk = max(1, _NUMBERS // max(len(apart), 1))
    for start in range(0, n_permutations, chunk):
        signs = 2.0 * rng.integers(0, 2, (min(chunk, n_permutations - start), len(apart)), dtype=np.int8) - 1
        sums = (total.sum(0) + signs @ apart) / 2  # of the columns, of one network after the swap
        first, second = (quantities(part / n_images, right) for part in (sums, total.sum(0) - sums))
        extreme += (~(np.abs(first - second) < observed - 1e-12)).sum(0)  # also where a swap leaves it undefined
    return np.where(np.isnan(observed), np.nan, (1 + extreme) / (1 + n_permutations))


def difference_ends(
    one: Float64[ndarray, "q 3"],
    other: Float64[ndarray, "q 3"],
    influences: tuple[Float64[ndarray, "n q"], Float64[ndarray, "n q"]],
) -> Float64[ndarray, "q 3"]:
    """Differences of the quantities of two networks on the same images, from the interval of each.

    Two images on which just one of them is as it should be are added to those that say how much their errors are the
    same images': networks that answered all images alike still need not do so always.

    Args:
        one: value, low, high of each quantity.
        other: those of the network that is subtracted.
        influences: what each image adds to the quantities of both.

    Returns:
        value, low, high; NaN where a network has no value or interval.

    Reference:
        Zou, Donner (2008), Construction of confidence limits about effect measures, equations 7 and 8; Newcombe (1998),
        Improved confidence intervals for the difference between binomial proportions based on paired data.
    """
    alike = np.array([_correlation(*pair) for pair in zip(*(part.T for part in influences), strict=True)])
    value, ends = one[:, 0] - other[:, 0], []
    for sign, near, far in ((-1, 1, 2), (1, 2, 1)):
        first, second = np.abs(one[:, near] - one[:, 0]), np.abs(other[:, far] - other[:, 0])
        square = first**2 + second**2 - 2 * alike * first * second
        ends.append(value + sign * np.sqrt(np.maximum(square, 0)))
    return np.stack([value, *ends], axis=1)


def _correlation(one: ndarray, other: ndarray) -> float:
    """Of what the images add to a quantity of two networks; 0 where one of them has it on all images alike."""
    spread = [max(float(np.ptp(part)), 0.0) for part in (one, other)]
    if not (np.isfinite(one).all() and np.isfinite(other).all() and min(spread) > ROUNDING):
        return 0.0
    pairs = np.array([[one.max(), other.min()], [one.min(), other.max()]])
    return float(np.corrcoef(np.vstack([np.stack([one, other], 1), pairs]), rowvar=False)[0, 1])
