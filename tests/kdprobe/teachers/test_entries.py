"""Arrays on disk whose entries are whole or missing."""

import errno
import resource
from contextlib import contextmanager

import numpy as np
import pytest

from kdprobe.errors import StoreError
from kdprobe.teachers.entries import Entries, reserve, reserved_bytes

VECTOR = np.dtype(("<f4", (5,)))
N = 40


@pytest.fixture
def path(tmp_path):
    reserve(tmp_path / "maps.2.npy", N, VECTOR)
    return tmp_path / "maps.2.npy"


@contextmanager
def opened(path, entry=VECTOR, n=N):
    found = Entries(path, n, entry)
    try:
        yield found
    finally:
        found.close()


@contextmanager
def no_file_above(n_bytes):
    """As `ulimit -f`: what would make a file larger is an error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_written_is_read_and_the_rest_is_missing(path):
    values = np.random.default_rng(0).normal(size=(3, 5)).astype("f4")
    with opened(path) as entries:
        assert entries.count() == 0
        entries.write([7, 0, 39], values)
        found, known = entries.read([39, 1, 0, 7])
        assert known.tolist() == [True, False, True, True]
        assert np.array_equal(found[[0, 2, 3]], values[[2, 1, 0]])
        assert entries.count() == 3
    assert np.array_equal(np.load(path, mmap_mode="r")[7], values[0])  # any program can read it
    assert np.load(path.with_name("maps.2.sums.npy")).nonzero()[0].tolist() == [0, 7, 39]
    assert reserved_bytes(N, VECTOR) == N * 24


@pytest.mark.parametrize("entry", [np.dtype("<f2"), np.dtype(("<f4", (2, 3, 1))), np.dtype(("<f4", (0,)))])
def test_entries_of_any_shape(tmp_path, entry):
    reserve(tmp_path / "x.npy", 4, entry)
    values = np.arange(2 * np.prod(entry.shape, dtype=int)).reshape(2, *entry.shape).astype(entry.base)
    with opened(tmp_path / "x.npy", entry, 4) as entries:
        entries.write([3, 1], values)
        found, known = entries.read([1, 2, 3])
    assert known.tolist() == [True, False, True]
    assert found.shape == (3, *entry.shape)
    assert np.array_equal(found[[2, 0]], values)


def test_an_entry_without_its_checksum_or_with_another_content_is_missing(path):
    with opened(path) as entries:
        entries.write([3, 4, 5], np.ones((3, 5), "f4"))
    content = bytearray(path.read_bytes())
    content[-N * 20 + 4 * 20 + 1] ^= 1  # a bit of entry 4
    path.write_bytes(content)
    sums = path.with_name("maps.2.sums.npy")
    sums.write_bytes(sums.read_bytes()[: -(N - 5) * 4] + bytes((N - 5) * 4))  # as if killed before that of entry 5
    with opened(path) as entries:
        found, known = entries.read([3, 4, 5])
        assert known.tolist() == [True, False, False]
        entries.write([4], found[:1])
        assert entries.read([4])[1].tolist() == [True]


def test_room_is_taken_at_once_or_not_at_all(tmp_path):
    with no_file_above(10_000):
        reserve(tmp_path / "fits.npy", 400, VECTOR)
        with pytest.raises(OSError, match=r"large.*\.npy cannot be written: File too large"):
            reserve(tmp_path / "large.npy", 4000, VECTOR)
    assert (tmp_path / "fits.npy").stat().st_blocks * 512 >= 400 * 20
    assert not (tmp_path / "large.npy").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_write_that_fails_is_an_error_and_leaves_whole_entries(path):
    values = np.ones((N, 5), "f4")
    with opened(path) as entries, no_file_above(path.stat().st_size - 30):
        with pytest.raises(OSError, match="File too large"):
            entries.write(range(N), values)
        known = entries.read(range(N))[1]
    assert known.tolist() == [True] * (N - 2) + [False] * 2


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_what_cannot_be_written_can_be_read(path, monkeypatch, number):
    with opened(path) as entries:
        entries.write([1], np.ones((1, 5), "f4"))
    original = type(path).open

    def refused(self, mode="r", **options):
        if "+" in mode:
            raise OSError(number, "may only be read", str(self))
        return original(self, mode, **options)

    monkeypatch.setattr(type(path), "open", refused)
    with opened(path) as entries:
        assert entries.read([1])[1].all()
        with pytest.raises(OSError, match="Bad file descriptor"):
            entries.write([2], np.ones((1, 5), "f4"))


@pytest.mark.parametrize("damage", ["cut", "other", "foreign"])
def test_other_files_are_refused(path, damage):
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "foreign":
        path.write_bytes(b"something else")
    entry = np.dtype(("<f4", (6,))) if damage == "other" else VECTOR
    message = rf"maps\.2\.npy is damaged: it does not hold 40 entries of float32 \[{entry.shape[0]}\]; remove its"
    with pytest.raises(StoreError, match=message):
        Entries(path, N, entry)
