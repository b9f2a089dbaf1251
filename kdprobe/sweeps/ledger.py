"""The ledger of a sweep: a folder that says of each cell whether it is done, running, failed or left.

sweep.json       what all cells share, and the cells of the grid asked for last
cells/CELL/      a run folder; its `result.json`, written whole, is the only mark of done
attempts/CELL.N  who is or was at the cell, see `attempts`
logs/CELL.log    what its trainings printed
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kdprobe.errors import SweepError
from kdprobe.files import read_bytes, read_text, write_text
from kdprobe.results import provenance
from kdprobe.runs import FORMAT as RUN_FORMAT
from kdprobe.runs import VERSION as RUN_VERSION
from kdprobe.runs import RunFolder, differing_keys
from kdprobe.sweeps.attempts import STALE_AFTER, Attempt, alive, clock, end, last_number, last_numbers, read_attempt
from kdprobe.sweeps.cells import Cell

FORMAT = "kdprobe-sweep"
VERSION = 1

_SHOWN = 6  # keys that differ

StateName = Literal["done", "running", "failed", "left"]


@dataclass(frozen=True)
class State:
    """How far one cell is.

    Attributes:
        name: failed means that the last attempt ended with an error; left, that it was not begun or was interrupted.
        attempt: the newest one, read where the cell is not done.
        result: the run's numbers, where it is done.
        damaged: there is a `result.json` that cannot be read; it does not count.
    """

    name: StateName
    attempt: Attempt | None = None
    result: dict[str, Any] | None = None
    damaged: bool = False


@dataclass(frozen=True)
class Ledger:
    """A sweep's folder.

    Attributes:
        path: the folder.
        cells: of the grid, in its order; cells with one id are trained once.
        stale_after: seconds without a heartbeat after which an attempt is given up.
    """

    path: Path
    cells: Sequence[Cell]
    stale_after: float = STALE_AFTER

    @property
    def attempts(self) -> Path:
        """Folder of the attempts."""
        return self.path / "attempts"

    def run(self, cell: str) -> RunFolder:
        """The run folder of a cell."""
        return RunFolder(self.path / "cells" / cell)

    def distinct(self) -> list[Cell]:
        """The cells, each id once."""
        return list({cell.id: cell for cell in self.cells}.values())

    def state(self, cell: str) -> State:
        """Look at one cell."""
        number = last_number(self.attempts, cell)
        return self._state(cell, number, clock(self.attempts) if number else 0.0)

    def states(self) -> dict[str, State]:
        """Look at all cells."""
        numbers = last_numbers(self.attempts)
        now = clock(self.attempts) if numbers else 0.0
        return {cell.id: self._state(cell.id, numbers.get(cell.id, 0), now) for cell in self.distinct()}

    def heartbeat_age(self, attempt: Attempt) -> float:
        """Seconds since an attempt's last heartbeat."""
        return max(clock(self.attempts) - attempt.beat, 0.0)

    def give_up(self, cell: str, error: str) -> None:
        """Write down why a cell is not tried again, where its last attempt could not do so itself."""
        number = last_number(self.attempts, cell)
        if number and not (attempt := read_attempt(self.attempts, cell, number)).ended:
            end(attempt, error=error)

    def _state(self, cell: str, number: int, now: float) -> State:
        result, damaged = read_result(f"{self.path}/cells/{cell}/result.json")
        if result is not None:
            return State("done", result=result)
        if not number:
            return State("left", damaged=damaged)
        attempt = read_attempt(self.attempts, cell, number)
        name: StateName = "failed" if attempt.error is not None else "left"
        if alive(attempt, now=now, stale_after=self.stale_after):
            name = "running"
        return State(name, attempt, damaged=damaged)


def read_result(path: str) -> tuple[dict[str, Any] | None, bool]:
    """A run's numbers or None, and whether there is a file that is not whole."""
    try:
        values = json.loads(read_bytes(Path(path)))
    except FileNotFoundError:
        return None, False
    except ValueError:
        return None, True
    whole = isinstance(values, dict) and (values.get("format"), values.get("version")) == (RUN_FORMAT, RUN_VERSION)
    return (values, False) if whole else (None, True)


