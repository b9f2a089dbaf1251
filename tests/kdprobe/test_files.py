import hashlib
import os
import re
import subprocess
import sys

import pytest

from kdprobe import files
from kdprobe.errors import FileError, KdprobeError
from kdprobe.files import (
    Lock,
    interrupted,
    is_temporary,
    read_text,
    replacing,
    require_writable,
    sha256,
    shortest_names,
    write_text,
)


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "one")
    with replacing(path) as temporary:
        temporary.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "one")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_a_place_that_cannot_be_written_is_told_in_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    reasons = {"file/below.txt": "File exists", "file/a/b.txt": "Not a directory", "folder": "Is a directory"}
    for name, reason in reasons.items():
        with pytest.raises(KdprobeError, match=f"{name} cannot be written: {reason}") as caught:
            write_text(tmp_path / name, "one")
        assert isinstance(caught.value, OSError)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "one")
    code = (
        "import os, signal, sys; from pathlib import Path; from kdprobe.files import Lock, replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_text() == "one"


def test_a_lock_keeps_others_off_until_it_is_released(tmp_path):
    path = tmp_path / "x.lock"
    lock = Lock(path)
    with pytest.raises(BlockingIOError):
        Lock(path)
    lock.release()
    assert not path.exists()
    Lock(path).release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_lock_ends_with_its_process_though_a_child_lives(tmp_path):
    path = tmp_path / "x.lock"
    code = (
        "import os, sys; from pathlib import Path; from kdprobe.files import Lock\n"
        "lock = Lock(Path(sys.argv[1]))\n"
        "if os.fork() == 0: print('forked', flush=True); sys.stdin.read()\n"
        "else: os._exit(0)"
    )
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(path)], **piped) as process:
        assert process.stdout.readline() == "forked\n"
        assert process.wait() == 0
        assert path.exists()
        Lock(path).release()


def test_hash_of_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def killed_while_writing(path):
    code = (
        "import os, signal, sys; from pathlib import Path; from kdprobe.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    return {entry.name for entry in path.parent.iterdir() if is_temporary(entry)}


def test_the_next_writer_in_a_folder_removes_what_killed_ones_left_and_nothing_else(tmp_path):
    left = killed_while_writing(tmp_path / "a.txt")
    assert len(left) == 1
    assert interrupted(tmp_path / "a.txt")
    assert not interrupted(tmp_path / "b.txt")
    others = {
        ".a.txt.tmp",  # nobody's of ours
        f".a.txt.{files._place()}.{os.getpid()}.0123abcd.tmp",  # of a process that lives
        ".a.txt.another-host.1.0123abcd.tmp",
    }
    for name in others:
        (tmp_path / name).touch()
    forgotten = tmp_path / ".a.txt.another-host.2.0123abcd.tmp"
    forgotten.touch()
    os.utime(forgotten, (0, 0))
    write_text(tmp_path / "b.txt", "whole")
    assert {entry.name for entry in tmp_path.iterdir()} == {*others, "b.txt"}


def test_machines_with_equal_process_numbers_and_threads_have_different_temporary_names(tmp_path, monkeypatch):
    names = set()
    for host in ("alpha", "beta", "beta"):
        monkeypatch.setattr(files.socket, "gethostname", lambda host=host: host)
        with replacing(tmp_path / "x") as temporary:
            temporary.write_text("x")
            names.add(temporary.name)
    assert len(names) == 3
    assert sum("beta" in name for name in names) == 2


def test_a_name_as_long_as_file_systems_take_can_be_written(tmp_path):
    name = "ü" * 127
    write_text(str(tmp_path / name), "x")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_file_that_is_no_lock_is_left_alone(tmp_path):
    path = tmp_path / "x.lock"
    path.write_text("the user's own")
    with pytest.raises(FileExistsError, match=r"in the way and is not a kdprobe lock"):
        Lock(path)
    assert path.read_text() == "the user's own"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is not a regular file"):
        read_text(tmp_path / "pipe")
    write_text(tmp_path / "file", "caf\u00e9")
    assert read_text(tmp_path / "file") == "caf\u00e9"


@pytest.mark.parametrize("place", ["link/x.npz", "file/x.npz", "file/deeper/x.npz"])
def test_what_cannot_be_written_is_found_before(tmp_path, place):
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=re.escape(str(tmp_path / place))):
        require_writable(tmp_path / place)


def test_looking_whether_it_can_be_written_leaves_nothing(tmp_path):
    require_writable(tmp_path / "a" / "b" / "x.npz")
    assert not list(tmp_path.iterdir())


def test_names_take_as_many_parents_as_needed(tmp_path):
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "b" / "other"]
    assert shortest_names(paths) == ["a/run", "b/run", "b/other"]
    assert shortest_names(paths[1:]) == ["run", "other"]
    assert shortest_names([*paths, paths[0]]) == [*map(str, paths), str(paths[0])]
    assert shortest_names([]) == []
