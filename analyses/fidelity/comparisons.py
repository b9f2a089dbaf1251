"""Which networks or methods are closer to the teacher: every pair of methods, tested by its seeds or by the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from analyses.fidelity.lineage import STUDENT_OR_CONTROL
from analyses.fidelity.measured import Measured, over_images
from analyses.fidelity.quantities import FIDELITIES, LIMITS
from analyses.fidelity.seeds import Spread, two_way_p_values, with_seeds
from analyses.fidelity.swaps import difference_ends, swap_test
from analyses.fidelity.together import Together
from kdprobe.mean_interval import holm

_ALONE = [list(FIDELITIES).index(name) for name in ("accuracy", "agreement_wrong")]
_QUESTIONS = [*([place] for place in _ALONE), [place for place in range(len(FIDELITIES)) if place not in _ALONE]]


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Differences of methods.

    Attributes:
        pairs: for each, `one` and `other`, the test's unit (`by`: image or seed) and their number (`n`).
        differences: one minus other, with intervals [pairs, q, 3].
        p_values: two-sided [pairs, q].
        adjusted: the same, by Holm, over all pairs with controls or all others: for accuracy, for agreement where the
            teacher is wrong, and for the other quantities together.
        untested: pairs that nothing can be said of, each with a `reason`.
    """

    pairs: list[dict[str, Any]]
    differences: Float64[ndarray, "p q 3"]
    p_values: Float64[ndarray, "p q"]
    adjusted: Float64[ndarray, "p q"]
    untested: list[dict[str, str]]


def compare_methods(measured: Sequence[Measured], *, confidence: float, seed: int) -> Comparisons:
    """Compare every method of students with every one of controls, and the students' methods with each other.

    Methods that share several seeds are tested by these and by the images. Single networks, and those of the one seed
    that two methods share, are tested by the images alone.

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
        found.append(_compared(matched, confidence, seed))
    p_values = np.array([p for _, p in found]).reshape(len(pairs), len(FIDELITIES))
    differences = np.array([ends for ends, _ in found]).reshape(len(pairs), len(FIDELITIES), 3)
    with_control = np.array([pair["other"] in groups["control"] for pair in pairs], dtype=bool)
    return Comparisons(pairs, differences, p_values, _adjusted(p_values, with_control), untested)


def _adjusted(p_values: ndarray, with_control: ndarray) -> ndarray:
    """Holm's, for each question apart: beside controls, and between students; and for each of `_QUESTIONS`."""
    adjusted = np.full(p_values.shape, np.nan)
    for pairs in (with_control, ~with_control):
        for columns in _QUESTIONS:
            places = np.ix_(np.flatnonzero(pairs), np.array(columns))
            adjusted[places] = holm(p_values[places])
    return adjusted


def _matched(first: Sequence[Measured], second: Sequence[Measured]) -> list[tuple[Measured, Measured]]:
    """The networks of both methods with the same seed; two single networks in any case."""
    if len(first) == len(second) == 1:
        return [(first[0], second[0])]
    seeds = {one.lineage.seed: one for one in second}
    return [(one, seeds[one.lineage.seed]) for one in first if one.lineage.seed in seeds]


def _compared(matched: Sequence[tuple[Measured, Measured]], confidence: float, seed: int) -> tuple[ndarray, ndarray]:
    """Differences with their intervals, and p values, of networks paired by seed."""
    one, other = (Together([pair[side].answers for pair in matched]) for side in range(2))
    by_image = one.by_image().mean(0), other.by_image().mean(0)
    first, second = (over_images(each, confidence=confidence, seed=seed) for each in (one, other))
    seeds, images = Spread.of(one.by_seed() - other.by_seed()), difference_ends(first, second, by_image)
    ends = with_seeds(images, seeds.square(confidence), LIMITS - LIMITS[:, ::-1])
    if len(matched) == 1:
        return ends, swap_test(matched[0][0].answers, matched[0][1].answers, seed=seed)
    error = _errors(ends[:, 0], by_image[0] - by_image[1], np.minimum(one.counts(), other.counts()))
    return ends, two_way_p_values(ends[:, 0], error, seeds)


def _errors(differences: ndarray, by_image: ndarray, n_images: ndarray) -> ndarray:
    """Standard errors over images if there were no differences, as McNemar's test has them."""
    with np.errstate(divide="ignore", invalid="ignore"):
        square = np.square(by_image).mean(0) / len(by_image) + np.square(differences) / n_images
    return np.asarray(np.sqrt(square))
