"""Files of the user's that bear the name of a module that kdprobe needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdprobe.cli import hidden, run
from kdprobe.cli.hidden import check_not_hidden, hidden_module
from kdprobe.errors import KdprobeError

ROOT = Path(__file__).parents[3]
SCRIPT = "import sys, kdprobe; sys.exit(kdprobe.main())"
PAPER = ["paper", "--out", "p", "--format", "svg", "--quiet"]
CHECK = ["data", "check", "digits"]
LIST = ["runs", "ls", "."]
HIDES = "hides the module {!r} that kdprobe needs; rename it, or run kdprobe from another folder"


def typed(folder, *words, how="module"):
    """A command line in a folder, by `python -m kdprobe`, by a script in the folder, or by one that lies elsewhere."""
    place = folder.parent / "bin" if how == "console" else folder
    place.mkdir(exist_ok=True)
    (place / "own.py").write_text(SCRIPT)
    start = ["-m", "kdprobe"] if how == "module" else [str(place / "own.py")]
    return subprocess.run(
        [sys.executable, *start, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def is_one_line(done, path, module):
    return done.returncode == 2 and done.stderr == f"kdprobe: {path} {HIDES.format(module)}\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.mark.parametrize("how", ["module", "script"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("figures", PAPER),
        ("analyses", ["dropout", "sweep"]),
        ("click", ["--help"]),
        ("yaml", LIST),
        ("numpy", CHECK),
        ("json", CHECK),
        ("signal", LIST),
    ],
)
def test_a_file_in_the_way_is_named(name, words, how, folder):
    path = folder / f"{name}.py"
    path.write_text("SIZE = 3\n")
    done = typed(folder, *words, how=how)
    assert is_one_line(done, path, name), done.stderr


@pytest.mark.parametrize("text", ["import sys\nsys.exit('a plot of mine')\n", "raise ValueError\n"])
def test_it_is_not_imported(text, folder):
    (folder / "figures.py").write_text(text)
    assert is_one_line(typed(folder, *PAPER), folder / "figures.py", "figures")
    done = typed(folder, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "(cannot be imported from figures.commands:paper)" in done.stdout


def test_a_package_of_that_name_is_never_taken_for_ours(folder):
    package = folder / "figures"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "commands.py").write_text("import click\n@click.command()\ndef paper():\n    print('another one')\n")
    done = typed(folder, *PAPER)
    assert is_one_line(done, package, "figures")
    assert done.stdout == ""


@pytest.mark.slow
def test_folders_of_pictures_and_of_scripts_hide_nothing(folder):
    for name in ("figures", "analyses"):
        (folder / name).mkdir()
        (folder / name / "commands.py").write_text("raise ValueError\n")
    assert typed(folder, *PAPER).returncode == 0
    assert "there is no sweep" not in typed(folder, "dropout", "--help").stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figures", "analyses", "kdprobe", "torch", "click", "yaml", "types"])
def test_the_console_script_takes_no_notice_of_the_working_folder(name, folder):
    (folder / f"{name}.py").write_text("SIZE = 3\n")
    done = typed(folder, *(PAPER if name in ("figures", "click") else LIST), how="console")
    assert (done.returncode, done.stderr) == (0, "")


def test_another_process_takes_no_notice_of_it_either(folder, monkeypatch):
    from kdprobe.cli.second_hand import SecondHand

    monkeypatch.chdir(folder)
    (folder / "kdprobe.py").write_text("raise ValueError\n")
    helper = SecondHand(folder / "log")
    helper.give(["runs", "ls", "."])
    helper.finish()
    helper.stop()
    assert (folder / "log").read_text() == "no runs below .\n"


def test_run_says_the_same(folder, monkeypatch):
    (folder / "figures.py").write_text("SIZE = 3\n")
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "figures"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(KdprobeError, match=r"figures\.py hides the module 'figures' that kdprobe needs"):
        run("paper", "--out", folder / "p")
    check_not_hidden("another.package")  # no business of ours


def test_other_errors_are_defects(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "only_mine.py").write_text("SIZE = 3\n")
    monkeypatch.syspath_prepend(folder)
    import only_mine

    errors = [
        AttributeError("no such thing", name="thing", obj=only_mine),
        AttributeError("no such thing", name="thing", obj=3),
        ImportError("cannot import name 'thing' from 'kdprobe'", name="kdprobe"),
        ModuleNotFoundError("No module named 'nowhere'", name="nowhere"),
        ImportError("no name at all"),
    ]
    assert [hidden_module(error) for error in errors] == [None] * 5


def test_a_defect_in_code_of_the_users_is_theirs(folder):
    (folder / "json.py").write_text("SIZE = 3\n")
    (folder / "nets.py").write_text("import json\njson.loads\n")
    code = (
        "import kdprobe.cli.group, sys; sys.modules.pop('json', None); from kdprobe.cli.hidden import hidden_module\n"
        "try: import nets\n"
        "except AttributeError as error: print(hidden_module(error))\n"
        "import json\n"
        "try: json.loads\n"
        "except AttributeError as error: print(hidden_module(error.with_traceback(None)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    theirs, ours = done.stdout.splitlines()
    assert (theirs, ours) == ("None", f"{folder / 'json.py'} {HIDES.format('json')}"), done.stderr


def test_a_defect_of_ours_is_none_of_the_working_folder_where_that_is_our_own(monkeypatch):
    import kdprobe

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(hidden, "_elsewhere", lambda *_: True)  # as where another version is installed
    assert hidden_module(AttributeError("no such thing", name="thing", obj=kdprobe)) is None
