"""The ledger of a sweep: a folder that records whether each cell is done, running, failed or left.

sweep.json       what all cells have in common, and the cells of the latest grid; cells of other work than training
                 are marked there by `"trains": false`
cells/CELL/      a run folder; done if its `result.json` and the weights named in it are whole
cells/CELL.N/    where attempt N works; at its end it becomes cells/CELL in one step
attempts/CELL.N  which process trains or trained the cell, see `attempts`
logs/CELL.log    what its trainings printed
"""

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from kdprobe.config import RunConfig
from kdprobe.errors import SweepError
from kdprobe.files import missing_folders, read_bytes, read_text, remove_empty, write_text
from kdprobe.formats.parsing import parsing
from kdprobe.provenance import provenance
from kdprobe.runs.folder import FORMAT as RUN_FORMAT
from kdprobe.runs.folder import PLACES, RunFolder, differing_keys
from kdprobe.runs.folder import VERSION as RUN_VERSION
from kdprobe.runs.inputs import Inputs
from kdprobe.runs.records import weights_problem
from kdprobe.sweeps.attempts import STALE_AFTER, Attempt, Heartbeats, end, last_number, last_numbers, over, read_attempt
from kdprobe.sweeps.cells import Cell, input_names

FORMAT = "kdprobe-sweep"
VERSION = 1

_FOLDERS = ("cells", "attempts", "logs")
_SHOWN = 6  # keys that differ
CELL_ID = re.compile("[0-9a-f]{16}")
_ABSENT = {"teacher", "teacher_facts"}  # which a cell may do without while the others have them

StateName = Literal["done", "running", "failed", "left"]


@dataclass(frozen=True)
class State:
    """The state of one cell.

    Attributes:
        name: failed means that the last attempt ended with an error; left, that it was not begun or was interrupted.
        attempt: the newest one, read where the cell is not done.
        result: the run's numbers, where it is done.
        damaged: why a `result.json` that is there does not count: it cannot be read, or the weights that it names are
            missing or others; empty otherwise.
    """

    name: StateName
    attempt: Attempt | None = None
    result: dict[str, Any] | None = None
    damaged: str = ""


