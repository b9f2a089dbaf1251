"""The folder of a teacher's outputs: whose they are, room for them, and several processes at once."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest

from kdprobe.errors import StoreError
from kdprobe.runs.inputs import Inputs
from kdprobe.teachers import store as module
from kdprobe.teachers.store import Store, check_store
from tests.kdprobe.teachers.test_entries import no_file_above
from tests.small_sweeps import environment

INPUTS = Inputs("a" * 64, "b" * 64)
NAMES = {"teacher": "T", "data": "D"}
ENTRIES = {"logits": np.dtype(("<f4", (10,))), "maps.1": np.dtype(("<f4", (3, 2, 2)))}
N = 50


@pytest.fixture
def opened():
    stores = []

    def make(folder, *, facts=None, epochs=(0, 1), entries=ENTRIES, reserved=True):
        stores.append(Store(folder, facts or {"seed": 0}, n_views=N, epochs=epochs, entries=entries))
        if reserved:
            stores[-1].reserve(INPUTS, **NAMES)
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def outputs(n, seed=0):
    draw = np.random.default_rng(seed)
    return {name: draw.normal(size=(n, *entry.shape)).astype("f4") for name, entry in ENTRIES.items()}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_outputs_are_kept_by_view_and_epoch(tmp_path, opened):
    store = opened(tmp_path / "S")
    first, second = outputs(3), outputs(2, seed=1)
    assert same(store.keep([4, 2, 9], first), first)
    assert same(store.keep([N + 4, N + 5], second), second)
    again = opened(tmp_path / "S")
    found, known = again.read([2, 4, 8], ENTRIES)
    assert known.tolist() == [True, True, False]
    assert np.array_equal(found["maps.1"][:2], first["maps.1"][[1, 0]])
    assert np.array_equal(again.read([N + 4], ENTRIES)[0]["logits"], second["logits"][:1])
    assert again.fraction() == 5 / (2 * N)
    assert again.n_bytes == 2 * N * (40 + 4 + 48 + 4)


def test_another_kind_of_view_has_a_folder_of_its_own(tmp_path, opened):
    opened(tmp_path / "S").keep([1], outputs(1))
    other = opened(tmp_path / "S", facts={"seed": 1})
    assert not other.read([1], ENTRIES)[1].any()
    assert len(list((tmp_path / "S").glob("*/views.json"))) == 2


def test_a_run_that_reads_more_outputs_finds_those_that_are_there(tmp_path, opened):
    opened(tmp_path / "S", entries={"logits": ENTRIES["logits"]}).keep([1], outputs(1))
    both = opened(tmp_path / "S")
    assert not both.read([1], ENTRIES)[1].any()  # as not all of them are
    kept = both.keep([1], outputs(1, seed=5))
    assert np.array_equal(kept["logits"], outputs(1)["logits"])
    assert np.array_equal(kept["maps.1"], outputs(1, seed=5)["maps.1"])


def test_whoever_is_first_decides(tmp_path, opened):
    one, other = opened(tmp_path / "S"), opened(tmp_path / "S")
    one.keep([1, 2], outputs(2))
    kept = other.keep([2, 3], outputs(2, seed=1))
    assert np.array_equal(kept["logits"][0], outputs(2)["logits"][1])
    assert np.array_equal(kept["logits"][1], outputs(2, seed=1)["logits"][1])
    assert same(one.read([2, 3], ENTRIES)[0], kept)


def test_a_store_is_of_one_teacher_and_one_data_set(tmp_path, opened):
    folder = tmp_path / "S"
    check_store(folder, INPUTS, teacher="T", data="D")
    opened(folder)
    check_store(folder, INPUTS, teacher="T", data="D")
    with pytest.raises(
        StoreError, match=f"outputs of a teacher with the sha256 {'a' * 64}, but that of T is {'c' * 64}"
    ):
        check_store(folder, Inputs("c" * 64, "b" * 64), teacher="T", data="D")
    with pytest.raises(StoreError, match=f"outputs for data with the sha256 {'b' * 64}, but that of D is {'c' * 64}"):
        check_store(folder, Inputs("a" * 64, "c" * 64), teacher="T", data="D")


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(StoreError, match="is no store of a teacher's outputs; give a new or an empty folder"):
            check_store(folder, INPUTS, teacher="T", data="D")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "lock").touch()  # as a kill leaves it
    check_store(tmp_path / "empty", INPUTS, teacher="T", data="D")


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, opened, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, 5000))
    with pytest.raises(StoreError, match=r"S needs 0\.0 MB, but only 0\.0 MB are free there; keep fewer epochs with"):
        opened(tmp_path / "S")
    assert not (tmp_path / "S").exists()


def test_room_that_cannot_be_reserved_is_given_back(tmp_path, opened):
    first = opened(tmp_path / "S", epochs=(0,), entries={"logits": ENTRIES["logits"]})
    first.keep([1], outputs(1))
    large = {**ENTRIES, "maps.2": np.dtype(("<f4", (1000,)))}
    with no_file_above(50_000), pytest.raises(StoreError, match="which cannot be reserved there: File too large; keep"):
        opened(tmp_path / "S", epochs=(0,), entries=large)
    assert sorted(path.name for path in first.path.glob("*/*")) == ["logits.npy", "logits.sums.npy"]
    assert opened(tmp_path / "S", epochs=(0,), entries={"logits": ENTRIES["logits"]}).read([1], ENTRIES)[1].all()


def test_a_disk_that_is_full_while_storing_is_one_line(tmp_path, opened, monkeypatch):
    store, original = opened(tmp_path / "S"), os.pwrite
    written = []

    def full(*arguments):
        written.append(arguments)
        if len(written) > 5:  # entries of logits and their checksums: the third has none yet
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreError, match=r"S cannot be written: No space left on device; what it holds is whole"):
        store.keep([1, 2, 3], outputs(3))
    monkeypatch.undo()
    assert [entries.read([1, 2, 3])[1].tolist() for entries in store.of(0).values()] == [
        [True, True, False],
        [False] * 3,
    ]
    assert same(store.keep([1, 2, 3], outputs(3)), outputs(3))


def test_a_store_that_is_gone_is_named(tmp_path, opened):
    store = opened(tmp_path / "S")
    shutil.rmtree(tmp_path / "S")
    with pytest.raises(StoreError, match=r"epoch-0001/logits\.npy cannot be read: No such file or directory"):
        store.read([N], ENTRIES)


def test_a_frozen_writer_does_not_hold_all_others_up_for_ever(tmp_path, opened, monkeypatch):
    store = opened(tmp_path / "S")
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    with (tmp_path / "S" / "lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"another process has been writing to .*S for a minute; end it"):
            store.keep([1], outputs(1))
        store.read([1], ENTRIES)  # needs no lock
    store.keep([1], outputs(1))


def test_file_systems_without_locks_are_written_too(tmp_path, opened, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    assert same(opened(tmp_path / "S").keep([1], outputs(1)), outputs(1))


WRITER = """
import sys
from pathlib import Path
import numpy as np
from tests.kdprobe.teachers.test_store import ENTRIES, INPUTS, N, NAMES, outputs
from kdprobe.teachers.store import Store

seed = int(sys.argv[2])
store = Store(Path(sys.argv[1]), {"seed": 0}, n_views=N, epochs=range(10), entries=ENTRIES)
store.reserve(INPUTS, **NAMES)
print("ready", flush=True)
sys.stdin.readline()
for number in range(200):  # each view twice
    epoch, batch = divmod(number, 20)
    views = [epoch * N + (5 * batch + place) % N for place in range(5)]
    kept = store.keep(views, outputs(5, seed=1000 * seed + number))
    for view, row in zip(views, kept["logits"]):
        print(view, row.tobytes().hex())
"""


@pytest.mark.slow
def test_processes_that_write_at_once_all_use_the_same(tmp_path):
    """Each computes other numbers, as machines do, and yet all go on with the same ones."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "S")]
    writers = [
        subprocess.Popen(
            [*command, str(seed)], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for seed in range(3)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    told = [set(writer.communicate(timeout=200)[0].splitlines()) for writer in writers]
    assert told[0] == told[1] == told[2]
    assert len(told[0]) == 10 * N
