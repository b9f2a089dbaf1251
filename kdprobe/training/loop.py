"""The training loop: batch, teacher, student, loss, step, log.

`train` in `run.py` builds what is trained, claims the run folder, and hands both to `Trainer.run` here.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdprobe.config import DataConfig, TrainingConfig
from kdprobe.data import Split, training_batches
from kdprobe.data.loaders import Batch, n_batches
from kdprobe.data.mixing import make_mixer, mix
from kdprobe.devices import sending
from kdprobe.distillers import Progress
from kdprobe.errors import ConfigError
from kdprobe.models import model_info
from kdprobe.runtime.compiling import Compilation, compile_training
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.precision import autocast, check_scale, make_scaler
from kdprobe.runtime.signals import StopRequest
from kdprobe.teachers.shuffling import next_on_circle
from kdprobe.training.build import Job
from kdprobe.training.console import Watch
from kdprobe.training.freezing import frozen_in
from kdprobe.training.kept import Kept, keep
from kdprobe.training.objective import losses
from kdprobe.training.optimizer import average_of, make_optimizer, rate_factor, set_rate
from kdprobe.training.saving import Keeper
from kdprobe.training.state import Position, Stateful
from kdprobe.training.tally import Tally, accuracy, epoch_record, share_right

#: steps between looks at the sums on a device; a look waits for a GPU
_LOOK_EVERY = {"cpu": 1, "cuda": 20}


class _Piece(NamedTuple):
    """What is computed at a time: the whole batch, or with `training.accumulate` a piece of it.

    Attributes:
        batch: images, classes and places.
        soft_labels: [B, C], of mixed images.
        fraction: its images over those of the batch.
        is_last: the batch's gradients are complete after it.
        others: places [B] of the images whose features of the teacher each image gets, with `teacher.shuffle`.
    """

    batch: Batch
    soft_labels: Tensor | None
    fraction: float
    is_last: bool
    others: Tensor | None


class Trainer:
    """Everything that changes during a training, and the loop that changes it.

    Args:
        settings: the section `training`.
        data: the section `data`.
        job: networks, data set and losses.
        group: this process among all.
        seed: the run's; that of shuffling, augmentation and mixing too, unless the data have one of their own.
    """

    def __init__(self, settings: TrainingConfig, data: DataConfig, job: Job, group: Ranks, *, seed: int) -> None:
        self.settings, self.data, self.job, self.group, self.seed = settings, data, job, group, seed
        self.data_seed = data.seed_or(seed)
        self.n_images = len(job.data.train)
        self.n_steps = n_batches(self.n_images, settings.batch_size, group.world)
        if job.shuffles_teacher:
            _check_others(min(settings.batch_size, self.n_images), group.world)
        self.mixer = make_mixer(
            settings.mixing, n_classes=model_info(job.student).n_classes, label_smoothing=settings.label_smoothing
        )
        self.optimizer = make_optimizer(settings.optimizer, job.student, job.method)
        self.scaler = make_scaler(settings.precision, group.device)
        self.average = average_of(job.student, settings.ema_decay)
        self.tally = Tally(group)
        self.kept: Kept | None = None
        # without labels, what lies behind the features that a method reads is not trained
        self.objective = group.wrap(job.objective, sync_bn=settings.sync_bn, some_unused=not job.data.classes)
        self.compilation: Compilation | None = None
        if settings.compile:
            stages = [job.objective.student, *([] if job.teacher is None else [job.teacher.stages])]
            self.compilation = compile_training(
                self.objective, stages, group, is_static=job.method.is_static and not data.skip_bad
            )

    def run(self, position: Position, keeper: Keeper, watch: Watch) -> None:
        """Train the epochs that are left.

        Raises:
            Diverged: if a loss or a logit is not finite; nothing is saved after that.
            Stopped: if the run was asked to stop, after its state was saved.
        """
        self.group.seed(self.seed, position.epoch, position.step)
        start = time.perf_counter()
        with keeper.stop.at_once():
            self.kept = keep(self.job, self.settings, self.data, self.group, watch)
        if self.kept is not None:
            self.job.objective.head = self.kept.head
            watch.say(f"what enters {self.kept.head} is computed once, as everything before it is frozen")
            position.seconds += time.perf_counter() - start
        if position.epoch == position.step == 0:
            keeper.begin()
        while position.epoch < self.settings.epochs:
            self._train_epoch(position, keeper, watch)
            if (found := self._accuracy(position, keeper.stop)) is None:
                raise keeper.stopped(position)
            score, n_undecoded = found
            means, n_seen = self.tally.close(self.n_images)
            rate = self.optimizer.param_groups[0]["lr"]
            record = epoch_record(position, means, accuracy=score, rate=rate, n_images=n_seen)
            best = position.end_epoch(score)
            watch.epoch(record, position)
            if self.data.skip_bad:
                n_skipped = self.n_images - n_seen + self.job.data.train.n_skipped
                record |= watch.skipped(n_skipped, n_undecoded)
            keeper.save_epoch(position, record, best=best)

    def _train_epoch(self, position: Position, keeper: Keeper, watch: Watch) -> None:
        """Train what is left of the epoch that the position is in."""
        settings, tally, look_every = self.settings, self.tally, _LOOK_EVERY.get(self.group.device.type, 20)
        self.objective.train()
        start = time.perf_counter() - position.epoch_seconds
        batches = watch.progress(self._batches(position), position, self.n_images)
        # one of several processes must not leave the others alone: they stop together, by `tally.asked`
        for batch in keeper.stop.until(batches) if self.group.world == 1 else batches:
            done = position.epoch + position.step / self.n_steps
            progress = Progress(done, settings.epochs)
            rate = set_rate(self.optimizer, rate_factor(settings.schedule, done, settings.epochs))
            self.optimizer.zero_grad(set_to_none=True)
            weight = self._weight(batch, position)
            terms: dict[str, Tensor] = {}
            with self.running():
                for piece in self._pieces(batch, position):
                    with self.group.synchronising(self.objective, piece.is_last):
                        found = self.losses(piece.batch, piece.soft_labels, progress, piece.others)
                        loss = torch.stack(list(found.values())).sum() * (piece.fraction * weight)
                        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                    for name, value in found.items():
                        terms[name] = terms.get(name, 0) + value.detach() * piece.fraction
            position.step += 1
            tally.add(terms, batch, step=position.step, rate=rate, wishes=keeper.wishes)
            if look := position.step % look_every == 0:
                self._check(position)
            self._step()

            stop, save = tally.asked(look=look) if self.group.world > 1 else keeper.wishes
            if stop or save:
                self._check(position)
                self._agree()
                position.epoch_seconds = time.perf_counter() - start
                keeper.save_inside(position, stop=stop)
        self._check(position)
        position.epoch_seconds = time.perf_counter() - start

    def losses(
        self, batch: Batch, soft_labels: Tensor | None, progress: Progress, others: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms of the loss: the teacher first, then student and losses as one module."""
        job, kept = self.job, self.kept
        prepare = job.prepare if kept is None else lambda _: kept.train[batch.index]
        with autocast(self.settings.precision, self.group.device):
            if self.compilation is not None:
                progress = Progress(self.compilation.scalar(float(progress.epoch)), progress.n_epochs)
            taught = (job.method, job.teacher, batch, soft_labels, progress)
            return losses(self.objective, *taught, prepare=prepare, others=others)[1]

    def running(self) -> AbstractContextManager[None]:
        """The context of the networks' runs in a step."""
        return nullcontext() if self.compilation is None else self.compilation.step()

    def _step(self) -> None:
        """Change the weights and their average; in fp16 not the weights where scaled gradients overflow."""
        if self.settings.clip_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            parameters = [p for entry in self.optimizer.param_groups for p in entry["params"]]
            nn.utils.clip_grad_norm_(parameters, self.settings.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            with sending(self.group.device):
                self.average.update_parameters(self.job.student)

    def _check(self, position: Position) -> None:
        """Look at the losses since the last look; nothing is saved without one."""
        self.tally.check(position.epoch + 1)
        check_scale(self.scaler)

    def mixed(self, batch: Batch, position: Position) -> tuple[Batch, Tensor | None]:
        """A batch, mixed if so configured, and then its soft labels [B, C]."""
        if self.mixer is None:
            return batch, None
        key = (self.data_seed, position.epoch, position.step, self.group.rank)
        images, soft_labels = mix(self.mixer, batch.images, batch.labels, key=key)
        return Batch(images, soft_labels.argmax(1), batch.index[: len(images)], among=batch.among), soft_labels

    def _pieces(self, batch: Batch, position: Position) -> Iterator[_Piece]:
        """A batch, mixed if so configured, in pieces of about equal size, none of a single image."""
        batch, soft_labels = self.mixed(batch, position)
        count = max(min(self.settings.accumulate, len(batch.labels) // 2), 1)
        for number, places in enumerate(torch.arange(len(batch.labels)).tensor_split(count), start=1):
            piece = slice(int(places[0]), int(places[-1]) + 1)
            soft = None if soft_labels is None else soft_labels[piece]
            others, key = None, (self.data_seed, position.epoch, position.step, self.group.rank, number)
            if self.job.shuffles_teacher:
                others = next_on_circle(len(places), *key)
            share = len(places) / len(batch.labels)
            yield _Piece(batch.take(piece), soft, share, is_last=number == count, others=others)

    def _weight(self, batch: Batch, position: Position) -> float | Tensor:
        """What the mean over this process's images counts in the gradient."""
        if self.data.skip_bad:
            return self.group.weight(len(batch.labels))
        is_last = position.step == self.n_steps - 1
        size = self.n_images - (self.n_steps - 1) * self.settings.batch_size if is_last else self.settings.batch_size
        return self.group.weight(len(batch.labels), size)

    def _batches(self, position: Position) -> Iterator[Batch]:
        return training_batches(
            self.train,
            batch_size=self.settings.batch_size,
            augment=self.data.augment,
            seed=self.data_seed,
            epoch=position.epoch,
            workers=self.data.workers,
            device=self.group.device,
            start=position.step,
            shard=self.group.shard,
            pixels=self.kept is None or self.job.teacher is not None,
        )

    def _accuracy(self, position: Position, stop: StopRequest) -> tuple[float | None, int] | None:
        """Fraction of the evaluation images that the exported network gets right, and how many were skipped.

        The fraction is None where there are no labels, and after an epoch that is not judged. All is None if the run is
        asked to stop before that is known.
        """
        self.objective.eval()
        self._agree()
        is_judged = self.settings.evaluate == "epochs" or position.epoch + 1 == self.settings.epochs
        if not self.job.data.classes or not is_judged:
            return None, 0
        split, workers = self.test, self.data.workers
        if self.kept is not None:
            return share_right(self.kept.answers(self.exported), split, group=self.group, stop=stop)
        return accuracy(self.exported, split, self.job.prepare, workers=workers, group=self.group, stop=stop)

    def _agree(self) -> None:
        """Make networks and methods of all processes the same; their weights are already."""
        self.job.method.agree(self.group.join)
        for module, network in ((self.job.objective, self.job.student), (self.average, self.exported)):
            if module is not None:
                self.group.average_statistics(module, but=frozen_in(network, self.job.objective.frozen))

    @cached_property
    def train(self) -> Split:
        """The training images, on the device where they are in memory and need no work of the CPU."""
        split = self.job.data.train
        return split if self.data.augment.rand_augment else split.on(self.group.device)

    @cached_property
    def test(self) -> Split:
        """The evaluation images, likewise."""
        return self.job.data.test.on(self.group.device)

    @property
    def exported(self) -> nn.Module:
        """The network that is evaluated and saved: the student, or the average of its weights."""
        return self.job.student if self.average is None else self.average.module

    @property
    def stateful(self) -> dict[str, Stateful]:
        """Everything with a state, by its name in `state.pt`."""
        found: dict[str, Stateful] = {
            "objective": self.job.objective,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
            "tally": self.tally,
        }
        return found if self.average is None else {**found, "ema": self.average}


def _check_others(n_images: int, world: int) -> None:
    if n_images < 2 * world:
        raise ConfigError(
            "teacher.shuffle=true gives each image the answers of another one of its batch, but batches have "
            f"{n_images / world:.3g} images per process; set training.batch_size to {2 * world} or more"
        )
