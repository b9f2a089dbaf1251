import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kdprobe.cli import group as cli
from kdprobe.errors import KdprobeError, near_matches

ROOT = Path(__file__).parents[3]


def exit_of(capsys, *arguments):
    """Exit status and standard error of a command line."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code, capsys.readouterr().err


BAD = {
    "command": (["trian"], "no command 'trian'; did you mean 'train'?"),
    "option": (["train", "--sed", "1"], "No such option"),
    "recipe": (["train", "digits/resnet9"], "no recipe 'digits/resnet9'; did you mean 'digits/resnet8'"),
    "no recipe": (["train"], "give a recipe"),
    "data": (["train", "digits/resnet8", "--data", "digts"], "no data set 'digts'; did you mean 'digits'?"),
    "model": (["train", "digits/resnet8", "--set", "model.name=resnet9"], "no model 'resnet9'; did you mean 'resnet"),
    "argument": (
        ["train", "digits/vit-teacher", "--set", "model.args.depht=3"],
        "no argument 'depht'; did you mean 'depth'?",
    ),
    "method": (["train", "digits/resnet8", "--method", "dropdk"], "no method 'dropdk'; did you mean 'dropkd'"),
    "rate": (
        ["train", "digits/resnet8-dropkd", "--set", "method.logit_rate_teacher=1.0"],
        "method.logit_rate_teacher: input should be less than 1, but is 1.0",
    ),
    "no teacher": (["train", "digits/resnet8-kd"], "method 'kd' needs a teacher"),
    "teacher for nothing": (["train", "digits/resnet8", "--teacher", "x"], "method 'plain' has no use for a teacher"),
    "missing teacher": (["train", "digits/resnet8-kd", "--teacher", "nowhere"], "there is no checkpoint nowhere"),
    "device": (["train", "digits/resnet8", "--device", "cuda:7"], "there is no device 'cuda:7'"),
    "folder as it is written": (["train", "digits/resnet8", "--data", "folder:my set #1"], "no folder my set #1"),
    "missing folder": (["train", "digits/resnet8", "--data", "folder:nowhere"], "nowhere"),
    "runs": (["runs", "ls", "nowhere"], "there is no folder nowhere"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD[case]
    status, text = exit_of(capsys, *arguments)
    assert status == 2
    assert message in text
    assert text.count("\n") == 1, text
    assert not list(tmp_path.iterdir()), "nothing may be written"


@pytest.mark.parametrize("place", ["/proc/nowhere", "file/below"])
def test_a_place_that_cannot_be_written_is_one_line(place, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    status, text = exit_of(capsys, "complexity", "resnet8", "--out", place)
    assert status == 2
    assert place.split("/")[-2] in text
    assert text.count("\n") == 1, text


def test_run_lets_errors_through():
    with pytest.raises(KdprobeError, match="no command 'trian' is installed; did you mean 'train'"):
        cli.run("trian")


def test_a_command_that_cannot_be_imported_breaks_only_itself(monkeypatch, capsys):
    from importlib.metadata import EntryPoint

    broken = EntryPoint("broken", "nowhere_at_all:thing", cli.GROUP)
    monkeypatch.setattr(cli, "_entry_points", lambda: {"broken": broken})
    cli.cli.main(["--help"], standalone_mode=False)
    assert "(cannot be imported from nowhere_at_all:thing)" in capsys.readouterr().out
    status, text = exit_of(capsys, "broken")
    assert status == 2
    assert "command 'broken' cannot be imported from nowhere_at_all:thing: No module named 'nowhere_at_all'" in text


def test_no_arguments_show_the_help(capsys):
    status, text = exit_of(capsys)
    assert status == 2
    assert text == ""


def test_stopping_is_one_line(monkeypatch, capsys):
    def stop(*_arguments, **_options):
        raise click.Abort

    monkeypatch.setattr(cli.cli, "main", stop)
    assert exit_of(capsys, "train") == (130, "kdprobe: stopped\n")


def test_near_matches_list_what_is_known_where_nothing_is_near():
    assert near_matches("zzz", ["b", "a"]) == "; known: a, b"
    assert near_matches("zzz", []) == ""
    assert near_matches("zzz", [f"n{i:02}" for i in range(20)]).endswith("n11, ...")


def test_a_file_of_the_users_in_place_of_a_package_is_named(tmp_path):
    (tmp_path / "figures.py").write_text("SIZE = 3\n")
    done = subprocess.run(
        [sys.executable, "-m", "kdprobe", "paper", "--out", "p", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert f"{tmp_path / 'figures.py'} is imported instead, rename it or work in another folder" in done.stderr


def test_huge_names_are_neither_compared_nor_shown_whole():
    long = ["w" * 3000 + str(number) for number in range(2000)]
    assert len(near_matches("w" * 3000, [*long, "known"])) < 3000
    assert near_matches("knwn", [*long, "known"]) == "; did you mean 'known'?"
