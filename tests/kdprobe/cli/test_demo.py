import random
import re
import time

import numpy as np
import pytest

from kdprobe import cli
from kdprobe.cli.demo import METHODS, conclusions, looks, methods_table, verdict
from kdprobe.cli.steps import Steps
from kdprobe.errors import RunError
from kdprobe.results import Result, load_result
from kdprobe.runs.differences import differences
from tests import killable
from tests.small_sweeps import until


def training(out):
    return {path: path.read_bytes() for path in (out / "runs").rglob("last.safetensors")}


def killed(out, told, reached, delay):
    """Run the demo until something is there, and a moment longer."""
    process = killable.start(["demo", "--out", out, "--seeds", "1", "--device", "cpu"], told)
    until(lambda: reached() or not process.is_alive())
    time.sleep(delay)
    killable.end(process, told)


@pytest.mark.slow(first=True)
def test_the_demo_does_the_whole_job_however_often_it_is_killed(tmp_path, capsys):
    out, told, moment = tmp_path / "demo", tmp_path / "told.txt", random.Random(3)
    log, epochs = out / "demo.log", out / "runs" / "teacher" / "metrics.jsonl"
    killed(out, told, out.exists, moment.random())
    killed(out, told, lambda: epochs.exists() and epochs.read_text().count("\n") > 12, moment.random())
    for command in ("train digits/demo-student", "dump", "cka", "decompose", "sweep-dropout", "report"):
        killed(
            out,
            told,
            lambda said=f"$ kdprobe {command}": log.exists() and said in log.read_text(),
            0.5 * moment.random(),
        )

    cli.run("demo", "--out", out, "--seeds", 1, "--device", "cpu")
    text = capsys.readouterr().out
    assert re.match(r"a teacher, 3 students and what there is to see in them: about \d+ (s|min) on two cores\n", text)
    assert re.search(r"^\[\d+ s, \d+ (s|min) left\] kdprobe report ", text, re.M)
    assert re.search(r"^dropkd +[789]\d\.\d\d +[789]\d\.\d\d +0\.\d\d\d$", text, re.M), text
    comparison = load_result(out / "comparison.npz", kind="comparison")
    plain, kd, _ = comparison.arrays["accuracy"][:, 0]
    assert comparison.facts["teacher_accuracy"] > max(plain + 0.02, 0.95)
    assert kd > plain
    curves = load_result(out / "training.npz", kind="training")
    assert curves.facts["names"] == ["teacher", "plain-seed0", "kd-seed0", "dropkd-seed0"]
    assert (out / "training.pdf").is_file()
    assert load_result(out / "sweep" / "dropout-feature.npz").arrays["accuracy"].shape == (2, 2, 1)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "dropkd" in page
    assert (out / "features.h5").is_file()
    left = [path.name for path in out.rglob("*") if path.name.endswith((".tmp", ".partial", ".lock"))]
    assert left == []

    before = training(out)
    cli.run("demo", "--out", out, "--seeds", 1, "--device", "cpu", "--quiet")
    assert before == training(out)
    captured = capsys.readouterr()
    assert captured.out.startswith("method ")
    assert captured.err == ""


def two_methods(kd, plain):
    """A comparison on 330 images."""
    shares, names = np.array([kd, plain]), ["kd", "plain"]
    arrays = {"accuracy": shares, "uar": shares, "cka": np.full(shares.shape, 0.5)}
    found = differences(arrays, dict(zip(names, names, strict=True)), [330] * 2)
    facts = {"methods": names, "seeds": list(range(len(kd))), "n_images": [330] * 2, "teacher_accuracy": 0.9}
    return Result("comparison", arrays, facts | {"differences": found})


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([4.0, 5.0, 6.0], "+5.00 ± 2.48 points (p = 0.013) over plain training: helps"),
        ([-4.0, -5.0, -6.0], "-5.00 ± 2.48 points (p = 0.013) over plain training: harms"),
        ([-1.0, 0.0, 2.0], "+0.33 ± 3.79 points (p = 0.74) over plain training: cannot be told from plain training"),
        ([3.0], "+3.00 points (not tested: they have one seed in common) over plain training: cannot be told from "),
    ],
)
def test_what_a_method_does_is_said_as_it_is(points, words):
    result = two_methods([0.5 + point / 100 for point in points], [0.5] * len(points))
    assert verdict(result.facts["differences"][0]).startswith(f"kd: {words}")


def test_equal_seeds_help_only_beyond_what_the_test_images_can_tell():
    for accuracies, said in (
        ([[0.7, 0.7], [0.6, 0.6]], r"70\.00 ± 5\.15 .*60\.00 ± 5\.37 .*kd: \+10\.00 ± 7\.44 points .*: helps"),
        ([[0.62, 0.62], [0.6, 0.6]], r"kd: \+2\.00 ± 7\.58 points .* over plain training: cannot be told from"),
    ):
        result = two_methods(*accuracies)
        assert re.search(said, methods_table(result), re.DOTALL)
        assert "0.500, all equal" in methods_table(result)


def test_what_a_killed_demo_left_is_no_obstacle(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr("kdprobe.cli.steps.run", lambda *words: ran.append(words[:3]))
    steps = Steps(tmp_path / "demo", device="cpu", quiet=True)
    for name in ("features.h5", "features.h5.partial", "features.h5.kept.partial"):
        (steps.out / name).write_text("half")
    steps.dump(tmp_path / "t", tmp_path / "s")
    assert ran == [("dump", "--teacher", str(tmp_path / "t"))]
    assert not list(steps.out.glob("features*"))
    steps.close()
    Steps(tmp_path / "demo", device="cpu", quiet=True).close()  # killed before its first command


def test_the_story_has_an_estimate_for_each_of_its_commands(tmp_path, capsys):
    students = {method: [tmp_path / f"{method}-seed{seed}" for seed in range(5)] for method in METHODS}
    story = [["dump"], *looks(tmp_path, tmp_path / "t", students), *conclusions(tmp_path, tmp_path / "t", students)]
    assert [words[0] for words in story].count("cka") == 15
    steps = Steps(tmp_path / "demo", device="cpu", quiet=False)
    steps.announce(15, story)
    assert (steps.n_steps, steps.expected) == (45, 148.0)
    assert capsys.readouterr().out.startswith("a teacher, 15 students and what there is to see in them: about 2 min")
    steps.close()


def test_two_demos_do_not_share_a_folder(tmp_path):
    steps = Steps(tmp_path, device="cpu", quiet=True)
    with pytest.raises(RunError, match=r"another demo runs in .*; wait for it or choose another --out"):
        Steps(tmp_path, device="cpu", quiet=True)
    steps.close()


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", "--out", str(tmp_path)])
    assert caught.value.code == 2
    assert "is not an empty folder and holds no demo; choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
