"""Attempts at cells: who trains a cell now, and whether they are still alive.

An attempt is a file `CELL.N` that only one process can create (`O_EXCL`). It names the host and the process; each
heartbeat changes its modification time. The attempt with the highest number counts, and its number is the token of the
lease: its process works in a folder of that number, which a successor takes away by renaming it, so that nothing that
a process writes after it was given up reaches the cell, whenever it wakes up (`work`).

A process that finds an attempt ended, or its process gone, may create number N + 1, and again only one process can. So
may a worker whose driver has seen the heartbeat stand still: for long enough by the driver's own clock, and looking
often enough in that time. The time of the file does not count: clocks differ and jump, and a machine that was suspended
has not watched. A process that wakes up after it was given up finds the higher number and ends
itself. Attempts are never removed: there is no lock to lose.
"""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kdprobe.files import read_text, write_text

STALE_AFTER = 60.0  # seconds without a heartbeat
BEATS = 6  # heartbeats in that time


@dataclass(frozen=True)
class Attempt:
    """One process's try at one cell.

    Attributes:
        path: the file.
        number: 1 for the first try at this cell.
        host: the machine; empty while the file is being written.
        space: namespace of its process number, which containers on one host do not share.
        process: number of the process.
        started: seconds since 1970.
        beat: nanoseconds of the last heartbeat, by the file system's clock: a counter, good for seeing it change.
        ended: whether its process recorded that it is over.
        error: why it failed, if it did.
    """

    path: Path
    number: int
    host: str
    space: str
    process: int
    started: float
    beat: int
    ended: bool = False
    error: str | None = None


def last_number(folder: Path, cell: str) -> int:
    """The number of the newest attempt at a cell, 0 without any."""
    number = 0
    while (folder / f"{cell}.{number + 1}").exists():
        number += 1
    return number


def last_numbers(folder: Path) -> dict[str, int]:
    """The numbers of the newest attempts at all cells that have any."""
    numbers: dict[str, int] = {}
    for name in os.listdir(folder) if folder.is_dir() else []:
        cell, _, number = name.partition(".")
        if cell and number.isdecimal():
            numbers[cell] = max(numbers.get(cell, 0), int(number))
    return numbers


def read_attempt(folder: Path, cell: str, number: int) -> Attempt:
    """Read one attempt; a file that is just being created, or is damaged, has no host."""
    path = folder / f"{cell}.{number}"
    beat = path.stat().st_mtime_ns
    unknown = Attempt(path, number, "", "", 0, beat / 1e9, beat)
    try:
        said = json.loads(read_text(path))
    except Exception:  # whatever a parser raises over a damaged file: its heartbeat counts all the same
        return unknown
    if not isinstance(said, dict) or said.keys() - _SAID.keys():
        return unknown
    whole = {"ended": False, "error": None, **said}
    if any(key not in whole or not fits(whole[key]) for key, fits in _SAID.items()):
        return unknown
    return Attempt(path, number, beat=beat, **whole)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 2**40  # type: ignore[operator]


#: what an attempt's file holds, and whether a value can be it
_SAID: dict[str, Callable[[object], bool]] = {
    "host": _is_text,
    "space": _is_text,
    "process": lambda value: type(value) is int and 0 < value < 2**31,
    "started": _is_number,
    "ended": lambda value: isinstance(value, bool),
    "error": lambda value: value is None or isinstance(value, str),
}


def over(attempt: Attempt) -> bool:
    """Whether an attempt has certainly ended: that is recorded, or its process ran on this machine and is gone."""
    here = (attempt.host, attempt.space) == (socket.gethostname(), _space())
    return attempt.ended or (here and os.name != "nt" and not _exists(attempt.process))


class Heartbeats:
    """Watches by this process's own clock whether heartbeats change.

    Args:
        stale_after: seconds without a change after which an attempt is silent.
    """

    def __init__(self, stale_after: float = STALE_AFTER) -> None:
        self._stale_after = stale_after
        self._seen: dict[Path, tuple[int, float, float]] = {}

    def silent(self, attempt: Attempt) -> bool:
        """Whether an attempt's heartbeat has not changed for long enough; ask every few seconds.

        Only watched time counts: after a pause of this process, a worker that paused with it has its time again.
        """
        now = time.monotonic()
        beat, looked, watched = self._seen.get(attempt.path, (None, now, 0.0))
        if beat != attempt.beat:
            watched = 0.0
        else:
            watched += min(now - looked, self._stale_after / BEATS)
        self._seen[attempt.path] = (attempt.beat, now, watched)
        return watched >= self._stale_after


def claim(folder: Path, cell: str, *, given_up: int = 0) -> Attempt | None:
    """Begin the next attempt at a cell; None if another process is at it.

    Args:
        folder: the folder of the attempts.
        cell: id.
        given_up: number of the attempt that was found to be silent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = last_number(folder, cell)
    if number and number != given_up and not over(read_attempt(folder, cell, number)):
        return None
    path = folder / f"{cell}.{number + 1}"
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return None
    said = {"host": socket.gethostname(), "space": _space(), "process": os.getpid(), "started": time.time()}
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(said))
    return read_attempt(folder, cell, number + 1)


def superseded(attempt: Attempt) -> bool:
    """Whether another process was given the cell after this attempt."""
    return attempt.path.with_suffix(f".{attempt.number + 1}").exists()


def end(attempt: Attempt, *, error: str | None = None) -> None:
    """Record that an attempt is over, and why if it failed."""
    said = {name: getattr(attempt, name) for name in ("host", "space", "process", "started")}
    write_text(attempt.path, json.dumps({**said, "ended": True, "error": error}))


@contextmanager
def beating(attempt: Attempt, *, stale_after: float = STALE_AFTER) -> Iterator[None]:
    """Send heartbeats; kill this process if the attempt was given up and another process began the next one."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(stale_after / BEATS):
            if superseded(attempt):
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
            with suppress(OSError):  # a file server may be away for a moment
                os.utime(attempt.path)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@cache
def _space() -> str:
    """What distinguishes this machine, since its start, and this container from all others of the same name."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _zombie(process)


def _zombie(process: int) -> bool:
    """Dead, but its parent has not asked for its exit status yet."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False
