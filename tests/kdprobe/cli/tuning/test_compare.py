"""`kdprobe compare`: what it refuses, what it says beforehand, and a real comparison, killed and extended."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import kdprobe
from kdprobe.config import override, parse
from kdprobe.distillers import option_types
from kdprobe.recipe import read_recipe
from kdprobe.results import load_result
from kdprobe.runs.compare import gather, group
from kdprobe.runs.folder import RunFolder
from kdprobe.sweeps.attempts import last_numbers, read_attempt
from kdprobe.sweeps.ledger import open_ledger
from kdprobe.training import train
from tests.kdprobe.cli.test_group import status_of
from tests.small_sweeps import environment, until

TINY = ["data.spec=tests.tiny:digits", "data.image_size=16", "training.epochs=2", "training.batch_size=16"]
COMPARE = [
    "compare",
    "digits/resnet8-kd",
    "--device",
    "cpu",
    "--out",
    "c",
    *(w for one in TINY for w in ("--set", one)),
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "run"
    values = override(read_recipe("digits/vit-teacher"), [*TINY, "model.args.depth=2"])
    train(parse(values, option_types()), out, device="cpu", quiet=True)
    return str(out)


BAD = {
    "method": (["--methods", "plain,dk"], "no method 'dk'; did you mean"),
    "twice": (["--methods", "plain,plain"], "--methods names 'plain' twice"),
    "no methods": ([], "Missing option '--methods'"),
    "no trials": (["--methods", "plain", "--trials", "0"], "Invalid value for '--trials'"),
    "holdout": (["--methods", "plain", "--holdout", "1"], "Invalid value for '--holdout'"),
    "fraction": (["--methods", "plain", "--trial-epochs", "0"], "Invalid value for '--trial-epochs'"),
    "own key": (["--methods", "plain", "--set", "seed=3"], "--set seed=3: a comparison sets seed itself; give --seeds"),
    "no names": (["--methods", ","], "--methods takes names separated by commas, such as plain,kd"),
    "no teacher": (
        ["--methods", "plain,kd,at"],
        "--methods names kd, at, which cannot do without a teacher; give --teacher",
    ),
    "slots": (["--methods", "plain", "--engine", "ray", "--slots", "2"], "--slots is for --engine local, not for ray"),
    "data": (["--methods", "plain", "--set", "data.spec=folder:nowhere"], "there is no folder nowhere"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD[case]
    status, text = status_of(capsys, *COMPARE, *arguments)
    assert status == 2, text
    assert message in text
    assert text.count("\n") == 1, text
    assert not list(tmp_path.iterdir()), "nothing may be written"


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_method_that_is_not_defined_for_the_pair_is_told_before_anything_is_trained(
    dry, teacher, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, text = status_of(capsys, *COMPARE, "--methods", "plain,cskd", "--teacher", teacher, *dry)
    assert status == 2
    assert "cskd" in text
    assert text.count("\n") == 1, text
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_cells_hours_and_disk_and_writes_nothing(teacher, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--methods", "plain,kd", "--trials", "3", "--seeds", "2", "--published", "--teacher", teacher]
    assert kdprobe.main([*COMPARE, *options, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "6 trials of 2 epochs on 77 images, judged on 19 held-out ones; then 8 final trainings of 2 epochs "
        "on 96 images, tested once on 60"
    )
    assert [line.split()[0] for line in lines[1:4]] == ["method", "plain", "kd"]
    assert re.fullmatch(
        r"in all \d+\.\d\d hours of one device \(cpu\) by 3 timed steps of each method, without what a teacher.store "
        r"saves; \d+\.\d MB in c",
        lines[4],
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow(first=True)
def test_a_comparison_killed_at_any_time_ends_as_an_undisturbed_one(teacher, tmp_path):
    options = ["--methods", "plain,kd,rkd", "--trials", "3", "--seeds", "2", "--teacher", teacher, "--slots", "2"]
    command = [sys.executable, "-m", "kdprobe", *COMPARE, *options]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    subprocess.run(command, cwd=whole, env=environment(), check=True, capture_output=True)
    for part, n_done in (("trials", 1), ("trials", 4), ("finals", 1)):
        driver = subprocess.Popen(command, cwd=cut, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        cells = cut / "c" / part / "cells"
        until(lambda cells=cells, n=n_done: len(list(cells.glob("*/result.json"))) >= n, driver)
        driver.kill()
        attempts = cut / "c" / part / "attempts"
        for cell, number in last_numbers(attempts).items():
            if not (attempt := read_attempt(attempts, cell, number)).ended:
                with suppress(ProcessLookupError):
                    os.kill(attempt.process, signal.SIGKILL)
        driver.communicate()
    subprocess.run(command, cwd=cut, env=environment(), check=True, capture_output=True)
    one, other = (load_result(folder / "c" / "comparison.npz") for folder in (whole, cut))
    for name in ("held_out", "expected", "accuracy", "teacher_images"):
        np.testing.assert_array_equal(one.arrays[name], other.arrays[name])
    for part in ("trials", "finals"):
        ledgers = [open_ledger(folder / "c" / part) for folder in (whole, cut)]
        digests = [[ledger.run(cell.id).result()["sha256"] for cell in ledger.cells] for ledger in ledgers]
        assert digests[0] == digests[1]
    assert other.facts["tested_before"] == 0
    assert other.facts["remarks"] == one.facts["remarks"]
    assert not any(word in remark["reason"] for remark in other.facts["remarks"] for word in ("added", "left out"))
    for run in (whole / "c" / "finals" / "cells").iterdir():
        assert [line["accuracy"] is None for line in RunFolder(run).metrics()] == [True, False]


def test_where_the_teachers_outputs_are_kept_is_said_before_anything_is_trained(teacher, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdprobe.tuning.comparing.run_comparison", stop)
    options = ["--methods", "plain,kd", "--teacher", teacher, "--set", "teacher.store=kept"]
    assert kdprobe.main([*COMPARE, *options]) == 130
    assert capsys.readouterr().err.splitlines()[0] == (
        "teacher.store kept keeps the teacher's outputs; it may be deleted after the last training that reads it, and "
        "--set teacher.store=FOLDER names another"
    )


@pytest.mark.slow
def test_a_comparison_is_extended_and_drawn(teacher, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--teacher", teacher, "--slots", "1", "--trial-epochs", "0.5", "--quiet"]
    assert kdprobe.main([*COMPARE, *options, "--methods", "plain,kd", "--trials", "2", "--seeds", "2"]) == 0
    first = load_result("c/comparison.npz")
    assert (
        kdprobe.main(
            [*COMPARE, *options, "--methods", "plain,kd,dropkd", "--trials", "3", "--seeds", "3", "--published"]
        )
        == 0
    )
    second = load_result("c/comparison.npz")
    np.testing.assert_array_equal(second.arrays["held_out"][:2, :2], first.arrays["held_out"])
    assert second.arrays["accuracy"].shape == second.arrays["published"].shape == (3, 3)
    assert "dropkd was added" in second.facts["remarks"][0]["reason"]
    names = {path.name for path in Path("c").iterdir()}
    assert names == {
        "trials", "finals", "choice.json", "comparison.npz", "comparison.csv", "comparison-trials.csv",
        "comparison-differences.csv", "comparison.tex", "comparison.png", "comparison.pdf",
    }  # fmt: skip
    assert len(json.loads(Path("c/choice.json").read_text())["decisions"]) == 2
    called = {entry.name for entry in group(gather(["c/finals"]))}
    assert called >= {"plain", "kd", "dropkd"}
    assert called - {"plain", "kd", "dropkd"} <= {f"{name} as published" for name in ("plain", "kd", "dropkd")}
    capsys.readouterr()
    assert kdprobe.main(["report", "c", "--out", "r.html", "--quiet"]) == 0
    assert "Methods, tuned alike" in Path("r.html").read_text()
    status, text = status_of(capsys, *COMPARE, *options, "--methods", "plain", "--holdout", "0.4")
    assert (status, text.count("\n")) == (2, 1)
    assert "c holds another comparison; these keys differ: data.holdout; choose another --out" in text


@pytest.mark.slow
def test_ray_trains_the_same_networks_as_this_machine(tmp_path):
    command = [
        sys.executable,
        "-m",
        "kdprobe",
        *COMPARE,
        "--methods",
        "plain",
        "--trials",
        "2",
        "--seeds",
        "1",
        "--quiet",
    ]
    found = []
    for name, engine in (("local", ["--slots", "1"]), ("ray", ["--engine", "ray", "--processors", "1"])):
        (tmp_path / name).mkdir()
        one_thread = environment() | {"OMP_NUM_THREADS": "1"}  # of which sums, and so the last bits, may depend
        subprocess.run([*command, *engine], cwd=tmp_path / name, env=one_thread, check=True, capture_output=True)
        finals = open_ledger(tmp_path / name / "c" / "finals")
        found.append([finals.run(cell.id).result()["sha256"] for cell in finals.cells])
    assert found[0] == found[1]
