"""The training loop, from a configuration to a finished run folder."""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdprobe.config import RunConfig
from kdprobe.data import evaluation_batches, training_batches
from kdprobe.data.loaders import Batch, n_batches
from kdprobe.data.mixing import make_mixer, mix
from kdprobe.distillers import Progress
from kdprobe.errors import Diverged, RunError, WeightsLost
from kdprobe.models import Features, describe
from kdprobe.runs.folder import RunFolder
from kdprobe.runs.inputs import Inputs
from kdprobe.training.average import average_of
from kdprobe.training.build import Job, build, channels_last
from kdprobe.training.console import Watch
from kdprobe.training.distributed import Ranks, ranks
from kdprobe.training.evaluation import accuracy
from kdprobe.training.optimizer import make_optimizer, set_rate
from kdprobe.training.out_of_memory import out_of_memory_advice
from kdprobe.training.places import require_inputs
from kdprobe.training.precision import autocast, compiled, make_scaler, repeatable, warn_of_emulation, with_precision
from kdprobe.training.rehearsal import rehearse
from kdprobe.training.saving import Keeper
from kdprobe.training.schedule import rate_factor
from kdprobe.training.signals import StopRequest, stop_requests
from kdprobe.training.state import Position, Stateful
from kdprobe.training.undo import Values, keep, restore_unless
from kdprobe.user_code import trusting

_CHECK_EVERY = 20  # steps between looks at the device's count of bad steps


def train(
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    device: str = "auto",
    download: bool = False,
    quiet: bool = False,
    tensorboard: bool = False,
    trust: Iterable[str] = (),
    named_by: str | Path | None = None,
    inputs: Inputs | None = None,
) -> dict[str, Any]:
    """Train one network as configured and leave a run folder.

    Under `torchrun`, all processes train together and the first one writes.

    Args:
        config: what to do.
        out: the run folder; empty or absent, or with `resume` one that holds the same configuration.
        resume: continue where the run stopped; a finished run is left as it is.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        download: fetch a data set that is not there, where that can be done.
        quiet: no progress on standard error.
        tensorboard: write event files into the run folder too.
        trust: modules whose code files may name: the teacher's checkpoint, and `named_by`.
        named_by: the file that holds the configuration, if the person at the keyboard did not give it.
        inputs: which teacher and data these must be, by their content.

    Returns:
        the content of `result.json`.

    Raises:
        KdprobeError: for anything in the configuration that cannot be used, before anything is written.
        Stopped: on SIGINT or SIGTERM, after everything was saved.
    """
    with ranks(device) as group, repeatable(config.seed, group.device), stop_requests() as stop:
        folder, asked = RunFolder(Path(out)), config
        config = with_precision(asked, group, begun=folder.precision() if resume else None)
        if resume and folder.config_path.is_file():
            require_inputs(config, out, download=download)
        with trusting(trust), stop.at_once():
            job = build(config, group.device, download=download, named_by=named_by)
        if inputs and (changes := inputs.changes(job.inputs, teacher=config.teacher, data=config.data.spec)):
            raise RunError(f"{out} cannot be trained: before, {'; '.join(changes)}")
        watch = Watch(folder, config, quiet=quiet or not group.main, tensorboard=tensorboard and group.main)
        trainer = Trainer(config, job, folder, group, stop, watch)
        if group.main:
            folder.check_free(asked, resume=resume, inputs=job.inputs)
            if note := folder.check_inputs(job.inputs, asked):
                watch.say(note)
            for note in job.data.notes:
                watch.say(note)
        group.wait()
        if folder.finished:
            result = folder.result(("accuracy", "evaluated_on", "epochs", "seconds"))
            if group.main and (damage := folder.damage(hashed=True)):
                raise WeightsLost(f"{out} is finished, but {damage}; begin anew with another --out")
            return result
        try:
            if not resume:
                with stop.at_once():
                    rehearse(trainer)
                    group.wait()  # a process that fails here ends them all before the folder is taken
            if group.main:
                watch.say(f"computing in {config.training.precision} on {group.device}")
                warn_of_emulation(job.student, config.training.precision, group.device)
            with folder.held() if group.main else nullcontext():
                if group.main:
                    folder.claim(asked, resume=resume, precision=config.training.precision, inputs=job.inputs)
                    folder.keep_inputs(job.inputs)
                group.wait()
                return trainer.run(resume=resume)
        except torch.OutOfMemoryError as error:
            raise RunError(out_of_memory_advice(config, job.objective, group.device)) from error