@dataclass(frozen=True)
class Ledger:
    """A sweep's folder.

    Attributes:
        path: the folder.
        cells: the grid's, in its order; cells with the same id are trained once.
        stale_after: seconds without a heartbeat after which an attempt is given up.
        inputs: sha256 of each teacher, data set and weights file of the cells, by their names (`cells.input_names`).
        places: where the teacher and the data are now, by their keys in the configuration, if they have moved.
        trains: whether each cell is a training; the configurations of other work are any mappings.
    """

    path: Path
    cells: Sequence[Cell]
    stale_after: float = STALE_AFTER
    inputs: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    trains: bool = True

    @property
    def attempts(self) -> Path:
        """Folder of the attempts."""
        return self.path / "attempts"

    def run(self, cell: str) -> RunFolder:
        """The run folder of a cell; while it is not done, that of the newest attempt that has one."""
        path = self.path / "cells" / cell
        if not path.exists():
            for number in range(last_number(self.attempts, cell), 0, -1):
                if (working := working_folder(self.path, cell, number)).is_dir():
                    return RunFolder(working)
        return RunFolder(path)

    def placed(self, config: RunConfig) -> RunConfig:
        """A cell's configuration with the present places of its inputs; its id comes from the old ones."""
        moved: dict[str, Any] = {}
        for key, place in self.places.items():
            section, _, name = key.rpartition(".")
            if section:
                moved[section] = getattr(config, section).model_copy(update={name: place})
            elif getattr(config, key) is not None:  # as a method without a teacher has it
                moved[key] = place
        return config.model_copy(update=moved)

    def inputs_of(self, config: RunConfig) -> Inputs:
        """Which teacher and data a cell must learn from, as far as the sweep knows."""
        return Inputs(*(self.inputs.get(name or "") for name in input_names(config)))

    def distinct(self) -> list[Cell]:
        """The cells, each id once."""
        return list({cell.id: cell for cell in self.cells}.values())

    def state(self, cell: str, heartbeats: Heartbeats | None = None, *, hashed: bool = False) -> State:
        """Look at one cell.

        Args:
            cell: id.
            hashed: read the weights of a cell that is done too; otherwise they need only be there.
            heartbeats: what watched them; without it, an attempt is running if its last heartbeat is not old by the
                clock of this machine, which is good enough for showing it.
        """
        return self._state(cell, last_number(self.attempts, cell), heartbeats, hashed=hashed)

    def states(self) -> dict[str, State]:
        """Look at all cells, once."""
        numbers = last_numbers(self.attempts)
        return {cell.id: self._state(cell.id, numbers.get(cell.id, 0), None) for cell in self.distinct()}

    def heartbeat_age(self, attempt: Attempt) -> float:
        """Seconds since an attempt's last heartbeat, by the clock of this machine."""
        return max(time.time() - attempt.beat / 1e9, 0.0)

    def give_up(self, cell: str, error: str) -> None:
        """Record why a cell is not tried again, unless its last attempt could do so itself."""
        number = last_number(self.attempts, cell)
        if number and not (attempt := read_attempt(self.attempts, cell, number)).ended:
            end(attempt, error=error)

    def _state(self, cell: str, number: int, heartbeats: Heartbeats | None, *, hashed: bool = False) -> State:
        result, damaged = read_result(f"{self.path}/cells/{cell}/result.json", hashed=hashed)
        if result is not None:
            return State("done", result=result)
        if not number:
            return State("left", damaged=damaged)
        attempt = read_attempt(self.attempts, cell, number)
        name: StateName = "failed" if attempt.error is not None else "left"
        if not over(attempt):
            stale = self.heartbeat_age(attempt) > self.stale_after if heartbeats is None else heartbeats.silent(attempt)
            name = name if stale else "running"
        return State(name, attempt, damaged=damaged)


def working_folder(sweep: Path, cell: str, number: int) -> Path:
    """Where an attempt works."""
    return sweep / "cells" / f"{cell}.{number}"


#: of a run's result: what a sweep reads of it, where it is there
_RESULT: dict[str, Callable[[Any], bool]] = {
    "accuracy": lambda value: value is None or (type(value) in (int, float) and 0 <= value <= 1),
    "seconds": lambda value: type(value) in (int, float) and 0 <= value < math.inf,
    "evaluated_images": lambda value: type(value) is int and value >= 0,
    "seed": lambda value: type(value) is int and value >= 0,
    **dict.fromkeys(("model", "data"), lambda value: isinstance(value, str)),
    **dict.fromkeys(("teacher", "teacher_sha256", "data_sha256"), lambda value: isinstance(value, str | None)),
    "sha256": lambda value: isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values()),
}


def read_result(path: str, *, hashed: bool = False) -> tuple[dict[str, Any] | None, str]:
    """A run's numbers if they count, else None.

    Args:
        path: that of `result.json`.
        hashed: read the weights that it names and compare their hashes, else only look whether they are there.

    Returns:
        the numbers, and why they do not count where there is a file and they do not.
    """
    damaged = "its result.json is damaged"
    try:
        values = json.loads(read_bytes(Path(path)))
    except FileNotFoundError:
        return None, ""
    except Exception:  # whatever a parser raises: it does not count
        return None, damaged
    whole = isinstance(values, dict) and (values.get("format"), values.get("version")) == (RUN_FORMAT, RUN_VERSION)
    if not whole or any(key in values and not fits(values[key]) for key, fits in _RESULT.items()):
        return None, damaged
    if problem := weights_problem(Path(path).parent, values, hashed=hashed):
        return None, problem
    return values, ""


