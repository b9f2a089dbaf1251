"""Files that are whole or not there: temporary name, fsync, rename; and files that one process alone writes."""

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from weakref import WeakSet

from kdprobe.errors import FileError

if sys.platform != "win32":
    import fcntl


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it over `path`.

    An exception inside the block removes the temporary file and leaves `path` as it was.

    Raises:
        FileError: if the system does not let it be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(error.errno, error.strerror or str(error), str(path)) from error


def is_temporary(path: Path) -> bool:
    """Whether a file is what `replacing` had not finished when its process was killed."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as a whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: if it cannot be read, or is a pipe or device, which would be waited for.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return path.read_bytes()


def read_text(path: Path) -> str:
    """The content of a file in UTF-8.

    Raises:
        OSError: as `read_bytes`.
        UnicodeDecodeError: if it is not UTF-8.
    """
    return read_bytes(path).decode("utf-8")


class Lock:
    """Keeps others from a file while it is written; the system lets go of it when this process dies.

    Where the system or the file system has no locks, it keeps nobody off.

    Args:
        path: of the lock itself, an empty file that goes when it is released.

    Raises:
        BlockingIOError: if it is taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        if sys.platform != "win32":
            while self._file is None:
                self._file = _locked(path)
            _HELD.add(self._file)

    def release(self) -> None:
        """Let others have it."""
        if self._file is not None and not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()


_HELD: "WeakSet[BinaryIO]" = WeakSet()


def _locked(path: Path) -> BinaryIO | None:
    """The locked file; None where its last holder has removed it meanwhile."""
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
    """In a forked child, which would keep its parent's locks when that dies."""
    for file in list(_HELD):
        file.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget)


def sha256(path: Path) -> str:
    """The hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
