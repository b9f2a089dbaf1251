"""Saving a run so that it continues as if it had never stopped.

Two generations are kept, `state.pt` and `state.previous.pt`. Each is a zip archive whose checksums are
verified before it is used; the newest that verifies is, and a damaged one is named.
"""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from kdprobe.errors import RunError
from kdprobe.files import replacing, sync_folder

VERSION = 2  # version 1 is continued too


@runtime_checkable
class Stateful(Protocol):
    """Anything with a state that can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take a state over."""


@dataclass
class Position:
    """How far a run has come.

    Attributes:
        epoch: epochs done.
        step: steps done in the epoch that is under way.
        best_accuracy: highest so far, a fraction.
        best_epoch: the epoch after which it was reached.
        seconds: spent in training in the epochs done, and in computing what is computed once for all of them.
        epoch_seconds: spent in the epoch that is under way.
        n_images: training images, which must not change.
    """

    epoch: int = 0
    step: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    n_images: int = 0

    def end_epoch(self, accuracy: float | None) -> bool:
        """Move on to the next epoch; whether the one that ends is the best so far, which without labels none is."""
        is_best = accuracy is not None and accuracy > self.best_accuracy
        if accuracy is not None and is_best:
            self.best_accuracy, self.best_epoch = accuracy, self.epoch + 1
        self.seconds += self.epoch_seconds
        self.epoch, self.step, self.epoch_seconds = self.epoch + 1, 0, 0.0
        return is_best


def previous(path: Path) -> Path:
    """The generation before."""
    return path.with_suffix(".previous.pt")


def save_state(path: Path, stateful: Mapping[str, Stateful], position: Position) -> None:
    """Write all states, the random ones too, and the position; the file before becomes the previous generation.

    Args:
        path: file of the newest generation.
        stateful: objective, optimizer, scaler, ...: by name.
        position: how far the run has come.

    Raises:
        RunError: if it cannot be written; the older states stay whole.
    """
    state = {
        "version": VERSION,
        "parts": {name: one.state_dict() for name, one in stateful.items()},
        "random": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
        "position": {entry.name: getattr(position, entry.name) for entry in fields(position)},
    }
    try:
        with replacing(path.with_suffix(".new.pt")) as temporary:
            torch.save(state, temporary)
        if path.exists():
            path.replace(previous(path))
        path.with_suffix(".new.pt").replace(path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        path.with_suffix(".new.pt").unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160]
        raise RunError(f"{path} could not be saved: {reason}; the state saved before it is whole") from error


def restore_state(
    path: Path, stateful: Mapping[str, Stateful], *, n_images: int, random: bool = True
) -> tuple[Position, list[str]]:
    """Restore the newest state that verifies.

    Args:
        path: file of the newest generation.
        stateful: what was saved, built from the same configuration; changed in place.
        n_images: training images that there are now.
        random: whether to restore the random states too.

    Returns:
        the position, and a sentence about each damaged file that was passed over.

    Raises:
        RunError: if there is none, none verifies, or it belongs to another model, method or data set.
    """
    state, problems = _newest(path)
    position = _position(path, state.get("position", {}))
    if position.n_images != n_images:
        raise RunError(f"{path} was saved with {position.n_images} training images, but now there are {n_images}")
    try:
        for name, one in stateful.items():
            one.load_state_dict(state["parts"][name])
        if random:
            torch.set_rng_state(state["random"]["cpu"])
            for device, numbers in zip(range(torch.cuda.device_count()), state["random"]["cuda"], strict=False):
                torch.cuda.set_rng_state(numbers, device)
    except Exception as error:  # whatever torch raises over a state of other tensors or types
        raise RunError(f"{path} belongs to another model or method: {' '.join(str(error).split())[:160]}") from error
    return position, problems


def state_problems(path: Path) -> list[str]:
    """A sentence about each generation of a run's state that is there and damaged."""
    return [problem for candidate in (path, previous(path)) if candidate.is_file() for problem in _damage(candidate)]


def _position(path: Path, values: dict[str, Any]) -> Position:
    """The saved position; between epochs, missing values have their defaults."""
    known = {entry.name for entry in fields(Position)}
    missing = known - set(values) if values.get("step", 1) else set()
    if differing := (set(values) - known) | missing:
        raise RunError(
            f"{path} was saved by another version of kdprobe, which differs in {', '.join(sorted(differing))}; "
            "it cannot be continued"
        )
    begun = Position()
    for name, value in values.items():
        usual = getattr(begun, name)
        kinds = (int, float) if isinstance(usual, float) else (type(usual),)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise RunError(f"{path} is damaged: {name} of its position is {value!r}")
    return Position(**values)


def _damage(path: Path) -> Iterator[str]:
    try:
        _verified(path)
    except Exception as error:
        yield f"{path} is damaged ({' '.join(str(error).split())[:120]})"


def _newest(path: Path) -> tuple[dict[str, Any], list[str]]:
    problems: list[str] = []
    for candidate in (path, previous(path)):
        if not candidate.is_file():
            continue
        try:
            return _verified(candidate), problems
        except RunError:
            raise  # of another version
        except Exception as error:  # whatever a damaged archive or pickle makes zipfile and torch raise
            reason = " ".join(str(error).split())[:120]
            problems.append(f"{candidate} is damaged and passed over ({reason})")
    raise RunError("; ".join(problems) + "; no other state is left" if problems else f"there is no state {path}")


def _verified(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    if bad is not None:
        raise ValueError(f"checksum of {bad}")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError("it holds no state")
    if state.get("version") == 1:
        return _upgraded(state)
    if state.get("version") != VERSION:
        raise RunError(f"{path} has version {state.get('version')}; this kdprobe continues versions 1 and {VERSION}")
    return state


def _upgraded(state: dict[str, Any]) -> dict[str, Any]:
    """A state of version 1, which kept the sums in its position, and counted steps that it had left out."""
    position = dict(state.get("position", {}))
    tally = {"sums": position.pop("sums", {}), "n_skipped": position.pop("n_skipped", torch.zeros(()))}
    for gone in ("bad_steps", "n_summed"):
        position.pop(gone, None)
    return {**state, "parts": {**state.get("parts", {}), "tally": tally}, "position": position}
