"""The folder that keeps a teacher's outputs, for all runs on the same images.

inputs.json           the sha256 of the teacher and of the data
lock                  held for the moment in which entries are written
VIEWS/views.json      what the images look like and how the teacher computes, whose sha256 begins with VIEWS
VIEWS/epoch-0000/     the outputs of that epoch's views, as `entries` describes: logits.npy, pooled.npy, maps.2.npy, ...

Whoever computes an entry first decides what it is; all others read it, and so does the run that wrote it. Therefore it
makes no difference to a run who computed what.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdprobe.errors import StoreError
from kdprobe.files import is_temporary, write_text
from kdprobe.runs.inputs import Inputs, read_inputs
from kdprobe.teachers.entries import Entries, EntryType, forbids_writing, reserve, reserved_bytes
from kdprobe.terminal import worded_bytes

if sys.platform != "win32":
    import fcntl

_INPUTS, _LOCK = "inputs.json", "lock"
_PATIENCE = 60.0  # seconds that another process may take for writing a batch


class Store:
    """The outputs for the views of one kind of training.

    Args:
        folder: of all the teacher's outputs.
        facts: what decides the outputs, besides teacher and data, as JSON values.
        n_views: number of views in an epoch.
        epochs: those whose views are different.
        entries: what is kept of each view, by name.
    """

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, Any],
        *,
        n_views: int,
        epochs: Sequence[int],
        entries: Mapping[str, EntryType],
    ) -> None:
        self.folder, self.n_views, self.epochs, self.entries = folder, n_views, epochs, entries
        self.facts = json.dumps(facts, sort_keys=True, indent=1) + "\n"
        self.path = folder / hashlib.sha256(self.facts.encode()).hexdigest()[:16]
        self._epoch: int | None = None
        self._opened: dict[str, Entries] = {}

    def reserve(self, inputs: Inputs, *, teacher: str, data: str) -> None:
        """Take all the room that the outputs will need, as far as it is not taken.

        Args:
            inputs: as of `check_store`, which is asked again: another process may have begun the store meanwhile.
            teacher: what it was called.
            data: the data SPEC.

        Raises:
            StoreError: if there is not enough, the folder cannot be written, or it is of another teacher or other data;
                then nothing new is left in it.
        """
        check = partial(check_store, self.folder, inputs, teacher=teacher, data=data)
        missing = self._missing()
        if not missing and (self.folder / _INPUTS).exists():
            check()
            return
        size = sum(reserved_bytes(self.n_views, self.entries[path.stem]) for path in missing)
        needs = f"teacher.store {self.folder} needs {worded_bytes(size)}"
        advice = "keep fewer epochs with data.augment.period, or give teacher.store_dtype=float16 or another disk"
        if size > (free := shutil.disk_usage(_existing(self.folder)).free):
            raise StoreError(f"{needs}, but only {worded_bytes(free)} are free there; {advice}")
        made: list[Path] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.alone():
                if not (self.folder / _INPUTS).exists():
                    inputs.write(self.folder / _INPUTS)
                check()
                if not (self.path / "views.json").exists():
                    write_text(self.path / "views.json", self.facts)
                for path in self._missing():
                    made.append(path)
                    reserve(path, self.n_views, self.entries[path.stem])
        except OSError as error:
            for path in made:
                _remove(path)
            if forbids_writing(error):
                advice = "give a folder that can be written, or one that holds all outputs of this training"
            raise StoreError(f"{needs}, which cannot be reserved there: {error.strerror}; {advice}") from error

    def _missing(self) -> list[Path]:
        paths = [self._file(epoch, name) for epoch in self.epochs for name in self.entries]
        return [path for path in paths if not path.exists()]

    def _file(self, epoch: int, name: str) -> Path:
        return self.path / f"epoch-{epoch:04d}" / f"{name}.npy"

    @property
    def n_bytes(self) -> int:
        """The room that all outputs take."""
        return store_bytes(self.entries, self.n_views, self.epochs)

    def fraction(self) -> float:
        """How many of the entries are there."""
        count = sum(one.count() for epoch in self.epochs for one in self.of(epoch).values())
        return count / (len(self.epochs) * len(self.entries) * self.n_views)

    def of(self, epoch: int) -> dict[str, Entries]:
        """The outputs of an epoch's views; those of the epoch before are closed.

        Raises:
            StoreError: if they cannot be read.
        """
        if epoch != self._epoch:
            self.close()
            try:
                for name, entry in self.entries.items():
                    self._opened[name] = Entries(self._file(epoch, name), self.n_views, entry)
            except OSError as error:
                raise StoreError(f"{error.filename} cannot be read: {error.strerror}") from error
            self._epoch = epoch
        return self._opened

    def close(self) -> None:
        """Close all files."""
        for one in self._opened.values():
            one.close()
        self._epoch, self._opened = None, {}

    def read(self, views: Sequence[int], names: Collection[str]) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        """Some outputs of views of one epoch, and where all outputs are there.

        Args:
            views: of one epoch.
            names: of the outputs that are read.

        Returns:
            these outputs [B, ...] by name; and of which views [B] everything that is kept is there.

        Raises:
            StoreError: if they cannot be read.
        """
        epoch, places = views[0] // self.n_views, [view % self.n_views for view in views]
        found, there = {}, []
        for name, one in self.of(epoch).items():
            if name in names:
                found[name], known = one.read(places)
            else:
                known = one.known(places)
            there.append(known)
        return found, np.logical_and.reduce(there)

    def keep(self, views: Sequence[int], computed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Write those outputs that are not there yet.

        Args:
            views: of one epoch.
            computed: their outputs [B, ...], by name.

        Returns:
            what is there now; this differs from what was computed where another process was first.

        Raises:
            StoreError: if there is no room left, or writing is not allowed; what is there stays whole.
        """
        epoch, places = views[0] // self.n_views, [view % self.n_views for view in views]
        kept = {}
        try:
            with self.alone():
                for name, one in self.of(epoch).items():
                    values, known = one.read(places)
                    new = np.flatnonzero(~known)
                    values[new] = computed[name][new]
                    one.write([places[row] for row in new], values[new])
                    kept[name] = values
        except OSError as error:
            raise StoreError(
                f"teacher.store {self.folder} cannot be written: {error.strerror}; what it holds is whole, and the run "
                f"goes on with --resume once {'that is allowed' if forbids_writing(error) else 'there is room'}"
            ) from error
        return kept

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from writing, where the file system can; one that dies lets them.

        Raises:
            StoreError: if another one is still at it after a minute, as one that is frozen.
        """
        with (self.folder / _LOCK).open("ab") as file:
            deadline = time.monotonic() + _PATIENCE
            while not _locked(file.fileno()):
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"another process has been writing to {self.folder} for a minute; end it, or give another "
                        "teacher.store"
                    )
                time.sleep(0.002)
            yield


#: what is said of the folder where it is announced
STORE_LASTS = "it may be deleted after the last training that reads it, and --set teacher.store=FOLDER names another"


def store_bytes(entries: Mapping[str, EntryType], n_views: int, epochs: Sequence[int]) -> int:
    """The room that outputs for the views of one kind of training take, as `Store` is given them."""
    return len(epochs) * sum(reserved_bytes(n_views, entry) for entry in entries.values())


def check_store(folder: Path, inputs: Inputs, *, teacher: str, data: str) -> None:
    """Check that a folder is empty, is not there, or keeps the outputs of this teacher for these data.

    Args:
        folder: of the store.
        inputs: the sha256 of both.
        teacher: what it was called.
        data: the data SPEC.

    Raises:
        StoreError: if it is anything else, naming both hashes.
    """
    kept = read_inputs(folder / _INPUTS)
    if kept is None:
        if os.path.lexists(folder) and (not folder.is_dir() or any(map(_foreign, folder.iterdir()))):
            raise StoreError(
                f"teacher.store {folder} is no store of a teacher's outputs; give a new or an empty folder"
            )
        return
    if kept.teacher != inputs.teacher:
        raise StoreError(
            f"teacher.store {folder} keeps the outputs of a teacher with the sha256 {kept.teacher}, but that of "
            f"{teacher} is {inputs.teacher}; give each teacher a folder of its own"
        )
    if kept.data != inputs.data:
        raise StoreError(
            f"teacher.store {folder} keeps outputs for data with the sha256 {kept.data}, but that of {data} is "
            f"{inputs.data}; give each data set a folder of its own"
        )


def _foreign(path: Path) -> bool:
    """Whether a file is more than what a killed process may leave in a new store."""
    return path.name != _LOCK and not is_temporary(path)


def _locked(descriptor: int) -> bool:
    """Take a lock if nobody has it; where there are no locks, it counts as taken."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.stem}.*"):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()
