"""What a run saves while it goes on: states, checkpoints, metrics; and where a resumed run begins."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdprobe.config import TrainingConfig
from kdprobe.distillers import Method
from kdprobe.errors import CheckpointError, Diverged, RunError, Stopped, WeightsLost
from kdprobe.files import write_text
from kdprobe.models.checkpoint import AUXILIARY, BEST, LAST, packed, read_tensors, save, save_tensors
from kdprobe.runs.folder import RunFolder
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.signals import StopRequest
from kdprobe.training.state import Position, Stateful, previous, restore_state, save_state


class Keeper:
    """Saves one run; only the first process writes.

    Args:
        folder: claimed.
        settings: the section `training`.
        stop: set when the run is asked to stop.
        keeps_snapshot: whether the network is kept as it is after this many epochs, 0 included.
        method: the distillation method, whose own modules are kept beside the network.
        options: name and options of the method.
        exported: the network that checkpoints hold.
        stateful: everything with a state, by name.
        writes: whether this is the process that writes.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: TrainingConfig,
        stop: StopRequest,
        *,
        keeps_snapshot: Callable[[int], bool],
        method: Method,
        options: dict[str, Any],
        exported: nn.Module,
        stateful: Mapping[str, Stateful],
        writes: bool,
    ) -> None:
        self.folder, self.settings, self.stop, self.keeps_snapshot = folder, settings, stop, keeps_snapshot
        self.method, self.options, self.exported, self.stateful = method, options, exported, stateful
        self.writes = writes
        self._saved_at, self._has_saved = time.monotonic(), False
        self._best: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    @property
    def wishes(self) -> tuple[bool, bool]:
        """Whether the run was asked to stop, and whether the configured minutes since the last state have passed."""
        minutes = self.settings.saving.minutes
        return self.stop.reason is not None, minutes is not None and self._passed(60 * minutes)

    def _passed(self, seconds: float) -> bool:
        return time.monotonic() - self._saved_at >= seconds

    def _is_due_after(self, epoch: int) -> bool:
        saving = self.settings.saving
        is_time = not self._has_saved or self._passed(saving.seconds)
        return epoch == self.settings.epochs or (epoch % saving.epochs == 0 and is_time)

    def begin(self) -> None:
        """Save the network as it is before training, if snapshots are wanted."""
        if self.writes:
            with self._writing():
                self._save_snapshot(0, {"epoch": 0})

    def save_inside(self, position: Position, *, stop: bool) -> None:
        """Save the state inside an epoch, all processes at the same step.

        Raises:
            Stopped: once the state is saved, if the run is to stop.
        """
        self._save_state(position)
        if stop:
            raise self._as_asked(position)

    def stopped(self, position: Position) -> Stopped:
        """Save the state before the epoch is evaluated to its end, because the run is to stop, and report that."""
        self._save_state(position)
        return self._as_asked(position)

    def _as_asked(self, position: Position) -> Stopped:
        return Stopped(
            f"stopped by {self.stop.reason or 'a signal to another process'} in epoch {position.epoch + 1} "
            f"after step {position.step}; continue with --resume --out {self.folder.path}"
        )

    def save_epoch(self, position: Position, record: Mapping[str, Any], *, best: bool) -> None:
        """Append an epoch's metrics and save what is due after it; the best network waits for the next state."""
        if not self.writes:
            return
        training = {"epoch": position.epoch, "accuracy": record["accuracy"]}
        with self._writing():
            self.folder.append_metrics(record)
            if best:
                self._best = packed(self.exported, training=training)
            self._save_snapshot(position.epoch, training)
            if self._is_due_after(position.epoch):
                save(self.exported, self.folder.path / LAST, training=training)
                if self.method.state_dict():
                    save_auxiliary(self.method, self.options, self.folder.path / AUXILIARY)
                self._save_state(position)

    def failed(self, error: Diverged) -> Diverged:
        """Write down why the run comes to no result, and where it could go on; all of that in the error returned."""
        states = self.folder.state_path, previous(self.folder.state_path)
        left = (
            f"{self.folder.path} holds the state saved before that; --resume continues from it"
            if any(path.is_file() for path in states)
            else "no state was saved before that"
        )
        reported = Diverged(f"{error}; {left}")
        if self.writes:
            with self._writing():
                write_text(self.folder.failure_path, f"{reported}\n")
        return reported

    def _save_state(self, position: Position) -> None:
        if self.writes:
            with self._writing():
                self._save_best()
            save_state(self.folder.state_path, self.stateful, position)
        self._saved_at, self._has_saved = time.monotonic(), True

    def _save_best(self) -> None:
        """Write the best network since the last state before the next one, which counts on it."""
        if self._best is not None:
            tensors, meta = self._best
            save_tensors(tensors, self.folder.path / BEST, meta)
            self._best = None

    def _save_snapshot(self, epoch: int, training: dict[str, Any]) -> None:
        if self.keeps_snapshot(epoch):
            save(self.exported, self.folder.snapshot_path(epoch), training=training)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Report in one line that something could not be written."""
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self.folder.path} could not be written: {error.strerror}; what was there is whole"
            ) from error


def resumed(
    folder: RunFolder,
    stateful: Mapping[str, Stateful],
    *,
    n_epochs: int,
    n_images: int,
    group: Ranks,
    say: Callable[[str], None],
) -> Position:
    """Restore the newest state that verifies.

    Args:
        folder: the run's.
        stateful: everything with a state, by name; changed in place.
        n_epochs: epochs of the run.
        n_images: training images that there are now.
        group: this process among all; several draw new random numbers, a single one goes on with those it had.
        say: called with a sentence about each damaged state that was passed over.

    Returns:
        the position of that state, or the beginning if there is none.

    Raises:
        RunError: as `restore_state`.
        WeightsLost: if weights of epochs that are done are missing or damaged.
    """
    path, position = folder.state_path, Position(n_images=n_images)
    if path.is_file() or previous(path).is_file():
        position, problems = restore_state(path, stateful, n_images=n_images, random=group.world == 1)
        for problem in problems:
            say(problem)
        if group.main:
            _check_weights(folder, position, n_epochs)
    if group.main:
        folder.keep_metrics(position.epoch)  # a line may be there whose state was never saved
    return position


def _check_weights(folder: RunFolder, position: Position, n_epochs: int) -> None:
    """Weights that the run would end with, but that it does not write again, must be whole."""
    needed = [BEST] if position.best_epoch else []
    needed += [LAST] if position.epoch == n_epochs else []
    for path in (folder.path / name for name in needed):
        try:
            read_tensors(path)
        except CheckpointError as error:
            raise WeightsLost(
                f"{folder.path} cannot go on, as a file of an epoch that is done is lost: {error}; begin anew with "
                "another --out"
            ) from error


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