def open_ledger(path: Path, *, stale_after: float = STALE_AFTER) -> Ledger:
    """Open the sweep in a folder.

    Raises:
        SweepError: if there is none, or it is damaged or of another version.
    """
    plan = path / "sweep.json"
    if not plan.exists():
        raise SweepError(f"{path} holds no sweep: it has no sweep.json")
    with parsing(plan, SweepError, expected="a sweep's plan"):
        values = json.loads(read_text(plan))
        found = values["format"], values["version"]
    if found != (FORMAT, VERSION):
        raise SweepError(f"{plan} is {found[0]!r} version {found[1]}; this kdprobe reads {FORMAT!r} version {VERSION}")
    with parsing(plan, SweepError, expected="a sweep's plan"):
        base, trains = dict(values["base"]), values.get("trains", True)
        if trains is not False:
            base = _whole(base)
        cells = [Cell(entry["id"], entry["values"], base) for entry in values["cells"]]
        inputs, places = values.get("inputs", {}), values.get("places", {})
    for wrong in _mistakes(cells, inputs, places):
        raise SweepError(f"{plan} is not a sweep's plan or is damaged: {wrong}")
    return Ledger(path, cells, stale_after, inputs, places, trains is not False)


def _whole(base: dict[str, Any]) -> dict[str, Any]:
    """What cells have in common, with defaults for what it leaves open, as an older kdprobe does for later options."""
    return RunConfig.model_validate(base).model_dump(mode="json")


def _mistakes(cells: Sequence[Cell], inputs: object, places: object) -> Iterator[str]:
    """What is wrong with the content of a plan."""
    if not cells:
        yield "it has no cells"
    for cell in cells:
        if not isinstance(cell.id, str) or not CELL_ID.fullmatch(cell.id):
            yield f"a cell's id must be 16 hexadecimal digits, but is {cell.id!r:.40}"
        if not isinstance(cell.values, dict) or any(cell.values[key] is None for key in cell.values.keys() - _ABSENT):
            yield f"the values of the cell {cell.id} must be a mapping of keys to values, but are {cell.values!r:.40}"
    if not isinstance(inputs, dict) or not all(isinstance(value, str) for value in inputs.values()):
        yield f"inputs must be a mapping of names to hashes, but is {inputs!r:.40}"
    if not isinstance(places, dict) or not places.keys() <= set(PLACES) or not all(map(_is_text, places.values())):
        yield f"places must be a mapping of {', '.join(PLACES)} to where they are, but is {places!r:.40}"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def begin(
    path: Path,
    cells: Sequence[Cell],
    *,
    inputs: Mapping[str, str] | None = None,
    places: Mapping[str, str] | None = None,
    stale_after: float = STALE_AFTER,
    trains: bool = True,
) -> Ledger:
    """Put a grid into a folder: an empty one, or one with a sweep of the same configuration, whose cells are reused.

    Args:
        path: the folder.
        cells: cells with a common base.
        inputs: sha256 of each teacher and data set of the cells, by their names.
        places: where the teacher and the data are now, if they have moved.
        stale_after: seconds without a heartbeat after which an attempt is given up.
        trains: whether each cell is a training.

    Raises:
        SweepError: if the folder holds something else, or its sweep differs in more than the swept keys, or learns from
            another teacher or other data.
    """
    inputs = {**check_folder(path, cells, inputs or {}), **(inputs or {})}
    entries = [{"id": cell.id, "values": cell.values} for cell in cells]
    plan = {"format": FORMAT, "version": VERSION, "base": cells[0].base, "cells": entries, "inputs": inputs}
    plan |= ({"places": places} if places else {}) | ({} if trains else {"trains": False})
    try:
        for name in _FOLDERS:
            (path / name).mkdir(parents=True, exist_ok=True)
        write_text(path / "sweep.json", json.dumps({**plan, "provenance": provenance()}) + "\n")
    except OSError as error:
        raise SweepError(f"{path} cannot be written: {error.strerror}") from error
    return Ledger(path, cells, stale_after, inputs, places or {}, trains)


