"""Attempts at cells: who trains a cell now, and whether they are still alive.

An attempt is a file `CELL.N` that only one process can create (`O_EXCL`). Its content says who: host and process; its
modification time is the heartbeat. The attempt with the highest number counts. Whoever finds it ended, or without a
heartbeat for too long, may create number N + 1, and again only one process can. A process that wakes up
after it was given up finds the higher number and ends itself. Attempts are never removed: there is no lock to lose.
"""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kdprobe.files import read_text, write_text

STALE_AFTER = 60.0  # seconds without a heartbeat
_BEATS = 6  # heartbeats in that time


@dataclass(frozen=True)
class Attempt:
    """One process' try at one cell.

    Attributes:
        path: the file.
        number: 1 for the first try at this cell.
        host: where; empty while the file is being written.
        space: the process numbers' space there, which containers on one host do not share.
        process: number of the process.
        started: seconds since 1970.
        beat: time of the last heartbeat, by the file system's clock.
        ended: whether the process said that it is over.
        error: why it failed, if it did.
    """

    path: Path
    number: int
    host: str
    space: str
    process: int
    started: float
    beat: float
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
    """Read one attempt; a file that is just being created has no host yet."""
    path = folder / f"{cell}.{number}"
    beat = path.stat().st_mtime
    try:
        said = json.loads(read_text(path))
    except ValueError:
        said = {"host": "", "space": "", "process": 0, "started": beat}
    return Attempt(path, number, beat=beat, **said)


def alive(attempt: Attempt, *, now: float, stale_after: float) -> bool:
    """Whether an attempt is still under way.

    Args:
        attempt: of any host.
        now: by the file system's clock, see `clock`.
        stale_after: seconds without a heartbeat after which it is given up.
    """
    if attempt.ended or now - attempt.beat > stale_after:
        return False
    here = (attempt.host, attempt.space) == (socket.gethostname(), _space())
    return not here or os.name == "nt" or _exists(attempt.process)


def clock(folder: Path) -> float:
    """Now, by the clock that stamps files in this folder: hosts of a cluster may disagree about the time."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".clock-{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def claim(folder: Path, cell: str, *, stale_after: float = STALE_AFTER) -> Attempt | None:
    """Begin the next attempt at a cell; None if another process is at it."""
    number = last_number(folder, cell)
    now = clock(folder)
    if number and alive(read_attempt(folder, cell, number), now=now, stale_after=stale_after):
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


def end(attempt: Attempt, *, error: str | None = None) -> None:
    """Say that an attempt is over, and why if it failed."""
    said = {name: getattr(attempt, name) for name in ("host", "space", "process", "started")}
    write_text(attempt.path, json.dumps({**said, "ended": True, "error": error}))


@contextmanager
def beating(attempt: Attempt, *, stale_after: float = STALE_AFTER) -> Iterator[None]:
    """Send heartbeats; kill this process if the attempt was given up and another process began the next one."""
    stop = threading.Event()
    successor = attempt.path.with_suffix(f".{attempt.number + 1}")

    def beat() -> None:
        while not stop.wait(stale_after / _BEATS):
            if successor.exists():
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


def _space() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
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
