"""Which networks or methods are closer to the teacher: every pair of methods, tested by its seeds or by the images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.stats import norm, t

from analyses.fidelity.lineage import STUDENT_OR_CONTROL
from analyses.fidelity.measured import Measured
from analyses.fidelity.quantities import FIDELITIES
from analyses.fidelity.swaps import difference_ends, swap_test
from kdprobe.mean_interval import all_equal, difference_interval, holm, seeds_interval

_SHARES = ("accuracy", "agreement")  # of all images, so that their number is known where all seeds agree


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Differences of methods.

    Attributes:
        pairs: for each, `one` and `other`, the test's unit (`by`: image or seed) and their number (`n`).
        differences: one minus other, with intervals [pairs, q, 3].
        p_values: two-sided [pairs, q].
        adjusted: the same, by Holm over all of them.
        untested: pairs that nothing can be said of, each with a `reason`.
    """

    pairs: list[dict[str, Any]]
    differences: Float64[ndarray, "p q 3"]
    p_values: Float64[ndarray, "p q"]
    adjusted: Float64[ndarray, "p q"]
    untested: list[dict[str, str]]


def group_means(of_group: Sequence[Measured], *, confidence: float) -> Float64[ndarray, "q 3"]:
    """Each quantity of a method: the mean over seeds with its interval, that over images where there is one network."""
    if len(of_group) == 1:
        return of_group[0].values
    n_images = len(of_group[0].answers.right)
    values = np.stack([one.values[:, 0] for one in of_group])
    found = []
    for name, column in zip(FIDELITIES, values.T, strict=True):
        mean, half = seeds_interval(column, n_images=n_images if name in _SHARES else None, confidence=confidence)
        found.append((mean, mean - half, mean + half))
    return np.array(found)


def compare_methods(measured: Sequence[Measured], *, confidence: float, seed: int) -> Comparisons:
    """Compare every method of students with every one of controls, and the students' methods with each other.

    Methods that share several seeds are tested by these, with Student's t. Single networks, and those of the one seed
    that two methods share, are tested by the images.

    Args:
        measured: of all networks.
        confidence: of the intervals.
        seed: of the random swaps.
    """
    groups = {
        role: list(dict.fromkeys(one.lineage.group for one in measured if one.lineage.role == role))
        for role in STUDENT_OR_CONTROL
    }
    wanted = [*product(groups["student"], groups["control"]), *combinations(groups["student"], 2)]
    pairs: list[dict[str, Any]] = []
    found: list[tuple[ndarray, ndarray]] = []
    untested = []
    for one, other in wanted:
        first, second = ([each for each in measured if each.lineage.group == name] for name in (one, other))
        matched = _matched(first, second)
        if not matched:
            reason = f"{one} and {other} have no seed in common, so nothing pairs their networks"
            untested.append({"one": one, "other": other, "reason": reason})
            continue
        by_seed = len(matched) > 1
        n_images = len(matched[0][0].answers.right)
        pairs.append(
            {
                "one": one,
                "other": other,
                "by": "seed" if by_seed else "image",
                "n": len(matched) if by_seed else n_images,
            }
        )
        found.append(_by_seed(matched, confidence) if by_seed else _by_image(*matched[0], seed))
    p_values = np.array([p for _, p in found]).reshape(len(pairs), len(FIDELITIES))
    differences = np.array([ends for ends, _ in found]).reshape(len(pairs), len(FIDELITIES), 3)
    return Comparisons(pairs, differences, p_values, holm(p_values), untested)


def _matched(first: Sequence[Measured], second: Sequence[Measured]) -> list[tuple[Measured, Measured]]:
    """The networks of both methods with the same seed; two single networks in any case."""
    if len(first) == len(second) == 1:
        return [(first[0], second[0])]
    seeds = {one.lineage.seed: one for one in second}
    return [(one, seeds[one.lineage.seed]) for one in first if one.lineage.seed in seeds]


def _by_image(one: Measured, other: Measured, seed: int) -> tuple[ndarray, ndarray]:
    influences = one.answers.influences(), other.answers.influences()
    return difference_ends(one.values, other.values, influences), swap_test(one.answers, other.answers, seed=seed)


def _by_seed(matched: Sequence[tuple[Measured, Measured]], confidence: float) -> tuple[ndarray, ndarray]:
    n_images, ends, p_values = len(matched[0][0].answers.right), [], []
    one, other = (np.stack([pair[side].values[:, 0] for pair in matched]) for side in range(2))
    for place, name in enumerate(FIDELITIES):
        images = n_images if name in _SHARES else None
        mean, half = difference_interval(one[:, place], other[:, place], n_images=images, confidence=confidence)
        ends.append((mean, mean - half, mean + half))
        p_values.append(_p_value(one[:, place] - other[:, place], half, confidence))
    return np.array(ends), np.array(p_values)


def _p_value(differences: ndarray, half: float, confidence: float) -> float:
    """Of no mean difference: Student's over seeds; where all seeds agree, from the interval that the images give."""
    there = differences[~np.isnan(differences)]
    if math.isnan(half):
        return math.nan
    if all_equal(there):
        return float(2 * norm.sf(abs(there[0]) / half * norm.ppf((1 + confidence) / 2)))
    error = float(there.std(ddof=1)) / math.sqrt(len(there))
    return float(2 * t.sf(abs(there.mean()) / error, len(there) - 1))
