"""The training loop, from a configuration to a finished run folder."""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from kdprobe.config import RunConfig
from kdprobe.data import DataSet, evaluation_batches, load_data, training_batches
from kdprobe.data.loaders import Batch, n_batches
from kdprobe.devices import pick_device
from kdprobe.distillers import DISTILLERS, Method, Progress, option_types
from kdprobe.errors import ModelError, RunError
from kdprobe.models import Features, Stages, create, describe, load
from kdprobe.models.checkpoint import AUXILIARY, BEST, LAST, save, save_tensors
from kdprobe.models.create import count_parameters, relabel
from kdprobe.models.stages import measure
from kdprobe.runs import RunFolder
from kdprobe.training.objective import Objective
from kdprobe.training.optimizer import make_optimizer, set_rate
from kdprobe.training.precision import autocast, repeatable
from kdprobe.training.schedule import rate_factor
from kdprobe.training.state import Reached, restore_state, save_state


def train(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    download: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train one network as configured and leave a run folder.

    Args:
        config: what to do.
        out: the run folder; empty or absent, or with `resume` one that holds the same configuration.
        resume: continue where the run stopped; a finished run is left as it is.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        download: fetch a data set that is not there, where that can be done.
        quiet: no progress on standard error.

    Returns:
        the content of `result.json`.

    Raises:
        KdprobeError: for anything in the configuration that cannot be used, before anything is written.
    """
    chosen = pick_device(device)
    data = load_data(
        config.data.spec,
        image_size=config.data.image_size,
        storage=config.data.storage,
        holdout=config.data.holdout,
        seed=config.seed,
        download=download,
        augment=config.data.augment,
    )
    with repeatable(config.seed, chosen):
        student = _student(config, data).to(chosen)
        teacher = _teacher(config, student, chosen)
        method = _method(config, student, teacher).to(chosen)
        objective = Objective(student, method, label_smoothing=config.training.label_smoothing)
        optimizer = make_optimizer(config.training.optimizer, student, method)
        folder = RunFolder(out)
        folder.claim(config, resume=resume)
        if folder.finished:
            return folder.result()
        trainer = Trainer(config, data, objective, teacher, optimizer, folder, chosen, quiet=quiet)
        return trainer.run(resume=resume)


class Trainer:
    """The state of one training, and its loop."""

    def __init__(
        self,
        config: RunConfig,
        data: DataSet,
        objective: Objective,
        teacher: nn.Module | None,
        optimizer: Optimizer,
        folder: RunFolder,
        device: torch.device,
        *,
        quiet: bool,
    ) -> None:
        self.config, self.data, self.folder, self.device = config, data, folder, device
        self.objective, self.optimizer, self.quiet = objective, optimizer, quiet
        self.student, self.method = objective.student.model, objective.method
        self.info = describe(self.student)
        self.teacher = None if teacher is None else Stages(teacher, needs=self.method.teacher_needs)
        self.teacher_info = None if teacher is None else describe(teacher)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.n_steps = n_batches(len(data.train), config.training.batch_size)
        if config.training.channels_last:
            objective.to(memory_format=torch.channels_last)
            if teacher is not None:
                teacher.to(memory_format=torch.channels_last)

    def run(self, *, resume: bool) -> dict[str, Any]:
        """Train the epochs that are left, saving after each, and write the result."""
        reached, n_epochs = Reached(), self.config.training.epochs
        if resume and self.folder.state_path.is_file():
            reached = restore_state(self.folder.state_path, self.objective, self.optimizer)
            self.folder.keep_metrics(reached.epoch)
        for epoch in range(reached.epoch, n_epochs):
            start = time.perf_counter()
            losses = self._train_epoch(epoch)
            seconds = time.perf_counter() - start
            accuracy = self.accuracy()
            record = self._record(epoch, losses, accuracy, seconds)
            best = accuracy > reached.best_accuracy
            reached = Reached(
                epoch=epoch + 1,
                best_accuracy=max(accuracy, reached.best_accuracy),
                best_epoch=epoch + 1 if best else reached.best_epoch,
                seconds=reached.seconds + seconds,
            )
            self._save(record, reached, best=best)
        return self._finish(reached)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training images; returns the mean of each loss term."""
        self.objective.train()
        sums: dict[str, Tensor] = {}
        settings = self.config.training
        for step, batch in enumerate(self._progress(self._batches(epoch), epoch)):
            progress = Progress(epoch + step / self.n_steps, settings.epochs)
            set_rate(self.optimizer, rate_factor(settings.schedule, epoch=progress.epoch, n_epochs=settings.epochs))
            terms = self._step(batch, progress)
            for name, value in terms.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value.detach() * len(batch.labels)
        means = {name: float(total) / len(self.data.train) for name, total in sums.items()}
        _check_finite(means, epoch, self.optimizer)
        return means

    def _step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """One update of student and auxiliary modules; returns the loss terms."""
        with autocast(self.config.training.precision, self.device):
            images, shown, labels = self.method.inputs(batch)
            teacher = self._teach(shown)
            terms: dict[str, Tensor] = self.objective(self._prepared(images), labels, teacher, progress)[1]
        loss = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.training.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.config.training.clip_grad_norm)
        self.optimizer.step()
        return terms

    @torch.no_grad()
    def _teach(self, images: Tensor) -> Features | None:
        if self.teacher is None or self.teacher_info is None:
            return None
        features: Features = self.teacher(self._laid_out(self.teacher_info.normalise(images)))
        return features

    @torch.no_grad()
    def accuracy(self) -> float:
        """Fraction of the evaluation images that the student classifies correctly, in eval mode."""
        self.objective.eval()
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        settings = self.config.data
        for batch in evaluation_batches(self.data.test, batch_size=512, workers=settings.workers, device=self.device):
            with autocast(self.config.training.precision, self.device):
                logits = self.student(self._prepared(batch.images))
            correct += (logits.argmax(1) == batch.labels).sum()
        return int(correct) / len(self.data.test)

    def _prepared(self, images: Tensor) -> Tensor:
        return self._laid_out(self.info.normalise(images))

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.config.training.channels_last else images

    def _batches(self, epoch: int) -> Iterator[Batch]:
        config = self.config
        return training_batches(
            self.data.train,
            batch_size=config.training.batch_size,
            augment=config.data.augment,
            seed=config.seed,
            epoch=epoch,
            workers=config.data.workers,
            device=self.device,
        )

    def _progress(self, batches: Iterator[Batch], epoch: int) -> Iterator[Batch]:
        label = f"epoch {epoch + 1}/{self.config.training.epochs}"
        hidden = self.quiet or not sys.stderr.isatty()
        with tqdm(total=len(self.data.train), desc=label, unit="img", leave=False, disable=hidden) as bar:
            for batch in batches:
                yield batch
                bar.update(len(batch.labels))

    def _record(self, epoch: int, losses: dict[str, float], accuracy: float, seconds: float) -> dict[str, Any]:
        loss, speed = sum(losses.values()), len(self.data.train) / seconds
        if not self.quiet:
            left = (self.config.training.epochs - epoch - 1) * seconds
            print(
                f"epoch {epoch + 1}/{self.config.training.epochs}  loss {loss:.3f}  accuracy {accuracy:.4f}"
                f"  {speed:,.0f} images/s  {left:.0f} s left",
                file=sys.stderr,
            )
        rate = self.optimizer.param_groups[0]["lr"]
        return {
            "epoch": epoch + 1,
            "lr": rate,
            "loss": loss,
            "terms": losses,
            "accuracy": accuracy,
            "seconds": round(seconds, 3),
            "images_per_second": round(speed, 1),
        }

    def _save(self, record: dict[str, Any], reached: Reached, *, best: bool) -> None:
        training = {"epoch": reached.epoch, "accuracy": record["accuracy"]}
        self.folder.append_metrics(record)
        save(self.student, self.folder.path / LAST, training=training)
        if best:
            save(self.student, self.folder.path / BEST, training=training)
        if self.method.state_dict():
            save_auxiliary(self.method, self.config.method, self.folder.path / AUXILIARY)
        save_state(self.folder.state_path, self.objective, self.optimizer, reached)

    def _finish(self, reached: Reached) -> dict[str, Any]:
        config, last = self.config, self.folder.metrics()[-1]
        result = {
            "model": config.model.name,
            "method": config.method["name"],
            "teacher": config.teacher,
            "teacher_sha256": None if self.teacher_info is None else self.teacher_info.sha256,
            "data": self.data.spec,
            "evaluated_on": self.data.evaluated_on,
            "seed": config.seed,
            "epochs": reached.epoch,
            "images_seen": reached.epoch * len(self.data.train),
            "accuracy": last["accuracy"],
            "best_accuracy": reached.best_accuracy,
            "best_epoch": reached.best_epoch,
            "parameters": count_parameters(self.student),
            "auxiliary_parameters": count_parameters(self.method),
            "seconds": round(reached.seconds, 2),
        }
        self.folder.write_result(result)
        return self.folder.result()