class _Recent(NamedTuple):
    """One of the last steps, on the device.

    Attributes:
        finite: whether its loss was.
        terms: of the loss, summed over all images.
        images: this process's, by their places in the training split.
    """

    finite: Tensor
    terms: dict[str, Tensor]
    images: Tensor


class Trainer:
    """The state of one training, and its loop.

    Args:
        config: what to do.
        job: networks, data and losses.
        folder: claimed.
        group: this process among all.
        stop: set when somebody asks the run to stop.
        watch: shows and records what happens.
    """

    def __init__(
        self, config: RunConfig, job: Job, folder: RunFolder, group: Ranks, stop: StopRequest, watch: Watch
    ) -> None:
        self.config, self.job, self.group = config, job, group
        self.settings, self.device, self.watch = config.training, group.device, watch
        self.student, self.method, self.teacher = job.student, job.method, job.teacher
        self.info = describe(self.student)
        self.teacher_info = None if job.teacher is None else describe(job.teacher.model)
        self.optimizer = make_optimizer(config.training.optimizer, self.student, self.method)
        self.scaler = make_scaler(config.training.precision, self.device)
        self.mixer = make_mixer(
            config.training.mixing, n_classes=self.info.n_classes, label_smoothing=config.training.label_smoothing
        )
        self.ema = average_of(self.student, config.training.ema_decay)
        self.objective = compiled(group.wrap(job.objective, sync_bn=config.training.sync_bn), config.training.compile)
        self.parameters = [p for entry in self.optimizer.param_groups for p in entry["params"]]
        self.n_images = len(job.data.train)
        self.n_steps = n_batches(self.n_images, config.training.batch_size, group.world)
        self.layout = torch.channels_last if channels_last(config, self.device) else torch.contiguous_format
        self.cached_logits: Tensor | None = None
        self.recent: deque[_Recent] = deque(maxlen=self.settings.bad_steps + _CHECK_EVERY)
        self.asked = torch.zeros(2)
        parts: dict[str, Stateful] = {
            "objective": job.objective,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
        }
        if self.ema is not None:
            parts["ema"] = self.ema
        self.keeper = Keeper(config, job, folder, group, stop, watch, parts=parts, exported=self.exported)

    def run(self, *, resume: bool) -> dict[str, Any]:
        """Train the epochs that are left and write the result."""
        self.keeper.start()
        position = self.keeper.restore() if resume else Position(n_images=self.n_images)
        self.group.seed(self.config.seed, position.epoch, position.step)
        if self.settings.cache_teacher:
            with self.keeper.stop.at_once():
                self.cached_logits = self._all_teacher_logits()
        if position.epoch == position.step == 0:
            self.keeper.begin()
        try:
            while position.epoch < self.settings.epochs:
                self._train_epoch(position)
                if (found := self.accuracy()) is None:
                    raise self.keeper.stopped(position)
                self._end_epoch(position, *found)
            return self.keeper.finish(position)
        except Diverged as error:
            self.keeper.fail(error)
            raise

    def _train_epoch(self, position: Position) -> None:
        """Train what is left of the epoch that the position is in."""
        self.objective.train()
        start = time.perf_counter() - position.epoch_seconds
        batches = self.watch.progress(self._batches(position), position, self.n_images)
        # one of many processes must not leave the others alone: they stop together, see `_asked`
        for batch in self.keeper.stop.until(batches) if self.group.world == 1 else batches:
            progress = Progress(position.epoch + position.step / self.n_steps, self.settings.epochs)
            factor = rate_factor(self.settings.schedule, epoch=progress.epoch, n_epochs=self.settings.epochs)
            set_rate(self.optimizer, factor)
            buffers = keep(self.job.objective.buffers())
            terms = self._gradients(batch, progress, position)
            self._account(terms, batch, position)
            self._update(buffers)
            position.step += 1
            look = self.device.type == "cpu" or position.step % _CHECK_EVERY == 0
            if look:
                self._check_finite(position)
            stop, save = self._asked(look=look)
            if stop or save:
                position.epoch_seconds = time.perf_counter() - start
                self.keeper.save_inside(position, stop=stop)
        self._check_finite(position)
        position.epoch_seconds = time.perf_counter() - start

    def _gradients(self, batch: Batch, progress: Progress, position: Position) -> dict[str, Tensor]:
        """Gradients of student and auxiliary modules; returns the loss terms, means over this process's images."""
        self.optimizer.zero_grad(set_to_none=True)
        rank_share = self._rank_share(batch, position)
        batch, mixed = self._mixed(batch, position)
        parts = _parts(batch, mixed, self.settings.accumulate)
        terms: dict[str, Tensor] = {}
        for number, (part, shares) in enumerate(parts):
            share = len(part.labels) / len(batch.labels)
            synchronised = self.group.world == 1 or number == len(parts) - 1
            with nullcontext() if synchronised else self.objective.no_sync():  # type: ignore[operator]
                found = self._losses(part, shares, progress)
                loss = torch.stack(list(found.values())).sum() * (share * rank_share)
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            for name, value in found.items():
                terms[name] = terms.get(name, 0) + value.detach() * share
        return terms

    def _mixed(self, batch: Batch, position: Position) -> tuple[Batch, Tensor | None]:
        """This process's part of a batch, mixed if so configured, and then the classes' shares."""
        if self.mixer is None:
            return batch, None
        key = (self.config.seed, position.epoch, position.step, self.group.rank)
        images, shares = mix(self.mixer, batch.images, batch.labels, key=key)
        return Batch(images, shares.argmax(1), batch.index[: len(images)]), shares

    def _losses(self, batch: Batch, shares: Tensor | None, progress: Progress) -> dict[str, Tensor]:
        """Loss terms of one part of a batch, under autocast."""
        with autocast(self.settings.precision, self.device):
            images, shown, labels = self.method.inputs(batch)
            teacher = self._teach(shown, batch.index)
            prepared = self._prepared(images)
            if shares is not None and len(labels) != len(shares):
                shares = shares.repeat(len(labels) // len(shares), 1)
            terms: dict[str, Tensor] = self.objective(prepared, labels, teacher, progress, shares)[1]
        return terms

    def _update(self, buffers: Values) -> None:
        """One step of weights, statistics and average, left out on the device itself where the loss is not finite.

        Args:
            buffers: of networks and method, as they were before the step.
        """
        finite = self.recent[-1].finite
        restore_unless(finite, self.job.objective.buffers(), buffers)
        if self.settings.clip_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_grad_norm)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            # the fused optimizers read this flag, as torch's GradScaler sets it: no round trip to the host
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.step()
        if self.ema is not None:
            averages = [*self.ema.module.parameters(), *self.ema.module.buffers()]
            before = keep(averages)
            self.ema.update_parameters(self.student)
            restore_unless(finite, averages, before)

    @torch.no_grad()
    def _teach(self, images: Tensor, index: Tensor) -> Features | None:
        if self.teacher is None or self.teacher_info is None:
            return None
        if self.cached_logits is not None:
            return Features(logits=self.cached_logits[index])
        normal = self.teacher_info.normalise(images).contiguous(memory_format=self.layout)
        features: Features = self.teacher(normal)
        return features

    @torch.no_grad()
    def _all_teacher_logits(self) -> Tensor:
        """The teacher's logits of all training images, in order."""
        batches = evaluation_batches(
            self.job.data.train, batch_size=512, workers=self.config.data.workers, device=self.device
        )
        with autocast(self.settings.precision, self.device):
            found = [self._teach(batch.images, batch.index) for batch in batches]
        return torch.cat([features.logits for features in found if features is not None])

    def accuracy(self) -> tuple[float, int] | None:
        """Fraction of the evaluation images that the exported network gets right, and how many were skipped.

        None if the run is to stop meanwhile.
        """
        self.objective.eval()
        self.keeper.agree()
        return accuracy(
            self.exported,
            self.job.data.test,
            self._prepared,
            workers=self.config.data.workers,
            group=self.group,
            stop=self.keeper.stop,
        )

    @property
    def exported(self) -> nn.Module:
        """The student, or the average of its weights."""
        return self.student if self.ema is None else self.ema.module

    def _prepared(self, images: Tensor) -> Tensor:
        return self.info.normalise(images).contiguous(memory_format=self.layout)

    def _batches(self, position: Position) -> Iterator[Batch]:
        return training_batches(
            self.job.data.train,
            batch_size=self.settings.batch_size,
            augment=self.config.data.augment,
            seed=self.config.seed,
            epoch=position.epoch,
            workers=self.config.data.workers,
            device=self.device,
            start=position.step,
            shard=self.group.shard,
        )

    def _rank_share(self, batch: Batch, position: Position) -> float | Tensor:
        """What this process's mean counts in the batch's: 1 where all processes have equally many images."""
        if self.group.world == 1:
            return 1.0
        if self.config.data.skip_bad:
            mine = torch.tensor(float(len(batch.labels)), device=self.device)
            return mine * self.group.world / self.group.sum(mine.clone())
        size = self.settings.batch_size
        if position.step == self.n_steps - 1:
            size = self.n_images - (self.n_steps - 1) * size
        return len(batch.labels) * self.group.world / size

    def _account(self, terms: dict[str, Tensor], batch: Batch, position: Position) -> None:
        """Add up all processes' losses, images and wishes, in one exchange and without leaving the device."""
        values = torch.stack(list(terms.values())).double() * len(batch.labels)
        counts = [values.new_full((1,), n) for n in (len(batch.labels), batch.n_skipped, *self._wishes)]
        total = self.group.sum(torch.cat([values, *counts]))
        finite = torch.isfinite(total.sum())
        for name, value in zip(terms, torch.where(finite, total, 0), strict=False):
            position.sums[name] = position.sums[name].to(self.device) + value if name in position.sums else value
        position.n_summed = position.n_summed.to(self.device) + torch.where(finite, total[-4], 0)
        position.n_skipped = position.n_skipped + total[-3]
        position.bad_steps = torch.where(finite, 0, position.bad_steps.to(self.device) + 1)
        self.asked = total[-2:]
        self.recent.append(_Recent(finite, dict(zip(terms, total, strict=False)), batch.index))

    @property
    def _wishes(self) -> tuple[bool, bool]:
        """Whether this process was asked to stop, and whether it is time to save."""
        return self.keeper.stop.reason is not None, self.keeper.due

    def _asked(self, *, look: bool) -> tuple[bool, bool]:
        """The wishes of any process; many processes find out together, when they look at the device."""
        if self.group.world == 1:
            return self._wishes
        stop, save = self.asked.bool().tolist() if look else (False, False)
        return stop, save

    def _check_finite(self, position: Position) -> None:
        """Stop after too many bad steps, saying where and on which images the first of them was."""
        n_bad = int(position.bad_steps)
        if n_bad < self.settings.bad_steps:
            return
        first = self.recent[-min(n_bad, len(self.recent))]
        term = next(name for name, value in first.terms.items() if not math.isfinite(value))
        rate = self.optimizer.param_groups[0]["lr"]
        raise Diverged(
            f"the loss term {term!r} was not finite in {n_bad} steps in a row, up to step {position.step} of epoch "
            f"{position.epoch + 1}, at learning rate {rate:.3g}; images of the first one: "
            f"{', '.join(map(str, self.group.join(first.images)))}; the last checkpoint is whole"
        )

    def _end_epoch(self, position: Position, accuracy: float, n_unseen: int) -> None:
        """Record the epoch, save what is due, and move on to the next."""
        steps = position.step
        n_skipped = int(position.n_skipped)
        n_images = self.n_images - n_skipped
        n_summed = int(position.n_summed)
        losses = {name: float(value) / n_summed if n_summed else None for name, value in position.sums.items()}
        best = accuracy > position.best_accuracy
        if best:
            position.best_accuracy, position.best_epoch = accuracy, position.epoch + 1
        position.epoch, position.step, position.sums = position.epoch + 1, 0, {}
        position.n_summed, position.n_skipped = (torch.zeros_like(n) for n in (position.n_summed, position.n_skipped))
        seconds, position.epoch_seconds = position.epoch_seconds, 0.0
        position.seconds += seconds
        rate = self.optimizer.param_groups[0]["lr"]
        record = self.watch.epoch(position, losses, accuracy, seconds, rate=rate, n_images=n_images, steps=steps)
        if self.config.data.skip_bad:
            record |= self.watch.skipped(n_skipped + self.job.data.train.n_skipped, n_unseen)
        self.keeper.save_epoch(position, record, best=best)


def _parts(batch: Batch, shares: Tensor | None, count: int) -> list[tuple[Batch, Tensor | None]]:
    """A batch and the shares of its classes in parts of about equal size, none of a single image."""
    count = max(min(count, len(batch.labels) // 2), 1)
    if count == 1:
        return [(batch, shares)]
    fields = (batch.images, batch.labels, batch.index)
    parts = [Batch(*part) for part in zip(*(field.tensor_split(count) for field in fields), strict=True)]
    return list(zip(parts, [None] * count if shares is None else shares.tensor_split(count), strict=True))