def open_ledger(path: Path, *, stale_after: float = STALE_AFTER) -> Ledger:
    """Open the sweep in a folder.

    Raises:
        SweepError: if there is none, or it is damaged or of another version.
    """
    plan = path / "sweep.json"
    try:
        values = json.loads(read_text(plan))
        found = values["format"], values["version"]
    except (FileNotFoundError, NotADirectoryError):
        raise SweepError(f"{path} holds no sweep: it has no sweep.json") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SweepError(f"{plan} is not a sweep's plan or is damaged ({type(error).__name__})") from error
    if found != (FORMAT, VERSION):
        raise SweepError(f"{plan} is {found[0]!r} version {found[1]}; this kdprobe reads {FORMAT!r} version {VERSION}")
    try:
        cells = [Cell(entry["id"], entry["values"], values["base"]) for entry in values["cells"]]
    except (KeyError, TypeError) as error:
        raise SweepError(f"{plan} is not a sweep's plan or is damaged ({type(error).__name__})") from error
    if not cells:
        raise SweepError(f"{plan} is not a sweep's plan or is damaged: it has no cells")
    return Ledger(path, cells, stale_after)


def begin(path: Path, cells: Sequence[Cell], *, stale_after: float = STALE_AFTER) -> Ledger:
    """Put a grid into a folder: an empty one, or one with a sweep of the same configuration, whose cells are reused.

    Args:
        path: the folder.
        cells: with a common base.
        stale_after: seconds without a heartbeat after which an attempt is given up.

    Raises:
        SweepError: if the folder holds something else, or its sweep differs in more than the swept keys.
    """
    check_folder(path, cells)
    entries = [{"id": cell.id, "values": cell.values} for cell in cells]
    plan = {"format": FORMAT, "version": VERSION, "base": cells[0].base, "cells": entries, "provenance": provenance()}
    try:
        for name in ("cells", "attempts", "logs"):
            (path / name).mkdir(parents=True, exist_ok=True)
        write_text(path / "sweep.json", json.dumps(plan) + "\n")
    except OSError as error:
        raise SweepError(f"{path} cannot be written: {error.strerror}") from error
    return Ledger(path, cells, stale_after)


def check_folder(path: Path, cells: Sequence[Cell]) -> None:
    """Find out whether a grid can be put into a folder, without writing anything.

    Raises:
        SweepError: as `begin` does.
    """
    if (path / "sweep.json").exists():
        _check_same(open_ledger(path), cells)
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SweepError(f"{path} is not an empty folder and holds no sweep; choose another --out")


def _check_same(before: Ledger, cells: Sequence[Cell]) -> None:
    swept = {key for cell in (before.cells[0], cells[0], before.cells[-1], cells[-1]) for key in cell.values}
    changed = [
        key
        for key in differing_keys(before.cells[0].base, cells[0].base)
        if not any(f"{key}.".startswith(f"{name}.") for name in swept)
    ]
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise SweepError(
            f"{before.path} holds another sweep; these keys differ: {', '.join(changed[:_SHOWN])}{more}; "
            "choose another --out"
        )


def seconds_to_go(ledger: Ledger, states: Iterable[State]) -> float | None:
    """How long the rest will take at the present pace; None while nothing runs or nothing is done yet.

    A running cell counts half: on the average it is halfway.
    """
    states = list(states)
    running = [state.attempt for state in states if state.name == "running" and state.attempt]
    left = sum(state.name in ("left", "failed") for state in states)
    took = _durations(ledger)
    if not running or not took:
        return None
    return sum(took) / len(took) * (left + len(running) / 2) / len(running)


def _durations(ledger: Ledger, *, of_last: int = 50) -> list[float]:
    """Seconds from the last attempt's beginning to its result, of the cells finished last."""
    found = []
    for cell in ledger.distinct():
        try:
            found.append((os.stat(f"{ledger.path}/cells/{cell.id}/result.json").st_mtime, cell.id))
        except FileNotFoundError:
            continue
    durations = []
    for finished, cell_id in sorted(found)[-of_last:]:
        number = last_number(ledger.attempts, cell_id)
        if number:
            durations.append(max(finished - read_attempt(ledger.attempts, cell_id, number).started, 0.0))
    return durations
