"""The quantities of one network beside its teacher, each with its interval over images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from analyses.evaluation.divergence import MOST
from analyses.fidelity.intervals import consistency_interval, kappa_interval, skewed_mean
from analyses.fidelity.lineage import Lineage
from analyses.fidelity.quantities import BY_CHANCE, DIVERGENCE, RIGHT, SAME, Answers
from kdprobe.mean_interval import wilson


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


def measure_answers(answers: Answers, lineage: Lineage, confidence: float, seed: int) -> Measured:
    """All quantities of a network with their intervals over images.

    Args:
        answers: its answers and the teacher's.
        lineage: where it comes from.
        confidence: of the intervals.
        seed: of the draws behind the interval of error consistency.
    """
    columns, right, values = answers.columns, answers.right, answers.values
    influences = answers.influences()
    own = columns[:, RIGHT] > 0
    among = {"accuracy": (own, right | True), "agreement": (columns[:, SAME] > 0, right | True)}
    among |= {"agreement_right": (columns[:, SAME] > 0, right), "agreement_wrong": (columns[:, SAME] > 0, ~right)}
    among |= {"same_error": (columns[:, SAME] > 0, ~right & ~own)}
    tallies = np.array([(int((yes & of).sum()), int((~yes & of).sum())) for yes, of in among.values()])
    table = np.array([(right & own).sum(), (right & ~own).sum(), (~right & own).sum(), (~right & ~own).sum()])
    kappa = kappa_interval(
        float(values[1]), float(columns[:, BY_CHANCE].mean()), influences[:, 5], confidence=confidence
    )
    ends = [
        *wilson(tallies, confidence=confidence),
        kappa,
        consistency_interval(table.reshape(2, 2), float(values[6]), confidence=confidence, seed=seed),
        np.clip(skewed_mean(columns[:, DIVERGENCE], confidence=confidence), 0.0, MOST),
    ]
    return Measured(lineage, answers, np.stack(ends))
