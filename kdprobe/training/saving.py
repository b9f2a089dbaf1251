"""What a run leaves behind while it goes on and when it ends: states, checkpoints, metrics, the result."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from kdprobe.config import RunConfig
from kdprobe.distillers import Method
from kdprobe.errors import CheckpointError, Diverged, RunError, Stopped, WeightsLost
from kdprobe.files import write_text
from kdprobe.models.checkpoint import AUXILIARY, BEST, LAST, read_tensors, save, save_tensors
from kdprobe.models.creation import count_parameters
from kdprobe.runs.folder import RunFolder
from kdprobe.training.build import Job
from kdprobe.training.console import Watch
from kdprobe.training.distributed import Ranks
from kdprobe.training.signals import StopRequest
from kdprobe.training.state import Position, Stateful, previous, restore_state, save_state


class Keeper:
    """Saves and restores one run; only the first process writes.

    Args:
        config: of the run.
        job: networks and data.
        folder: claimed.
        group: this process among all.
        stop: set when somebody asks the run to stop.
        watch: for telling about damaged states.
        parts: everything with a state, by name.
        exported: the network that checkpoints hold.
    """

    def __init__(
        self,
        config: RunConfig,
        job: Job,
        folder: RunFolder,
        group: Ranks,
        stop: StopRequest,
        watch: Watch,
        *,
        parts: dict[str, Stateful],
        exported: nn.Module,
    ) -> None:
        self.config, self.job, self.folder, self.group, self.stop, self.watch = config, job, folder, group, stop, watch
        self.settings, self.parts, self.exported = config.training, parts, exported
        self.n_images = len(job.data.train)
        self.saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the configured minutes have gone by since the last state was saved."""
        minutes = self.settings.saving.minutes
        return minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes

    def save_inside(self, position: Position, *, stop: bool) -> None:
        """Save inside an epoch, all processes at the same step.

        Raises:
            Stopped: after that, if the run is to stop.
        """
        self.agree()
        self._save_state(position)
        if stop:
            raise self._as_asked(position)

    def stopped(self, position: Position) -> Stopped:
        """Save before the epoch is evaluated to its end, because the run is to stop, and say so."""
        self._save_state(position)
        return self._as_asked(position)

    def _as_asked(self, position: Position) -> Stopped:
        return Stopped(
            f"stopped by {self.stop.reason or 'a signal to another process'} in epoch {position.epoch + 1} "
            f"after step {position.step}; continue with --resume --out {self.folder.path}"
        )

    def agree(self) -> None:
        """Make networks and methods of all processes the same; their weights are already."""
        self.job.method.agree(self.group.join)
        for part in self.parts.values():
            if isinstance(part, nn.Module):
                self.group.average_statistics(part)

    def _save_state(self, position: Position) -> None:
        if self.group.main:
            save_state(self.folder.state_path, self.parts, position)
        self.saved_at = time.monotonic()

    def restore(self) -> Position:
        """The position of the newest state that verifies, everything restored; the beginning where there is none."""
        path = self.folder.state_path
        if not path.is_file() and not previous(path).is_file():
            if self.group.main:
                self.folder.keep_metrics(0)  # a line may stand there whose state was not saved any more
            return Position(n_images=self.n_images)
        alone = self.group.world == 1
        position, problems = restore_state(path, self.parts, n_images=self.n_images, random=alone)
        for problem in problems:
            self.watch.say(problem)
        if self.group.main:
            self._check_weights(position)
            self.folder.keep_metrics(position.epoch)
        return position

    def _check_weights(self, position: Position) -> None:
        """Weights that the run would end with, but that it does not write again, must be whole.

        Raises:
            WeightsLost: if they are missing or damaged.
        """
        needed = [BEST] if position.best_epoch else []
        needed += [LAST] if position.epoch == self.settings.epochs else []
        for path in (self.folder.path / name for name in needed):
            try:
                read_tensors(path)
            except CheckpointError as error:
                raise WeightsLost(
                    f"{self.folder.path} cannot go on, as a file of an epoch that is done is lost: {error}; begin anew "
                    "with another --out"
                ) from error

    def begin(self) -> None:
        """Keep the network as it is before training, if asked to."""
        if self.group.main:
            with self._told():
                self._save_snapshot(0, {"epoch": 0})

    def save_epoch(self, position: Position, record: dict[str, Any], *, best: bool) -> None:
        """Append the epoch's metrics and save what is due after it."""
        if not self.group.main:
            return
        training = {"epoch": position.epoch, "accuracy": record["accuracy"]}
        with self._told():
            self.folder.append_metrics(record)
            if best:
                save(self.exported, self.folder.path / BEST, training=training)
            self._save_snapshot(position.epoch, training)
            every, last = self.settings.saving.epochs, self.settings.epochs
            if position.epoch % every == 0 or position.epoch == last:
                save(self.exported, self.folder.path / LAST, training=training)
                if self.job.method.state_dict():
                    save_auxiliary(self.job.method, self.config.method, self.folder.path / AUXILIARY)
                self._save_state(position)

    def _save_snapshot(self, epoch: int, training: dict[str, Any]) -> None:
        if self.config.keeps_snapshot(epoch):
            save(self.exported, self.folder.snapshot_path(epoch), training=training)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell in one line when the disk does not take what is written."""
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self.folder.path} could not be written: {error.strerror}; what was there is whole"
            ) from error

    def start(self) -> None:
        """Forget why the run failed before, which it may not do again."""
        if self.group.main:
            self.folder.failure_path.unlink(missing_ok=True)

    def fail(self, error: Diverged) -> None:
        """Write down that the run came to no result, and why."""
        if self.group.main:
            with self._told():
                write_text(self.folder.failure_path, f"{error}\n")

    def finish(self, position: Position) -> dict[str, Any]:
        """Write the result and return it.

        Raises:
            Diverged: if no step of the last epoch had a finite loss.
        """
        self.group.wait()
        metrics = self.folder.metrics()
        if metrics[-1]["loss"] is None:
            raise Diverged(
                f"no step of the last epoch, {position.epoch}, had a finite loss, so all of them were left out"
            )
        if self.group.main:
            config, inputs = self.config, self.job.inputs
            result = {
                "model": config.model.name,
                "method": config.method["name"],
                "teacher": config.teacher,
                "teacher_sha256": inputs.teacher,
                "data": self.job.data.spec,
                "data_sha256": inputs.data,
                "evaluated_on": self.job.data.evaluated_on,
                "evaluated_images": len(self.job.data.test),
                "seed": config.seed,
                "epochs": position.epoch,
                "precision": config.training.precision,
                "images_seen": sum(record["images"] for record in metrics),
                "accuracy": metrics[-1]["accuracy"],
                "best_accuracy": position.best_accuracy,
                "best_epoch": position.best_epoch,
                "parameters": count_parameters(self.job.student),
                "auxiliary_parameters": count_parameters(self.job.method),
                "seconds": round(position.seconds, 2),
                "sha256": self.folder.weights_sha256(),
            }
            self.folder.write_result(result)
        self.group.wait()
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