def check_folder(
    path: Path, cells: Sequence[Cell], inputs: Mapping[str, str], moved: Collection[str] = ()
) -> Mapping[str, str]:
    """Find out whether a grid can be put into a folder, without writing anything.

    Args:
        path: the folder.
        cells: with a common base.
        inputs: sha256 of each teacher and data set of the cells, by their names.
        moved: names of those that have moved, whose hashes must be known.

    Returns:
        the inputs of the sweep that is there.

    Raises:
        SweepError: as `begin` does.
    """
    if (path / "sweep.json").exists():
        before = open_ledger(path)
        _check_same(before, cells)
        _check_inputs(before, cells, inputs, moved)
        return before.inputs
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SweepError(f"{path} is not an empty folder and holds no sweep; choose another --out")
    return {}


def _check_inputs(
    before: Ledger, cells: Sequence[Cell], inputs: Mapping[str, str], moved: Collection[str] = ()
) -> None:
    """Refuse other inputs at the same path: by what the sweep recorded, else by its cells' results."""
    known = dict(before.inputs)
    for cell in cells if before.trains and not known else []:
        result = read_result(str(before.run(cell.id).result_path))[0] or {}
        names = input_names(RunConfig.model_validate(cell.config))
        for name, key in zip(names, ("teacher_sha256", "data_sha256", "weights_sha256"), strict=True):
            if name is not None and isinstance(result.get(key), str):
                known.setdefault(name, result[key])
    for name, digest in inputs.items():
        if known.get(name) is None and name in moved:
            raise SweepError(
                f"{before.path} cannot go on with its {name} at another place: it was begun by a kdprobe that did not "
                "write down its sha256; put it back where it was, or choose another --out"
            )
        if known.get(name, digest) != digest:
            raise SweepError(
                f"{before.path} cannot go on: when it began, its {name} had the sha256 {known[name]}, but now it is "
                f"{digest}; give what its cells learnt from, or choose another --out"
            )


def _check_same(before: Ledger, cells: Sequence[Cell]) -> None:
    now = cells[0].base
    if before.trains:
        with suppress(ValidationError):  # of other work: it differs
            now = _whole(now)
    swept = {key for cell in (before.cells[0], cells[0], before.cells[-1], cells[-1]) for key in cell.values}
    changed = [
        key
        for key in differing_keys(before.cells[0].base, now)
        if not any(f"{key}.".startswith(f"{name}.") for name in swept)
    ]
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise SweepError(
            f"{before.path} holds another sweep; these keys differ: {', '.join(changed[:_SHOWN])}{more}; "
            "choose another --out"
        )


@contextmanager
def taken_back_on(refusal: type[Exception], path: Path) -> Iterator[None]:
    """Inside `with`, an exception of this type takes back the grid that `begin` put into a folder, and its cells.

    Cells of which the folder held anything before keep what they have: their attempts took over what was there.
    """
    plan, folders = path / "sweep.json", [path / name for name in _FOLDERS]
    before = read_text(plan) if plan.exists() else None
    missing = [*(folder for folder in folders if not folder.exists()), *missing_folders(path)]
    known = {_cell_of(entry) for entry in _entries(folders)}
    try:
        yield
    except refusal:
        for entry in _entries(folders):
            if _cell_of(entry) not in known:
                _remove(entry)
        _remove(plan) if before is None else write_text(plan, before)
        remove_empty(missing)
        raise


def _entries(folders: Iterable[Path]) -> list[Path]:
    return [entry for folder in folders if folder.is_dir() for entry in folder.iterdir()]


def _cell_of(entry: Path) -> str:
    """The cell that a file or folder in a sweep's folder belongs to."""
    return entry.name.partition(".")[0]


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
