"""Similarity beside what chance gives: its permutation null, a score that starts above it, and p values.

The samples of one network are put in random orders, the same for all of its layers, and everything is measured again.
What unrelated features reach depends on the measure, the number of samples and the widths of both layers; the null
says how much that is.

References:
    Groeger, Wen, Brbić (ICML 2026), the similarity of representations calibrated by permutations.
    Westfall, Young (1993), Resampling-based multiple testing, section 2.5: the maximum statistic.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from kdprobe.errors import AnalysisError

ALPHA, PERMUTATIONS = 0.05, 200

_Array = NDArray[np.float64]
#: attributes of `Calibrated`, and what they are called in results
_KEPT = {
    "null_mean": "null_mean",
    "null_deviation": "null_deviation",
    "threshold": "threshold",
    "score": "calibrated",
    "p_value": "p_values",
    "p_adjusted": "p_adjusted",
}
_CORRECTION = (
    "adjusted p values hold for all pairs together: of any pair as far above its null, in that one's deviations, under "
    "random orders of the samples that are the same for all layers"
)
_ROUNDING = 1e-12  # values that are no further apart are ties


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Values beside their null. All arrays have the same shape, and are NaN where a value is undefined.

    Attributes:
        observed: the values.
        null_mean: mean of the null.
        null_deviation: standard deviation of the null, divided by the number of permutations.
        threshold: what a value must exceed at the level alpha, on its own.
        score: how far it does, as a fraction of the way from the threshold to the largest value; in [0, 1].
        p_value: of a value as large as this under the null, on its own.
        p_adjusted: of any of the values as large under the null, compared in deviations from each one's null mean.

    Example:
        >>> import numpy as np
        >>> from analyses.similarity import calibrate
        >>> calibrate(0.05, np.array([-0.1, 0.0, 0.1] * 40)).score.item()  # not above chance
        0.0
    """

    observed: _Array
    null_mean: _Array
    null_deviation: _Array
    threshold: _Array
    score: _Array
    p_value: _Array
    p_adjusted: _Array

    def arrays(self) -> dict[str, _Array]:
        """What a result keeps, by the names that it has there."""
        return {name: getattr(self, key) for key, name in _KEPT.items()}


@dataclass(frozen=True, eq=False)
class CalibratedPairs:
    """All pairs of layers beside their null.

    Attributes:
        pairs: each pair [Lt, Ls].
        by_student: the largest value over the teacher's layers, for each layer of the student [Ls]; its null is the
            largest value over the same layers.
        best: the largest of all values [], beside the largest of all under the null.
        alpha: level of thresholds.
        permutations: behind the null.

    Example:
        >>> import numpy as np
        >>> from analyses.similarity import calibrate_pairs
        >>> null = np.random.default_rng(0).normal(0, 0.1, (199, 2, 2))
        >>> found = calibrate_pairs(np.array([[0.6, 0.1], [0.0, 0.5]]), null)
        >>> found.by_student.score.round(2).tolist(), found.best.p_value.item()
        ([0.51, 0.37], 0.005)
    """

    pairs: Calibrated
    by_student: Calibrated
    best: Calibrated
    alpha: float
    permutations: int

    def arrays(self) -> dict[str, _Array]:
        """What a result keeps of each pair and, with `student_` before its name, of each layer of the student."""
        parts = {"": self.pairs, "student_": self.by_student}
        return {prefix + name: array for prefix, part in parts.items() for name, array in part.arrays().items()}

    def facts(self) -> dict[str, Any]:
        """How the null was made, how p values are corrected, and the best of all pairs."""
        best = {name: float(getattr(self.best, key)) for key, name in _KEPT.items()}
        return {
            "alpha": self.alpha,
            "permutations": self.permutations,
            "correction": _CORRECTION,
            "best": {name: None if math.isnan(value) else value for name, value in best.items()},
        }

    def columns(self) -> dict[str, _Array]:
        """The columns of a table with one row for each pair."""
        return {"p_value": self.pairs.p_value} | {
            name: getattr(self.pairs, key) for key, name in _KEPT.items() if key != "p_value"
        }

    @property
    def best_of_teacher(self) -> str:
        """The name of the best teacher layers' scores, which are below those of the same pairs on their own."""
        return best_of(len(self.pairs.observed))

    def best_words(self) -> list[tuple[str, str]]:
        """Score and adjusted p value of the best pair of each student layer, below their names."""
        scores = [f"{score:.3f}".replace("nan", "-") for score in self.by_student.score]
        shares = [f"{share:.3f}".replace("nan", "-") for share in self.by_student.p_adjusted]
        return [(self.best_of_teacher, "p"), *zip(scores, shares, strict=True)]

    def summary(self, teacher_layers: Sequence[str], student_layers: Sequence[str]) -> str:
        """How many pairs exceed their null, and the best of all."""
        defined, beyond = ~np.isnan(self.pairs.score), self.pairs.p_adjusted <= self.alpha
        if not defined.any():
            return "no pair has a value to set beside its null"
        row, column = map(int, np.unravel_index(np.nanargmax(self.pairs.observed), defined.shape))
        return (
            f"{beyond.sum()} of {defined.sum()} pairs exceed their null of {self.permutations} random orders of the "
            f"samples (p <= {self.alpha:g} for all pairs together); best: {teacher_layers[row]} and "
            f"{student_layers[column]}, {best_of(int(defined.sum()))} {float(self.best.score):.3f}, "
            f"p = {float(self.best.p_value):.3f}"
        ) + self._above()

    def _above(self) -> str:
        """What is said where calibrated values exceed the values themselves."""
        if not (self.pairs.score > self.pairs.observed).any():
            return ""
        return "; calibrated values exceed the values where the threshold of chance is below 0"

    @classmethod
    def of(cls, matrix: _Array, arrays: Mapping[str, _Array], facts: Mapping[str, Any]) -> "CalibratedPairs":
        """What `arrays` and `facts` kept, of values [Lt, Ls]."""
        best = {name: np.nan if value is None else value for name, value in facts["best"].items()}
        pairs, by_student, best_pair = (
            Calibrated(np.asarray(observed), **{key: np.asarray(kept[prefix + name]) for key, name in _KEPT.items()})
            for observed, prefix, kept in (
                (matrix, "", arrays),
                (_largest(matrix, (0,)), "student_", arrays),
                (_largest(matrix, (0, 1)), "", best),
            )
        )
        return cls(pairs, by_student, best_pair, facts["alpha"], facts["permutations"])


