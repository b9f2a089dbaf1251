"""The quantities of a network, or of a method's networks together, beside the teacher, each with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from analyses.fidelity.intervals import consistency_interval, kappa_interval, skewed_mean
from analyses.fidelity.lineage import Lineage
from analyses.fidelity.quantities import BOTH_WRONG, BY_CHANCE, DIVERGENCE, LIMITS, RIGHT, ROUNDING, SAME_RIGHT, Answers
from analyses.fidelity.seeds import Spread, with_seeds
from analyses.fidelity.together import Together
from kdprobe.mean_interval import wilson, within

_SHARES = 5  # the first of the quantities


@dataclass(frozen=True, eq=False)
class Measured:
    """A network's answers beside the teacher's, and what follows from them.

    Attributes:
        lineage: where it comes from.
        answers: its answers and the teacher's.
        values: each quantity with its interval over images [q, 3].
    """

    lineage: Lineage
    answers: Answers
    values: Float64[ndarray, "q 3"]


def measure_answers(of_seeds: Sequence[Answers], *, confidence: float = 0.95, seed: int = 0) -> Float64[ndarray, "q 3"]:
    """All quantities of a method's networks with their intervals: over images, and over seeds if there are several.

    Args:
        of_seeds: each network's answers and the teacher's; of a single one the interval is over images.
        confidence: of the intervals.
        seed: of the draws behind the interval of error consistency.

    Returns:
        value, low, high of each, within the range of the quantity; NaN where it is not defined.
    """
    together = Together(of_seeds)
    ends = over_images(together, confidence=confidence, seed=seed)
    return with_seeds(ends, Spread.of(together.by_seed()).square(confidence), LIMITS)


def over_images(together: Together, *, confidence: float, seed: int) -> Float64[ndarray, "q 3"]:
    """All quantities with their intervals over images, as if the networks were the only ones that there are.

    Networks that do not err on the same images count for more images than one network does.

    Args:
        together: the answers.
        confidence: of the intervals.
        seed: of the draws behind the interval of error consistency.
    """
    columns, values = together.columns.mean(0), together.values
    means, teacher = columns.mean(0), float(together.right.mean())
    by_image = together.by_image()
    of_mean = np.square(by_image.mean(0)).mean(0)
    varies = of_mean > ROUNDING**2
    gained = np.where(varies, np.square(by_image).mean((0, 1)) / np.where(varies, of_mean, 1.0), 1.0)
    images = together.counts()[:_SHARES] * gained[:_SHARES]
    shares = np.where(images > 0, values[:_SHARES], 0.0)
    both, own, wrong = means[SAME_RIGHT], means[RIGHT], means[BOTH_WRONG]
    table = np.array([[both, teacher - both], [own - both, wrong]]).clip(0) * len(columns) * gained[6]
    ends = [
        *wilson(np.stack([shares, 1 - shares], axis=1) * images[:, None], confidence=confidence),
        kappa_interval(float(values[1]), float(means[BY_CHANCE]), by_image.mean(0)[:, _SHARES], confidence=confidence),
        consistency_interval(table, float(values[6]), confidence=confidence, seed=seed),
        skewed_mean(columns[:, DIVERGENCE], confidence=confidence),
    ]
    return within(np.stack(ends), LIMITS)
