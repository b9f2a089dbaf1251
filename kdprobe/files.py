"""Files that are complete or absent (temporary name, fsync, rename), and locks on files that one process writes."""

import errno
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from weakref import WeakSet

from kdprobe.errors import FileError

if sys.platform != "win32":
    import fcntl

_TEMPORARY = re.compile(r"\.(?P<of>.*)\.(?P<place>[0-9A-Za-z-]+)\.(?P<process>[0-9]+)\.[0-9a-f]{8}\.tmp", re.DOTALL)
_NAME_BYTES = 150  # of a file's name that go into its temporary name: file systems allow 255 in all
_FORGOTTEN = 7 * 24 * 3600  # seconds without a write after which another machine's temporary file counts as abandoned
_CLEANED: set[str] = set()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush the file to disk and rename it to `path`.

    An exception inside the block removes the temporary file and leaves `path` as it was. Temporary files that killed
    processes left in the same folder are removed too.

    Raises:
        FileError: if the file cannot be written.
    """
    path = Path(path)
    process = f"{_place()}.{os.getpid()}.{os.urandom(4).hex()}"
    temporary = path.with_name(f".{_beginning(path.name)}.{process}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clean(path.parent)
        try:
            yield temporary
            put_in_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileError:
        raise  # about another file, written inside the block
    except OSError as error:
        raise FileError(error.errno, error.strerror or str(error), str(path)) from error


def put_in_place(finished: Path, path: Path) -> None:
    """Flush a finished file to disk and give it its name: after a power cut there is the old file or the new one."""
    with finished.open("rb") as file:
        os.fsync(file.fileno())
    finished.replace(path)
    sync_folder(path.parent)


def require_writable(path: Path) -> None:
    """Check, before a long computation, that a file can be written beside `path`; nothing is left behind.

    Raises:
        FileError: if it cannot.
    """
    missing = missing_folders(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial = path.with_name(f".{_beginning(path.name)}.{_place()}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
        trial.open("xb").close()
        trial.unlink()
    except OSError as error:
        raise FileError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        remove_empty(missing)


def missing_folders(folder: Path) -> list[Path]:
    """A folder and those above it, as far as they are not there, the innermost first."""
    return [each for each in (folder, *folder.parents) if not os.path.lexists(each)]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of the folders that are there and empty, in this order."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def is_temporary(path: Path) -> bool:
    """Whether a file is one of `replacing`: being written, or left by a process that was killed."""
    return _TEMPORARY.fullmatch(path.name) is not None


def interrupted(path: Path) -> bool:
    """Whether a process that was writing a new `path` was killed, or is still at work."""
    beginning = _beginning(path.name)
    try:
        found = [_TEMPORARY.fullmatch(name) for name in os.listdir(path.parent)]
    except OSError:
        return False
    return any(match is not None and match["of"] == beginning for match in found)


def _beginning(name: str) -> str:
    return os.fsencode(name)[:_NAME_BYTES].decode(errors="ignore")


def _place() -> str:
    """This machine, and the container on it: where a process number identifies a process."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return re.sub("[^0-9A-Za-z]+", "-", f"{socket.gethostname()[:40]}-{space}").strip("-") or "here"


def _clean(folder: Path) -> None:
    """Remove, once per folder, the temporary files of processes that have ended."""
    key = os.path.realpath(folder)
    if key in _CLEANED:
        return
    _CLEANED.add(key)
    place = _place()
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = _TEMPORARY.fullmatch(entry.name)
            if match is None or not entry.is_file(follow_symlinks=False):
                continue
            with suppress(OSError):
                if match["place"] == place:
                    dead = not _runs(int(match["process"]))
                else:
                    dead = time.time() - entry.stat(follow_symlinks=False).st_mtime > _FORGOTTEN
                if dead:
                    os.unlink(entry.path)


def _runs(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    if os.name == "nt":
        return True  # there, asking would end the process
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: if it cannot be read, or is a pipe or device, which could block.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return path.read_bytes()


def read_text(path: Path) -> str:
    """The content of a file in UTF-8.

    Raises:
        OSError: as `read_bytes`.
        UnicodeDecodeError: if it is not UTF-8.
    """
    return read_bytes(path).decode("utf-8")


class Lock:
    """Keeps other processes from a file while it is written; the system releases it when this process dies.

    Where the operating system or the file system has no locks, it does nothing.

    Args:
        path: the lock file, which is empty and is removed on release.

    Raises:
        BlockingIOError: if another process holds the lock.
        FileExistsError: if another kind of file has its name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        if sys.platform != "win32":
            while self._file is None:
                self._file = _locked(path)
            _HELD.add(self._file)

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None and not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()


_HELD: "WeakSet[BinaryIO]" = WeakSet()


def _locked(path: Path) -> BinaryIO | None:
    """The locked file; None if its last holder has removed it in the meantime."""
    with suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size:
            raise FileExistsError(errno.EEXIST, "it is in the way and is not a kdprobe lock", str(path))
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    except OSError:
        return file  # without locks
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    file.close()
    return None


def _forget() -> None:
    """In a forked child, close inherited locks, which would otherwise outlive the parent."""
    for file in list(_HELD):
        file.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget)


def sha256(path: Path) -> str:
    """The hexadecimal sha256 of a file's bytes."""
    import hashlib  # not at the top: helps and lists hash nothing

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shortest_names(paths: Sequence[Path]) -> list[str]:
    """The ends of paths, with as many parents as it takes to tell them apart."""
    parts = [path.parts for path in paths]
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(map(str, paths))