def best_of(count: int) -> str:
    """What the calibrated largest of so many values is called: it is compared with the largest under the null."""
    return f"calibrated as best of {count}" if count > 1 else "calibrated"


def calibrate(
    observed: float | Float[np.ndarray, "..."],
    null: Float[np.ndarray, "K ..."],
    *,
    alpha: float = ALPHA,
    largest: float | None = 1.0,
    studentised: bool = True,
) -> Calibrated:
    """Set values of any similarity beside their permutation null.

    The threshold tau is the m-th smallest of the K + 1 values, null and observed, m = ceil((1 - alpha)(K + 1)), and
    the score (s - tau) / (largest - tau). It is above 0 exactly where p = (1 + #{s_k >= s}) / (K + 1) is at most
    alpha: never with fewer than 1/alpha - 1 permutations. A score of 0 does not say that there is no similarity.

    Args:
        observed: larger for more alike; NaN where undefined.
        null: the same under K random orders of one side's samples, one order for all values of a draw.
        alpha: level of the threshold, in (0, 1).
        largest: what equal features reach; None if there is no bound, which leaves the score at s - tau.
        studentised: whether adjusted p values compare values in deviations from the mean of the K + 1 that each is
            exchangeable with. If not, they compare plain values, and those with a high null, as of wide layers, hide
            the others.

    Returns:
        arrays of the shape of `observed`.

    Raises:
        AnalysisError: for no permutations, another shape of the null, NaN where a value is defined, or a level that is
            not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> from analyses.similarity import calibrate
        >>> null = np.linspace(-0.1, 0.1, 199)  # of the same pair, samples in random orders
        >>> found = calibrate(0.6, null)
        >>> f"{found.threshold:.3f} {found.score:.2f} {found.p_value:.3f}"
        '0.091 0.56 0.005'
    """
    values, drawn = _checked(observed, null, alpha)
    every = np.concatenate([values[None], drawn])
    threshold = np.where(np.isnan(values), np.nan, np.sort(every, axis=0)[_rank(alpha, len(drawn)) - 1])
    p_value = _p_values(values, drawn)
    score = np.where(p_value <= alpha, values - threshold, 0 * values)
    if largest is not None:
        score = np.clip(score / np.maximum(largest - threshold, _ROUNDING), 0, 1) + 0.0  # never -0.0
    compared = _studentised(every) if studentised else every
    axes = tuple(range(1, compared.ndim))
    p_adjusted = _p_values(compared[0], np.nanmax(compared[1:], axis=axes, initial=-math.inf, keepdims=True))
    found = (values, drawn.mean(0), drawn.std(0), threshold, score, p_value, p_adjusted)
    return Calibrated(*map(np.asarray, found))


