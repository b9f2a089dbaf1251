import gc
import io
import re
import signal
import sys
import warnings

import pytest

import kdprobe
from kdprobe.cli import group
from kdprobe.terminal import echo, printable


def test_what_a_terminal_would_obey_is_shown_instead():
    assert printable("a\x1b[31m\x07\r\x9b\x7f\u202e\udc80b") == r"a\x1b[31m\x07\r\x9b\x7f\u202e\udc80b"
    assert printable("ä\tβ 中\n±") == "ä\tβ 中\n±"


def test_a_terminal_without_the_character_shows_its_number(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    echo("1 ± 2")
    stream.flush()
    assert stream.buffer.getvalue() == b"1 \\xb1 2\n"


@pytest.mark.parametrize("words", [["runs", "ls", "a\x1b[2J"], ["report", "a\x07.npz"], ["a\x1b"]])
def test_errors_with_names_in_them_are_harmless(words, capsys):
    assert kdprobe.main(words) == 2
    assert not set(capsys.readouterr().err) & {"\x1b", "\x07"}


def test_warnings_are_a_line_too_and_each_is_said_once(monkeypatch, capsys):
    def warn(*_words, **_options):
        warnings.simplefilter("always")
        for text in ("glyph \x07\n missing", "another", "glyph \x07 missing"):
            warnings.warn(text, UserWarning, stacklevel=1)

    monkeypatch.setattr(group.cli, "main", warn)
    for _ in range(2):
        kdprobe.main(["data", "check", "digits"])
        assert capsys.readouterr().err == "warning: glyph \\x07 missing\nwarning: another\n"


def test_letters_that_fonts_lack_are_told_once(monkeypatch, capsys):
    def warn(*_words, **_options):
        warnings.simplefilter("always")
        for number in (40658, 29356):
            text = f"Glyph {number} (\\N{{CJK UNIFIED IDEOGRAPH-9ED2}}) missing from font(s) DejaVu Sans."
            warnings.warn(text, UserWarning, stacklevel=1)

    monkeypatch.setattr(group.cli, "main", warn)
    kdprobe.main(["data", "check", "digits"])
    said = capsys.readouterr().err
    assert said.startswith("warning: the fonts of a figure lack letters of its names")
    assert said.count("\n") == 1


def test_nothing_else_writes_to_the_terminal():
    """Whoever prints a name by another way prints it as it is."""
    from tests.test_house import ROOT, sources

    for package in ("kdprobe", "analyses", "figures"):
        for path in sources(package):
            if path.relative_to(ROOT).as_posix() not in (
                "kdprobe/terminal/__init__.py",
                "kdprobe/sweeps/work.py",
            ):  # into a log
                text = path.read_text(encoding="utf-8")
                code = re.sub(r"^ *(>>>|\.\.\.) .*$", "", text, flags=re.MULTILINE)  # examples print what they show
                assert not re.search(r"\b(click\.echo|print)\(", code), path


def test_the_interpreter_ends_without_going_through_all_of_torch(monkeypatch):
    kept = []
    monkeypatch.setattr("atexit.register", kept.append)
    monkeypatch.setattr(group.cli, "main", lambda *_words, **_options: None)
    assert kdprobe.main([]) == 0
    assert kept == [gc.freeze]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_told_to_stop_says_so(number, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)

    def told(*_words, **_options):
        signal.raise_signal(number)
        pytest.fail("the command went on")

    monkeypatch.setattr(group.cli, "main", told)
    status = kdprobe.main(["data", "check", "digits"])
    assert (status, capsys.readouterr().err.strip()) == (130, "kdprobe: stopped")
    assert signal.getsignal(signal.SIGTERM) == before
