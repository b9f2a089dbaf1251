"""Is a run folder whole? One sentence for each thing that is not."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from kdprobe.config import RunConfig
from kdprobe.distillers import option_types
from kdprobe.errors import KdprobeError, RunError
from kdprobe.files import sha256
from kdprobe.formats.counts import counted
from kdprobe.formats.jsons import read_json
from kdprobe.models import load
from kdprobe.models.checkpoint import AUXILIARY, BEST, LAST, read_tensors
from kdprobe.runs.folder import RunFolder
from kdprobe.training.state import state_problems

_Read = TypeVar("_Read")


def problems(run: RunFolder) -> list[str]:
    """Everything in a run folder that is missing, damaged or contradicts the rest.

    A run that is under way or was killed is whole if it can be continued.
    """
    found: list[str] = []
    config = _tried(found, lambda: run.config(option_types()))
    records = _tried(found, run.metrics) or []
    result = _tried(found, run.result) if run.finished else None
    found += _environment(run.path / "env.json")
    ends_with = (LAST,) if result is None or result.get("best_epoch", 0) is None else (LAST, BEST)
    found += _networks(run, needed=() if result is None else ends_with)
    found += state_problems(run.state_path)
    if result is not None and config is not None:
        found += _contradictions(run, config, records, result)
    return list(dict.fromkeys(found))  # what is wrong with one file may show in several


def _tried(found: list[str], read: Callable[[], _Read]) -> _Read | None:
    """What is read; an error becomes a problem."""
    try:
        return read()
    except KdprobeError as error:
        found.append(" ".join(str(error).split()))
    return None


def _environment(path: Path) -> Iterator[str]:
    try:
        read_json(path, RunError, expected="the environment of a run")
    except RunError as error:
        yield str(error) if path.exists() else f"{path} is missing"


def _networks(run: RunFolder, *, needed: tuple[str, ...]) -> list[str]:
    """Every checkpoint is opened and fits its network."""
    found: list[str] = []
    for name in (LAST, BEST, AUXILIARY):
        path = run.path / name
        if not path.is_file():
            found += [f"{path} is missing"] if name in needed else []
        else:
            _tried(found, partial(_open, path))
    for path in run.snapshots().values():
        _tried(found, partial(_open, path))
    return found


def _open(path: Path) -> None:
    if path.name == AUXILIARY:
        read_tensors(path)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the run is not finished, which is no problem of it
            load(path)


def _contradictions(
    run: RunFolder, config: RunConfig, records: list[dict[str, Any]], result: dict[str, Any]
) -> Iterator[str]:
    """Where the result contradicts configuration, metrics, files or teacher."""
    hashes: dict[str, str] = result.get("sha256", {})
    accuracies = [record["accuracy"] for record in records]
    expected = {
        "method": config.method["name"],
        "model": config.model.name,
        "teacher": config.teacher,
        "weights": config.model.weights,
        "data": config.data.spec,
        "seed": config.seed,
        "epochs": len(records),
        "accuracy": accuracies[-1] if accuracies else None,
        "best_accuracy": max((share for share in accuracies if share is not None), default=None),
        **{f"sha256 of {name}": sha256(run.path / name) for name in hashes if (run.path / name).is_file()},
    }
    stated = result | {f"sha256 of {name}": value for name, value in hashes.items()}
    for key, value in expected.items():
        if stated.get(key) != value:
            yield f"{run.result_path} states {key} {stated.get(key)!r}, but it is {value!r}"
    if len(records) != config.training.epochs:
        yield f"{run.path} is finished after {len(records)} of {counted(config.training.epochs, 'epoch')}"
    yield from _teacher(run, config, result)


def _teacher(run: RunFolder, config: RunConfig, result: dict[str, Any]) -> Iterator[str]:
    """A teacher's run that is still there has still the weights that taught."""
    path = Path(config.teacher or "") / LAST
    if config.teacher is not None and path.is_file() and sha256(path) != result.get("teacher_sha256"):
        yield f"{path} is not the teacher of {run.path} any more: its sha256 has changed"
