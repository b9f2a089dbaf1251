"""Entries of an array on disk, each of them whole or missing: one output of a teacher for many images.

NAME.npy       [n, ...], which numpy can read; an entry that was not written yet is 0
NAME.sums.npy  uint32 [n]: a checksum of each entry, written after it; 0 where there is none yet

Entries are read and written in place, one by one: memory holds one batch, and a full disk is an `OSError`, where a
memory map would be a signal. After a kill an entry is there with its checksum, or it counts as missing; so does one
that a power cut or a disk has damaged.
"""

import errno
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from kdprobe.errors import StoreError
from kdprobe.files import replacing

_SUM = np.dtype("<u4")

EntryType = np.dtype[Any]  # of numbers `base` in the shape `shape`


class Entries:
    """Opened for reading, and for writing where that is allowed.

    Args:
        path: NAME.npy, which `reserve` made.
        n: number of entries.
        entry: what each of them is.

    Raises:
        StoreError: if a file is not what it should be.
        OSError: if it cannot be opened.
    """

    def __init__(self, path: Path, n: int, entry: EntryType) -> None:
        self.entry = entry
        self._data, self._start = _opened(path, n, entry)
        self._sums, self._first = _opened(_sums_of(path), n, _SUM)

    def close(self) -> None:
        """Close the files."""
        self._data.close()
        self._sums.close()

    def read(self, places: Sequence[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The entries at some places [B, ...], and which of them [B] are there; the others hold anything."""
        size = self.entry.itemsize
        buffer = bytearray(size * len(places))
        rows = memoryview(buffer)
        known = [self._read(place, rows[row * size : (row + 1) * size]) for row, place in enumerate(places)]
        values = np.frombuffer(buffer, self.entry.base, count=len(buffer) // self.entry.base.itemsize)
        return values.reshape(len(places), *self.entry.shape), np.array(known, dtype=bool)

    def known(self, places: Sequence[int]) -> NDArray[np.bool_]:
        """Which of the entries at some places [B] have been written, without reading them."""
        return np.array([any(self._sum(place)) for place in places], dtype=bool)

    def _sum(self, place: int) -> bytes:
        return os.pread(self._sums.fileno(), _SUM.itemsize, self._first + place * _SUM.itemsize)

    def _read(self, place: int, row: memoryview) -> bool:
        if not any(written := self._sum(place)):
            return False
        count = os.preadv(self._data.fileno(), [row], self._start + place * len(row)) if row else 0
        return count == len(row) and written == _checksum(row)

    def write(self, places: Sequence[int], values: NDArray[Any]) -> None:
        """Write entries [B, ...], each before its checksum.

        Raises:
            OSError: if there is no room, or it is not allowed; the entries before are whole.
        """
        for place, value in zip(places, values, strict=True):
            row = np.ascontiguousarray(value, self.entry.base).tobytes()
            _write(self._data, row, self._start + place * len(row))
            _write(self._sums, _checksum(row), self._first + place * _SUM.itemsize)

    def count(self) -> int:
        """How many entries have been written."""
        self._sums.seek(self._first)
        return int(np.count_nonzero(np.frombuffer(self._sums.read(), _SUM)))


def reserve(path: Path, n: int, entry: EntryType) -> None:
    """Make the files of `n` entries, with all the room that they will need.

    Raises:
        OSError: if there is not enough of it; then there are no such files.
    """
    for place, kind in ((_sums_of(path), _SUM), (path, entry)):  # where the second is, both are
        with replacing(place) as temporary, temporary.open("wb") as file:
            header = {"descr": npy.dtype_to_descr(kind.base), "fortran_order": False, "shape": (n, *kind.shape)}
            npy.write_array_header_1_0(file, header)
            file.flush()
            size = file.tell() + n * kind.itemsize
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)


def reserved_bytes(n: int, entry: EntryType) -> int:
    """The room that `reserve` takes, apart from two headers."""
    return n * (entry.itemsize + _SUM.itemsize)


def forbids_writing(error: OSError) -> bool:
    """Whether an error says that a file, or the whole disk, may only be read, or was opened for that alone."""
    return isinstance(error, PermissionError) or error.errno in (errno.EROFS, errno.EBADF)


def _sums_of(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix('.npy')}.sums.npy")


def _checksum(row: bytes | memoryview) -> bytes:
    return (zlib.crc32(row) or 1).to_bytes(_SUM.itemsize, "little")


def _opened(path: Path, n: int, entry: EntryType) -> tuple[BinaryIO, int]:
    """A file and where its numbers begin."""
    try:
        file = path.open("r+b", buffering=0)
    except OSError as error:
        if not forbids_writing(error):
            raise
        file = path.open("rb", buffering=0)
    try:
        wanted = ((n, *entry.shape), False, entry.base)
        whole = npy.read_magic(file) == (1, 0) and npy.read_array_header_1_0(file) == wanted
    except ValueError:
        whole = False
    start = file.tell()
    if not whole or os.fstat(file.fileno()).st_size != start + n * entry.itemsize:
        file.close()
        raise StoreError(
            f"{path} is damaged: it does not hold {n} entries of {entry.base} {list(entry.shape)}; remove its folder, "
            "and what was in it is computed again"
        )
    return file, start


def _write(file: BinaryIO, data: bytes, position: int) -> None:
    """Write at a position, all of it."""
    while data:
        count = os.pwrite(file.fileno(), data, position)
        data, position = data[count:], position + count
