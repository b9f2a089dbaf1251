"""One cell, trained by the process that holds its attempt.

Everything heavy is imported before there is an attempt, so that no process holds a cell that it is not working on.
"""

import importlib
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from kdprobe.config import RunConfig, parse
from kdprobe.distillers import option_types
from kdprobe.errors import DeviceError, KdprobeError, Stopped, SweepError, WeightsLost
from kdprobe.files import sync_folder
from kdprobe.runs.folder import RunFolder
from kdprobe.sweeps.attempts import STALE_AFTER, Attempt, beating, claim, end, superseded
from kdprobe.sweeps.cells import cell_id
from kdprobe.sweeps.ledger import Ledger, open_ledger, read_result, working_folder
from kdprobe.training import train
from kdprobe.user_code import trusting

TRAIN = "kdprobe.sweeps.work:train_cell"

Task = Callable[[Any, Path, str], object]


@dataclass(frozen=True)
class Order:
    """What a worker needs to know besides the cell.

    Attributes:
        folder: the sweep's folder.
        task: `module:function` that makes a run folder of a configuration on a device; of other work than training,
            a folder with a `result.json` that `RunFolder.write_result` wrote, of a mapping.
        device: the device that the task computes on.
        stale_after: seconds without a heartbeat after which an attempt is given up.
        trust: modules whose code checkpoints may name, as the person at the driver named them.
    """

    folder: Path
    task: str = TRAIN
    device: str = "auto"
    stale_after: float = STALE_AFTER
    trust: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The outcome of a cell that was given to a worker.

    Attributes:
        name: `busy` means that another process trains the cell, `stopped` that this one was asked to stop.
        error: the reason of a failure, in one line.
        final: the failure is the cell's own and would happen again.
    """

    name: Literal["done", "busy", "stopped", "failed"]
    error: str = ""
    final: bool = False


def work(order: Order, cell: str, config: dict[str, Any], given_up: int = 0) -> Outcome:
    """Train one cell to its end, unless it is done already or another process trains it.

    Args:
        order: the sweep and the task.
        cell: id.
        config: its configuration as a nested mapping.
        given_up: number of the attempt at it that the driver found to be silent.
    """
    run = RunFolder(order.folder / "cells" / cell)
    if _done(run):
        return Outcome("done")
    attempt = claim(order.folder / "attempts", cell, given_up=given_up)
    if attempt is None:
        return Outcome("busy")
    outcome = Outcome("failed", "interrupted")
    try:
        with beating(attempt, stale_after=order.stale_after), printing_to(order.folder / "logs" / f"{cell}.log"):
            print(f"--- attempt {attempt.number} on {attempt.host}, process {attempt.process}, {time.ctime()}")
            outcome = _attempted(order, run, attempt, config)
    finally:
        end(attempt, error=outcome.error if outcome.name == "failed" else None)
    return outcome


def _attempted(order: Order, run: RunFolder, attempt: Attempt, config: dict[str, Any]) -> Outcome:
    cell = run.path.name
    try:
        if not _done(run):  # another process may have finished it before the claim
            working = RunFolder(_take_over(order.folder, cell, attempt.number))
            if not _done(working):
                _remove_damaged(working)
                with trusting(order.trust):
                    ledger = ledger_of(order.folder)
                    given = ledger.placed(_resolved(config, cell)) if ledger.trains else config
                    task_of(order)(given, working.path, order.device)
            if not _done(working):
                return Outcome("failed", f"{order.task} left no whole result.json")
            if superseded(attempt):
                return Outcome("busy")  # and this folder was made again after it had been taken away
            _commit(working, run)
    except (Stopped, KeyboardInterrupt) as error:  # the second before there is anything to save
        print(error)
        return Outcome("stopped", str(error) or "interrupted")
    except Exception as error:
        traceback.print_exc()
        if superseded(attempt):
            return Outcome("busy")
        worded = str(error) if isinstance(error, KdprobeError) else f"{type(error).__name__}: {error}"
        return Outcome("failed", " ".join(worded.split()), final=comes_again(error))
    return Outcome("done")


def ledger_of(folder: Path) -> Ledger:
    """The ledger of a sweep; its plan, long where there are many cells, is read again only if it was written again.

    A fork has what its parent has read.

    Raises:
        SweepError: as `open_ledger`.
    """
    plan = folder / "sweep.json"
    written = plan.stat() if plan.exists() else None
    return _ledger_of(folder, written and (written.st_mtime_ns, written.st_size, written.st_ino))


@lru_cache(maxsize=1)
def _ledger_of(folder: Path, _written: tuple[int, ...] | None) -> Ledger:
    return open_ledger(folder)


def comes_again(error: BaseException) -> bool:
    """Whether a failure is due to the configuration, so that it would happen again.

    A full disk, a folder in use, a device that is not there or has no memory left are not: they can pass.
    """
    passing = (OSError, DeviceError, torch.OutOfMemoryError)
    return (
        isinstance(error, KdprobeError) and not isinstance(error, passing) and not isinstance(error.__cause__, passing)
    )


def _take_over(sweep: Path, cell: str, number: int) -> Path:
    """The working folder of an attempt, with what the newest one before it left.

    It is taken away from that attempt in one step: if its process still writes, it no longer writes here.
    """
    mine = working_folder(sweep, cell, number)
    left = [working_folder(sweep, cell, before) for before in range(number - 1, 0, -1)] + [sweep / "cells" / cell]
    for folder in left:
        if mine.exists():
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.is_dir():
            folder.rename(mine)
    RunFolder(mine).lock_path.unlink(missing_ok=True)  # which its holder, if frozen, may never release
    return mine


def _commit(working: RunFolder, run: RunFolder) -> None:
    """Mark the cell as done, in one step that fails if a successor has taken the folder away."""
    try:
        working.path.rename(run.path)
    except OSError:
        if not _done(run):
            raise
        shutil.rmtree(working.path, ignore_errors=True)  # done twice, with one outcome
    else:
        sync_folder(run.path.parent)


def train_cell(config: RunConfig, out: Path, device: str) -> None:
    """Train a cell, from where an earlier attempt stopped; one that never saved a state begins again."""
    folder = RunFolder(out)
    states = (folder.state_path, folder.state_path.with_suffix(".previous.pt"))
    resume = folder.config_path.is_file() and any(state.is_file() for state in states)
    if not resume and out.exists():
        shutil.rmtree(out)
    expected = ledger_of(out.parents[1]).inputs_of(config)
    try:
        train(config, out, resume=resume, device=device, quiet=True, inputs=expected)
    except WeightsLost as error:
        print(f"{error}; the cell is trained again")
        shutil.rmtree(out)
        train(config, out, device=device, quiet=True, inputs=expected)


@contextmanager
def printing_to(path: Path) -> Iterator[None]:
    """Append everything that this process prints, and that its libraries and children print, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        kept = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield
        finally:
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)


def _done(run: RunFolder) -> bool:
    return read_result(str(run.result_path), hashed=True)[0] is not None


def _remove_damaged(run: RunFolder) -> None:
    """Remove a run that is finished but not whole; its state may be as damaged as the rest."""
    if problem := read_result(str(run.result_path), hashed=True)[1]:
        print(f"{run.path}: {problem}; the cell is trained again")
        shutil.rmtree(run.path)


def _resolved(config: dict[str, Any], cell: str) -> RunConfig:
    resolved = parse(config, option_types(), source=f"the cell {cell}")
    if cell_id(resolved) != cell:
        raise SweepError(f"this kdprobe resolves the cell {cell} to another configuration; use one version for a sweep")
    return resolved


def task_of(order: Order) -> Task:
    """The function that an order names, imported."""
    module, _, name = order.task.partition(":")
    function: Task = getattr(importlib.import_module(module), name)
    return function
