"""What a comparison takes, before it begins: trainings, hours of a device by a few timed steps, and disk."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from kdprobe.config import RunConfig, parse
from kdprobe.data import DataSet, evaluation_batches, training_batches
from kdprobe.distillers import Progress, option_types
from kdprobe.formats.counts import counted
from kdprobe.models.creation import count_parameters
from kdprobe.runtime.distributed import Ranks, ranks
from kdprobe.runtime.precision import repeatable, with_precision
from kdprobe.sweeps.cells import with_values
from kdprobe.teachers.entries import EntryType
from kdprobe.teachers.store import STORE_LASTS, store_bytes
from kdprobe.teachers.stored_teacher import StoredTeacher
from kdprobe.terminal import worded_bytes
from kdprobe.terminal.progress import worded_time
from kdprobe.training.build import build, data_of
from kdprobe.training.loop import Trainer
from kdprobe.tuning.plan import Contender, Plan

_STEPS = 4  # of which the first is not counted
_JUDGED = 256  # images that a timed evaluation takes at most
_MOMENTS = {"sgd": 1, "adam": 2, "adamw": 2}  # numbers that an optimizer keeps for each parameter
_STATES = 2  # generations that a run folder keeps


@dataclass(frozen=True)
class Pace:
    """How fast one method trains, and what a run of it leaves.

    Attributes:
        training: seconds for each training image, the teacher's part included.
        judging: seconds for each evaluation image.
        n_bytes: size of a run folder.
        kept: what a `teacher.store` keeps of each view.
    """

    training: float
    judging: float
    n_bytes: int
    kept: Mapping[str, EntryType] = field(default_factory=dict)


@dataclass(frozen=True)
class Budget:
    """What a comparison takes.

    Attributes:
        plan: the comparison.
        paces: by the methods' names.
        n_train: training images of a final training.
        n_test: test images.
        n_trial: training images of a trial.
        n_held_out: images that trials are judged on.
        device: what was timed.
    """

    plan: Plan
    paces: dict[str, Pace]
    n_train: int
    n_test: int
    n_trial: int
    n_held_out: int
    device: str

    @property
    def n_finals(self) -> int:
        """Final trainings of each method, at most: as published and as chosen may turn out to be the same."""
        return self.plan.n_seeds * (2 if self.plan.published else 1)

    @property
    def store_bytes(self) -> int:
        """Room that a `teacher.store` takes when it is full, 0 without one.

        Trials and final trainings see different images, and seeds the same views only if the data have a seed.
        """
        plan, kept = self.plan, {name: entry for pace in self.paces.values() for name, entry in pace.kept.items()}
        n_seeds = plan.n_seeds if plan.config.data.seed is None else 1
        n_trained = ((1, self.n_trial, plan.trial_config), (n_seeds, self.n_train, plan.final_config))
        return sum(
            times * store_bytes(kept, n_images * config.data.augment.repeats, StoredTeacher.epochs_of(config))
            for times, n_images, config in n_trained
        )

    def trial_seconds(self, name: str) -> float:
        """Seconds of one trial of a method."""
        training, pace = self.plan.trial_config.training, self.paces[name]
        return training.epochs * self.n_trial * pace.training + self.n_held_out * pace.judging

    def final_seconds(self, name: str) -> float:
        """Seconds of one final training of a method."""
        pace = self.paces[name]
        return self.plan.config.training.epochs * self.n_train * pace.training + self.n_test * pace.judging

    def seconds(self, name: str) -> float:
        """Seconds of everything that is trained for a method."""
        return self.plan.n_trials * self.trial_seconds(name) + self.n_finals * self.final_seconds(name)


def estimate(plan: Plan, device: str) -> Budget:
    """Time a few steps of each method, and write nothing.

    Args:
        plan: the comparison.
        device: `auto`, `cpu`, `cuda`, ...

    Raises:
        KdprobeError: if a method is not defined for the networks, and the like.
    """
    with ranks(device) as group:
        data, trials = data_of(plan.final_config), data_of(plan.trial_config, decode=False)
        paces = {one.name: _pace(_config_of(plan, one), data, group) for one in plan.contenders}
    final, trial = ((len(one.train), len(one.test)) for one in (data, trials))
    return Budget(plan, paces, *final, *trial, str(group.device))


def budget_lines(budget: Budget, folder: Path) -> Iterator[str]:
    """The budget in lines for a person."""
    plan, names = budget.plan, list(budget.paces)
    n_trials, n_finals = plan.n_trials * len(names), budget.n_finals * len(names)
    lengths = [counted(config.training.epochs, "epoch") for config in (plan.trial_config, plan.final_config)]
    yield (
        f"{counted(n_trials, 'trial')} of {lengths[0]} on {budget.n_trial:,} images, judged on "
        f"{budget.n_held_out:,} held-out ones; then {counted(n_finals, 'final training')} of {lengths[1]} on "
        f"{budget.n_train:,} images, tested once on {budget.n_test:,}"
    )
    width = max(map(len, ("method", *names)))
    yield f"{'method':<{width}}  images/s  one trial  final training  all"
    for name, pace in budget.paces.items():
        times = [worded_time(time(name)) for time in (budget.trial_seconds, budget.final_seconds, budget.seconds)]
        yield f"{name:<{width}}  {1 / pace.training:>8,.0f}  {times[0]:>9}  {times[1]:>14}  {times[2]}"
    total = sum(map(budget.seconds, names))
    size = sum(pace.n_bytes * (plan.n_trials + budget.n_finals) for pace in budget.paces.values())
    yield (
        f"in all {total / 3600:.2f} hours of one device ({budget.device}) by {_STEPS - 1} timed steps of each method, "
        f"without what a teacher.store saves; {worded_bytes(size)} in {folder}"
    )
    if room := budget.store_bytes:
        facts = plan.config.teacher_facts
        assert facts is not None
        yield f"teacher.store {facts.store}: {worded_bytes(room)} when it is full; {STORE_LASTS}"


def _config_of(plan: Plan, contender: Contender) -> RunConfig:
    """A final training of a method, as published."""
    values = contender.cell(plan.settings(contender)[0], 0)
    config = with_values(plan.final_config.model_dump(mode="json"), values)
    return parse(config, option_types(), source=f"method {contender.name}")


def _pace(config: RunConfig, data: DataSet, group: Ranks) -> Pace:
    config = with_precision(config, group)
    with repeatable(config.seed, group.device):
        job = build(config, group.device, data=data)
        trainer = Trainer(config.training, config.data, job, group, seed=config.seed)
        size = config.training.batch_size
        batches = training_batches(
            trainer.train,
            batch_size=size,
            augment=config.data.augment,
            seed=config.seed,
            epoch=0,
            workers=config.data.workers,
            device=group.device,
        )
        seconds, start = [], time.perf_counter()
        trainer.objective.train()
        for batch in islice(batches, _STEPS):
            with trainer.running():
                terms = trainer.losses(batch, None, Progress(0.0, config.training.epochs))
                torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
            trainer.optimizer.step()
            trainer.optimizer.zero_grad(set_to_none=True)
            _finished(group.device)
            seconds.append((time.perf_counter() - start) / len(batch.labels))
            start = time.perf_counter()
        kept = job.teacher.entries(group) if isinstance(job.teacher, StoredTeacher) else {}
        return Pace(median(seconds[1:] or seconds), _judging(trainer), _size(config, trainer), kept)


def _judging(trainer: Trainer) -> float:
    job, device = trainer.job, trainer.group.device
    split = job.data.test.take(torch.arange(min(_JUDGED, len(job.data.test))))
    trainer.objective.eval()
    start, n_images = time.perf_counter(), 0
    with torch.no_grad():
        for batch in evaluation_batches(split, batch_size=_JUDGED, workers=0, device=device):
            trainer.exported(job.prepare(batch.images))
            n_images += len(batch.labels)
    _finished(device)
    return (time.perf_counter() - start) / max(n_images, 1)


def _size(config: RunConfig, trainer: Trainer) -> int:
    """Bytes of a run folder: two checkpoints, the method's own modules, and two states."""
    student, own = count_parameters(trainer.job.student), count_parameters(trainer.job.method)
    moments = _MOMENTS[config.training.optimizer.name]
    numbers = 2 * student + own + _STATES * (student + own) * (1 + moments)
    return 4 * numbers


def _finished(device: torch.device) -> None:
    """Wait for a device that computes by itself."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