def save_auxiliary(method: Method, config: dict[str, Any], path: Path) -> None:
    """Write a method's own modules with what is needed to build them again."""
    teacher = method.teacher_shapes
    meta = {
        "format": "kdprobe-auxiliary",
        "version": 1,
        "method": config,
        "student": asdict(method.student_shapes),
        "teacher": None if teacher is None else asdict(teacher),
    }
    save_tensors(method.state_dict(), path, meta)


def _student(config: RunConfig, data: DataSet) -> nn.Module:
    return relabel(
        create(
            config.model.name,
            n_classes=len(data.classes),
            image_size=data.image_size,
            args=config.model.args,
            pretrained=config.model.pretrained,
            mean=data.mean,
            std=data.std,
            classes=data.classes,
            data=data.spec,
        ),
        method=config.method["name"],
    )


def _teacher(config: RunConfig, student: nn.Module, device: torch.device) -> nn.Module | None:
    """The frozen teacher, checked against the student."""
    name = config.method["name"]
    if not DISTILLERS[name].uses_teacher:
        if config.teacher is not None:
            raise ModelError(f"method {name!r} has no use for a teacher, but {config.teacher} was given")
        return None
    if config.teacher is None:
        raise ModelError(f"method {name!r} needs a teacher: give --teacher RUN, CHECKPOINT or timm:NAME")
    teacher = load(config.teacher, device=device).requires_grad_(False)
    given, expected = describe(teacher), describe(student)
    if given.n_classes != expected.n_classes:
        raise ModelError(
            f"the teacher {config.teacher} has {given.n_classes} classes, but the student has {expected.n_classes}"
        )
    if given.image_size != expected.image_size:
        raise ModelError(
            f"the teacher {config.teacher} takes {given.image_size} px images, but the student takes "
            f"{expected.image_size} px; set data.image_size={given.image_size}, or use another teacher"
        )
    return teacher


def _method(config: RunConfig, student: nn.Module, teacher: nn.Module | None) -> Method:
    kind = DISTILLERS[config.method["name"]]
    settings = {key: value for key, value in config.method.items() if key != "name"}
    options = option_types()[config.method["name"]].model_validate(settings)
    return kind(options, measure(student), None if teacher is None else measure(teacher))


def _check_finite(means: dict[str, float], epoch: int, optimizer: Optimizer) -> None:
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if bad:
        rate = optimizer.param_groups[0]["lr"]
        raise RunError(
            f"the loss term {bad[0]!r} became {means[bad[0]]} in epoch {epoch + 1} at learning rate {rate:.3g}; "
            "the state before this epoch is saved"
        )
