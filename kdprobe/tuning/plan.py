"""What a comparison trains: the trials of each method, and then the chosen settings with several seeds.

Trial 0 is the published setting. The others are the points of one scrambled Sobol sequence, the same for all methods:
its first dimension is the learning rate, so that trial i has the same one for each method, and those after it are the
method's own options. More trials go on with the same sequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.stats.qmc import Sobol

from kdprobe.config import RunConfig, ScheduleConfig
from kdprobe.distillers.search import LogUniform, SearchRange
from kdprobe.errors import ConfigError
from kdprobe.sweeps.cells import Settings

RATE = "training.optimizer.lr"
DIMENSIONS = 16  # of the sequence, whatever the methods tune: a point does not change with the company it is in
_SEED = 0
_LOWEST, _HIGHEST = 0.1, 3.0  # of the learning rates, as factors of the recipe's


@dataclass(frozen=True)
class Contender:
    """A method that takes part.

    Attributes:
        name: what it is called in the comparison.
        method: the method's name.
        fixed: options of the method that are the same in each trial, as the recipe gives them.
        published: the options that are tuned, with their values in trial 0.
        search: their ranges; None for an option that is not tuned, but has its place in the sequence.
        uses_teacher: whether it learns from the teacher.
        source: where its default weights come from.
    """

    name: str
    method: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, SearchRange | None] = field(default_factory=dict)
    uses_teacher: bool = True
    source: str = ""

    def settings(self, n_trials: int, rate: float) -> list[Settings]:
        """What is tuned, as dotted keys and values: the learning rate first, then options.

        Args:
            n_trials: how many settings.
            rate: the recipe's learning rate.
        """
        ranges: dict[str, SearchRange | None] = {RATE: rates_around(rate)}
        ranges |= {f"method.{option}": span for option, span in self.search.items()}
        if len(ranges) > DIMENSIONS:
            raise ConfigError(
                f"{self.name} asks for {len(self.search)} options to be tuned, but at most {DIMENSIONS - 1} can be"
            )
        found: list[Settings] = [{RATE: rate, **{f"method.{key}": value for key, value in self.published.items()}}]
        for point in points(n_trials - 1):
            where = zip(ranges.items(), point, strict=False)
            found.append({key: _rounded(span.at(float(place))) for (key, span), place in where if span is not None})
        return found

    def cell(self, settings: Settings, seed: int) -> Settings:
        """The values of a sweep's cell: the method, its options, what is tuned, and the seed."""
        alone: Settings = {} if self.uses_teacher else {"teacher": None, "teacher_facts": None}
        options = {f"method.{key}": value for key, value in self.fixed.items()}
        return {"method.name": self.method, **alone, **options, **settings, "seed": seed}


@dataclass(frozen=True)
class Plan:
    """A whole comparison.

    Attributes:
        contenders: the methods.
        config: what all trainings share, without a method.
        n_trials: settings that are tried for each method.
        n_seeds: trainings of each chosen setting.
        holdout: fraction of the training images that trials are judged on.
        trial_epochs: fraction of the epochs that a trial is trained for.
        published: whether the published setting is trained anew and tested too.
    """

    contenders: Sequence[Contender]
    config: RunConfig
    n_trials: int
    n_seeds: int
    holdout: float = 0.2
    trial_epochs: float = 1.0
    published: bool = False

    @property
    def trial_config(self) -> RunConfig:
        """What all trials share: they are judged on held-out images, once, and may be shorter."""
        training = self.config.training
        epochs = max(1, round(self.trial_epochs * training.epochs))
        schedule = shortened(training.schedule, epochs / training.epochs)
        return self.config.model_copy(
            update={
                "data": self.config.data.model_copy(update={"holdout": self.holdout}),
                "training": training.model_copy(update={"epochs": epochs, "schedule": schedule, "evaluate": "end"}),
            }
        )

    @property
    def final_config(self) -> RunConfig:
        """What all final trainings share: they learn from all training images, and are tested once, at the end."""
        return self.config.model_copy(
            update={
                "data": self.config.data.model_copy(update={"holdout": 0.0}),
                "training": self.config.training.model_copy(update={"evaluate": "end"}),
            }
        )

    def settings(self, contender: Contender) -> list[Settings]:
        """What is tuned in each trial of a method."""
        return contender.settings(self.n_trials, self.config.training.optimizer.lr)

    def trials(self, contender: Contender) -> list[Settings]:
        """The cells of a method's trials, in their order."""
        return [contender.cell(settings, 0) for settings in self.settings(contender)]

    def finals(self, contender: Contender, settings: Settings) -> list[Settings]:
        """The cells of a method's final trainings, by their seeds."""
        return [contender.cell(settings, seed) for seed in range(self.n_seeds)]


def points(count: int) -> Float64[ndarray, "points dimensions"]:
    """The first points of the sequence, in [0, 1); those of a shorter sequence begin a longer one.

    Reference:
        Owen (1998), Scrambling Sobol' and Niederreiter-Xing points.
    """
    if count < 1:
        return np.empty((0, DIMENSIONS))
    found: ndarray = Sobol(DIMENSIONS, scramble=True, seed=_SEED).random_base2((count - 1).bit_length())
    return found[:count]


def rates_around(rate: float) -> LogUniform:
    """The range of learning rates: from a tenth of the recipe's to three times as much.

    It reaches further down than up, because a recipe's rate is often near the largest that does not diverge.
    """
    return LogUniform(_LOWEST * rate, _HIGHEST * rate)


def shortened(schedule: ScheduleConfig, fraction: float) -> ScheduleConfig:
    """A schedule whose epochs, of milestones and warm-up, are a fraction of what they were."""
    warmup = schedule.warmup_epochs
    return schedule.model_copy(
        update={
            "milestones": tuple(round(fraction * epoch) for epoch in schedule.milestones),
            "warmup_epochs": None if warmup is None else fraction * warmup,
        }
    )


def _rounded(value: Any) -> Any:
    """Four digits are more than a setting needs, and the same on every machine."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
