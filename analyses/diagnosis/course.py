"""How a run's loss went, from its log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray


@dataclass(frozen=True, eq=False)
class Course:
    """What was logged of E epochs.

    Attributes:
        epoch: their numbers [E].
        loss: mean training loss [E].
        rate: learning rate of the last step [E].
        terms: mean of each term [E], NaN where it is not logged.
        failure: why the run has no result, if its loss was not finite, without the images; empty otherwise.
    """

    epoch: ndarray
    loss: ndarray
    rate: ndarray
    terms: Mapping[str, ndarray]
    failure: str

    @property
    def change(self) -> float:
        """How much of the first epoch's loss is gone in the last, as a fraction; negative where it rose."""
        if len(self.loss) < 2 or not self.loss[0]:
            return float("nan")
        return float((self.loss[0] - self.loss[-1]) / abs(self.loss[0]))

    def words(self) -> str:
        """The course in a sentence."""
        if not len(self.loss):
            return "no epoch is logged" + (f"; {self.failure}" if self.failure else "")
        first, last, best = self.loss[0], self.loss[-1], int(self.loss.argmin())
        text = f"training loss {first:.4g} in epoch {self.epoch[0]}"
        if len(self.loss) > 1:
            text += f", {last:.4g} in epoch {self.epoch[-1]}"
        if best not in (0, len(self.loss) - 1):
            text += f", lowest in epoch {self.epoch[best]} ({self.loss[best]:.4g})"
        rates = f"{self.rate[0]:.3g} at first, {self.rate.max():.3g} at most, {self.rate[-1]:.3g} last"
        return f"{text}; learning rate {rates}"


def course_of(records: Sequence[Mapping[str, Any]], failure: str = "") -> Course:
    """The course of a run.

    Args:
        records: lines of `metrics.jsonl`.
        failure: the content of `failure.txt`.

    Example:
        >>> from analyses.diagnosis.course import course_of
        >>> course = course_of([{"epoch": e, "lr": 0.1, "loss": 2.0 / e, "terms": {"ce": 2.0 / e}} for e in (1, 2)])
        >>> course.change, course.words()
        (0.5, 'training loss 2 in epoch 1, 1 in epoch 2; learning rate 0.1 at first, 0.1 at most, 0.1 last')
    """
    names = dict.fromkeys(name for record in records for name in record["terms"])
    terms = {name: np.array([record["terms"].get(name, np.nan) for record in records], float) for name in names}
    epoch, loss, rate = ([record[key] for record in records] for key in ("epoch", "loss", "lr"))
    reason = " ".join(failure.split()).partition("; the images of this step")[0]
    return Course(np.array(epoch, np.int64), np.array(loss, float), np.array(rate, float), terms, reason)