def calibrate_pairs(
    matrix: Float[np.ndarray, "..."],
    null: Float[np.ndarray, "K ..."],
    *,
    alpha: float = ALPHA,
    largest: float | None = 1.0,
    studentised: bool = True,
) -> CalibratedPairs:
    """Set the similarity of all pairs of layers, and of the best pairs, beside their permutation null.

    The maximum over pairs is compared with maxima over the same pairs, so that the best of many is not taken for more
    than it is.

    Args:
        matrix: of all pairs [Lt, Ls]; NaN where undefined.
        null: the same [K, Lt, Ls] under K random orders of one network's samples, one order for all layers.
        alpha: as `calibrate` takes it.
        largest: likewise.
        studentised: likewise.

    Raises:
        AnalysisError: as `calibrate`, or for another number of dimensions than two.

    Example:
        >>> import numpy as np
        >>> from analyses.similarity import calibrate_pairs
        >>> null = np.random.default_rng(0).normal(0, 0.1, (199, 2, 2))  # 199 orders, all pairs of 2 with 2 layers
        >>> found = calibrate_pairs(np.array([[0.6, 0.1], [0.0, 0.5]]), null)
        >>> found.pairs.score.round(1).tolist()
        [[0.5, 0.0], [0.0, 0.4]]
    """
    values, drawn = _checked(matrix, null, alpha)
    if values.ndim != 2:
        raise AnalysisError(f"pairs of layers are a matrix, but the values have the shape {list(values.shape)}")
    pairs, by_student, best = (
        calibrate(
            _largest(values, axes),
            _largest(drawn, tuple(axis + 1 for axis in axes)),
            alpha=alpha,
            largest=largest,
            studentised=studentised,
        )
        for axes in ((), (0,), (0, 1))
    )
    return CalibratedPairs(pairs, by_student, best, alpha, len(drawn))


def least_permutations(alpha: float = ALPHA) -> int:
    """The smallest number of permutations with which a p value can be as small as alpha."""
    return math.ceil(round(1 / alpha, 9)) - 1


def enough_permutations(permutations: int, *, calibrated: bool, alpha: float = ALPHA) -> int:
    """The number of permutations to make: what was asked for, or the usual number where calibration needs them.

    Args:
        permutations: asked for; 0 for no wish.
        calibrated: whether values are to be calibrated.
        alpha: level of thresholds.

    Raises:
        AnalysisError: if there are too few for any p value to be as small as alpha.
    """
    if not calibrated:
        return permutations
    least = least_permutations(alpha)
    if 0 < permutations < least:
        raise AnalysisError(
            f"at the level {alpha:g}, calibration needs at least {least} permutations, but got {permutations}: with "
            "fewer, no value can exceed its null"
        )
    return permutations or max(PERMUTATIONS, least)


def random_order(n: int, generator: torch.Generator, groups: Tensor | None = None) -> Tensor:
    """A random order of samples [n].

    Args:
        n: samples.
        generator: of random numbers.
        groups: a number for each sample [n]; samples of equal numbers, as several views of one image, move together
            to the places of a group of the same size. Each on its own if not given.
    """
    if groups is None:
        return torch.randperm(n, generator=generator)
    _, own, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    if int(sizes.max()) == 1:
        return torch.randperm(n, generator=generator)
    order = torch.empty(n, dtype=torch.long)
    places = torch.split(torch.argsort(own, stable=True), sizes.tolist())
    for size in sizes.unique().tolist():
        alike = torch.stack([place for place in places if len(place) == size])  # [groups, size]
        order[alike] = alike[torch.randperm(len(alike), generator=generator)]
    return order


def random_orders(n: int, permutations: int, *, seed: int = 0, groups: Tensor | None = None) -> Iterator[Tensor]:
    """As many random orders of n samples as asked for, as `random_order` makes them."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(permutations):
        yield random_order(n, generator, groups)


def _checked(observed: Any, null: Any, alpha: float) -> tuple[_Array, _Array]:
    values, drawn = np.asarray(observed, np.float64), np.asarray(null, np.float64)
    if not 0 < alpha < 1:
        raise AnalysisError(f"the level alpha must lie between 0 and 1, but is {alpha}")
    if drawn.ndim != values.ndim + 1 or drawn.shape[1:] != values.shape or not len(drawn):
        raise AnalysisError(
            f"the null of values of the shape {list(values.shape)} must be {['K', *values.shape]} with K "
            f"permutations, but has the shape {list(drawn.shape)}"
        )
    if bool((np.isnan(drawn).any(0) & ~np.isnan(values)).any()):
        raise AnalysisError("the null is NaN where a value is defined; measure both in the same way")
    return values, np.where(np.isnan(values), np.nan, drawn)


def _rank(alpha: float, permutations: int) -> int:
    """Place of the threshold among null and observed value, from 1."""
    return math.ceil(round((1 - alpha) * (permutations + 1), 9))


def _p_values(values: Any, drawn: _Array) -> Any:
    tolerance = _ROUNDING * np.maximum(1, np.abs(values))
    as_large = (drawn >= values - tolerance).sum(0)
    return np.where(np.isnan(values), np.nan, (1 + as_large) / (1 + len(drawn)))


def _studentised(every: _Array) -> _Array:
    """Each value in deviations from the mean of all that it is exchangeable with; 0 where these are the same."""
    deviation = every.std(0)
    varies = deviation > _ROUNDING * np.maximum(1, np.abs(every).max(0))
    steps: _Array = (every - every.mean(0)) / np.where(varies, deviation, 1.0)
    return np.where(varies | np.isnan(steps), steps, 0.0)


def _largest(values: _Array, axes: tuple[int, ...]) -> Any:
    """Largest defined value along some axes; NaN where there is none."""
    if not axes:
        return values
    most = np.max(np.where(np.isnan(values), -np.inf, values), axis=axes)
    return np.where(np.isinf(most), np.nan, most)
