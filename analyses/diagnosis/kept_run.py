"""A run as it stands: its networks, method and images, with the weights that it kept."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdprobe.config import RunConfig
from kdprobe.data import Batch, training_batches
from kdprobe.distillers import Progress, option_types
from kdprobe.errors import RunError
from kdprobe.formats.counts import counted
from kdprobe.models import load
from kdprobe.models.checkpoint import AUXILIARY, LAST, read_tensors
from kdprobe.runs.folder import RunFolder
from kdprobe.runtime.distributed import Ranks
from kdprobe.teachers.shuffling import next_on_circle
from kdprobe.teachers.stored_teacher import StoredTeacher
from kdprobe.teachers.teacher import Teacher
from kdprobe.terminal.progress import progress
from kdprobe.training.build import Job, build, data_of
from kdprobe.training.loop import Trainer
from kdprobe.training.places import require_inputs
from kdprobe.training.rehearsal import undone
from kdprobe.training.state import Position, restore_state
from kdprobe.user_code import trusting


class TrainingStep(NamedTuple):
    """One minibatch of the run's training, with all that its losses depend on.

    Attributes:
        batch: images as the training shows them.
        soft_labels: [B, C], of mixed images.
        progress: how far training is.
        others: places [B] of the images whose features of the teacher each image gets, with `teacher.shuffle`.
    """

    batch: Batch
    soft_labels: Tensor | None
    progress: Progress
    others: Tensor | None


@dataclass(frozen=True, eq=False)
class KeptRun:
    """A run that was built again.

    Attributes:
        folder: the run's.
        config: its configuration, but in float32, not compiled, and with a teacher that is asked anew.
        trainer: everything that changes in a training, as the run kept it.
        epoch: number of the epoch, from 0, whose minibatches are shown: the next one, or the last of a finished run.
        weights: which weights these are, in words.
        has_begun: whether they are others than those that it began with.
    """

    folder: RunFolder
    config: RunConfig
    trainer: Trainer
    epoch: int
    weights: str
    has_begun: bool

    @property
    def job(self) -> Job:
        """Networks, method and images."""
        return self.trainer.job

    @property
    def teacher(self) -> Teacher | None:
        """The teacher, which is asked anew."""
        teacher = self.job.teacher
        assert not isinstance(teacher, StoredTeacher)
        return teacher

    def steps(self, count: int) -> Iterator[TrainingStep]:
        """The first minibatches of the epoch, at most so many; the same ones each time."""
        trainer, seed = self.trainer, self.trainer.data_seed
        batches = training_batches(
            self.job.data.train,
            batch_size=self.config.training.batch_size,
            augment=self.config.data.augment,
            seed=seed,
            epoch=self.epoch,
            workers=0,
            device=trainer.group.device,
        )
        for number, batch in enumerate(islice(batches, count)):
            progress = Progress(self.epoch + number / trainer.n_steps, self.config.training.epochs)
            mixed, soft_labels = trainer.mixed(batch, Position(epoch=self.epoch, step=number))
            others = None
            if self.job.shuffles_teacher:
                others = next_on_circle(len(mixed.labels), seed, self.epoch, number, 0, 1)
            yield TrainingStep(mixed, soft_labels, progress, others)

    def counted_steps(self, count: int, label: str) -> Iterator[TrainingStep]:
        """The same, and what is done with them is shown as it goes on."""
        with progress(label, min(count, self.trainer.n_steps), unit="minibatches") as shown:
            for step in self.steps(count):
                yield step
                shown(1)

    def terms(self, step: TrainingStep) -> dict[str, Tensor]:
        """Named terms of the loss of a minibatch."""
        return self.trainer.losses(step.batch, step.soft_labels, step.progress, step.others)

    def unchanged(self) -> AbstractContextManager[None]:
        """Give networks, method and random numbers back what they had, whatever is done inside."""
        taught = [] if self.teacher is None else self.teacher.stages.modules()
        return undone([*self.job.objective.modules(), *taught], self.trainer.group.device)


def open_run(
    path: str | Path,
    device: torch.device,
    *,
    teacher: str | None = None,
    data: str | None = None,
    trust: Iterable[str] = (),
) -> KeptRun:
    """Build a run again; to be called inside `repeatable` with the run's seed, so that it begins as it began.

    Args:
        path: the run folder, which is only read.
        device: where to compute.
        teacher: where its teacher is now, if it has moved.
        data: where its images are now, likewise.
        trust: modules whose code the run may name.

    Raises:
        RunError: if it is no run folder, if what it learnt from is gone or has changed, or its state is damaged.
        KdprobeError: for anything in its configuration that cannot be used.
    """
    folder = RunFolder(Path(path))
    config = _plainly_computed(folder.config(option_types()), teacher=teacher, data=data)
    keeps = folder.begun or (folder.path / LAST).is_file()
    require_inputs(config, folder.path, begun=keeps, what="be diagnosed")
    group = Ranks(0, 1, device)
    with trusting(trust):
        named_by = folder.config_path
        images = data_of(config, named_by=None if data else named_by, decode=False)
        begun_as = folder.network() if keeps else None
        job = build(config, device, data=images, named_by=named_by, begun_as=begun_as)
    before = folder.inputs()
    named = {"teacher": config.teacher, "data": config.data.spec, "weights": config.model.weights}
    if before and (changes := before.changes(job.inputs, **named)):
        raise RunError(
            f"{folder.path} cannot be diagnosed: when it began, {'; '.join(changes)}; give what it learnt from"
        )
    trainer = Trainer(config.training, config.data, job, group, seed=config.seed)
    position, weights = _take_weights(folder, trainer)
    return KeptRun(folder, config, trainer, min(position.epoch, config.training.epochs - 1), weights, keeps)


def _plainly_computed(config: RunConfig, *, teacher: str | None, data: str | None) -> RunConfig:
    """The configuration in float32, not compiled, without a store of the teacher's outputs, and with what moved."""
    training = config.training.model_copy(update={"precision": "fp32", "compile": False})
    facts, images = config.teacher_facts, config.data
    if facts is not None:
        facts = facts.model_copy(update=dict.fromkeys(("store", "store_dtype", "store_outputs")))
    if data is not None:
        images = images.model_copy(update={"spec": data})
    changes = {"training": training, "teacher_facts": facts, "data": images}
    return config.model_copy(update=changes | ({} if teacher is None else {"teacher": teacher}))


def _take_weights(folder: RunFolder, trainer: Trainer) -> tuple[Position, str]:
    """Give networks and method what the run kept of them, and say what that is."""
    of_all = counted(trainer.settings.epochs, "epoch")
    if folder.begun:
        stateful = {name: one for name, one in trainer.stateful.items() if name in ("objective", "ema")}
        position, _ = restore_state(folder.state_path, stateful, n_images=trainer.n_images, random=False)
        inside = f" and {counted(position.step, 'step')} of the next one" if position.step else ""
        return position, f"those after {position.epoch} of {of_all}{inside}"
    if not (folder.path / LAST).is_file():
        return Position(), "those that it began with, as it kept no others"
    meta, _ = read_tensors(folder.path / LAST)
    epoch = int(meta.get("training", {}).get("epoch", 0))
    trainer.job.student.load_state_dict(load(folder.path, named_by=folder.config_path).state_dict())
    if (folder.path / AUXILIARY).is_file():
        trainer.job.method.load_state_dict(read_tensors(folder.path / AUXILIARY)[1])
    return Position(epoch=epoch), f"those after {epoch} of {of_all}, of its {LAST}"
