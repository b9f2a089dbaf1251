"""Progress: a bar on a terminal, lines elsewhere, nothing when quiet."""

import io
import re
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

import kdprobe
from kdprobe.cli import group
from kdprobe.terminal import progress
from tests.small_sweeps import until


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.02)


def terminal(monkeypatch):
    """Both outputs become a terminal."""
    stream = Terminal()
    monkeypatch.setattr(sys, "__stdout__", Terminal())
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def heard(capsys, pattern):
    """Wait for a line."""
    text = ""

    def found():
        nonlocal text
        text += capsys.readouterr().err
        return re.search(pattern, text, re.M)

    until(found)
    return text


def test_lines_tell_step_speed_and_time_left(often, capsys):
    with progress.progress("cka", 100) as shown:
        shown(30)
        shown(30)
        text = heard(capsys, r"^cka: step 2/4, 60/100 images, [\d,.]+ images/s, [\d.]+ s left$")
    assert "\r" not in text


def test_the_time_left_counts_what_follows():
    task = progress._Counted("epoch 1/3", 100, "images", 0, 200, lambda: "")
    task.start -= 10
    task.update(50)
    assert task.text() == "step 1/2, 50/100 images, 5 images/s, 50 s left"


def test_what_was_there_does_not_count_as_speed():
    task = progress._Counted("sweep", 8, "cells", 4, 0, lambda: "2 running")
    task.start -= 20
    assert task.text() == "4/8 cells, 2 running, 20 s so far"
    task.update(1)
    assert task.text() == "5/8 cells, 2 running, 0.05 cells/s, 60 s left"


@pytest.mark.parametrize(("seconds", "words"), [(3, "3 s"), (600, "10 min"), (9000, "2.5 h")])
def test_times_in_words(seconds, words):
    assert progress.worded_time(seconds) == words


def test_what_cannot_be_counted_gives_a_sign_of_life(often, capsys):
    with progress.phase("dump"), progress.phase("loading"):
        heard(capsys, r"^dump, loading: 0 s so far$")


@pytest.mark.parametrize(
    ("seconds", "words"), [(7, "7 s"), (95, "1 min 35 s"), (151, "2 min 31 s"), (7384, "2 h 3 min 4 s")]
)
def test_a_long_wait_says_something_new_each_time(seconds, words):
    task = progress._Task("dump")
    task.start -= seconds
    assert task.text() == f"{words} so far"
    task.start -= progress.EVERY
    assert task.text() != f"{words} so far"


def test_a_long_first_step_gives_one_too(often, capsys):
    with progress.progress("features", 10):
        heard(capsys, r"^features: 0/10 images, 0 s so far$")


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_silences_what_is_inside(often, capsys, quiet):
    with progress.phase("outside", quiet=quiet), progress.progress("inside", 10) as shown:
        shown(1)
        if not quiet:
            heard(capsys, "inside")
        time.sleep(0.1)
    assert ("inside" in capsys.readouterr().err) <= (not quiet)


def test_other_ranks_are_silent(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    before = threading.active_count()
    with progress.phase("train"), progress.progress("epoch", 10) as shown:
        shown(1)
        assert threading.active_count() <= before  # another test's may end meanwhile


def test_a_line_that_was_just_written_is_sign_enough(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.5)
    with progress.phase("train"):
        for _ in range(8):
            progress.say("epoch")
            time.sleep(0.1)
    assert set(capsys.readouterr().err.split()) == {"epoch"}


def test_brief_leaves_lines_out(capsys):
    with progress.brief():
        progress.say("epoch 1/2")
    progress.say("epoch 2/2")
    assert capsys.readouterr().err == "epoch 2/2\n"


def test_the_thread_ends_with_the_last_task(often):
    with progress.phase("a"):
        assert any(thread.name == "progress" for thread in threading.enumerate())
    until(lambda: not any(thread.name == "progress" for thread in threading.enumerate()))


def test_a_terminal_gets_a_bar_and_lines_above_it(often, monkeypatch):
    shows = terminal(monkeypatch)
    with progress.progress("epoch 1/2", 10) as shown:
        time.sleep(0.6)
        shown(5)
        progress.say("a line")
    assert "epoch 1/2" in shows.getvalue()
    assert "a line\n" in shows.getvalue()
    assert not any(thread.name == "progress" for thread in threading.enumerate())


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_one_output_that_is_no_terminal_is_enough_for_lines(monkeypatch, closed):
    terminal(monkeypatch)
    assert progress.on_terminal()
    monkeypatch.setattr(sys, {"stdout": "__stdout__", "stderr": "stderr"}[closed], io.StringIO())
    assert not progress.on_terminal()


def test_nobody_listens(often, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    stream.close()
    with progress.phase("train"):
        time.sleep(0.1)


@pytest.mark.parametrize("quiet", [True, False])
def test_commands_are_phases(often, capsys, monkeypatch, quiet):
    monkeypatch.setattr(group.cli, "main", lambda words, **_: quiet or heard(capsys, r"^dump: 0 s so far$"))
    kdprobe.main(["dump", "--out", "x", *(["--quiet"] if quiet else [])])


@pytest.mark.slow
def test_a_training_whose_outputs_are_files_says_how_far_it_is(tmp_path):
    code = (
        "import kdprobe; from kdprobe.terminal import progress; progress.EVERY = 0.01; "
        "kdprobe.main(['train', 'digits/demo-student', '--method', 'plain', '--set', 'training.epochs=3', "
        "'--out', 'run'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.search(r"^train, epoch \d/3: step \d/5, \d+/50 images, \d+ images/s, \d+ s left$", done.stderr, re.M)


def test_a_notebook_gets_a_bar(monkeypatch):
    class ZMQInteractiveShell:
        pass

    bars = []
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))
    monkeypatch.setattr(
        "tqdm.auto.tqdm", lambda **options: bars.append(options) or nullcontext(SimpleNamespace(update=bars.append))
    )
    assert not progress.on_terminal()
    assert progress.in_notebook()
    with progress.progress("cka", 100) as shown:
        shown(30)
    assert (bars[0]["total"], bars[1]) == (100, 30)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not progress.in_notebook()
