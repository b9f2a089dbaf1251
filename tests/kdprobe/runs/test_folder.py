"""Runs side by side, their curves, and whether their folders are whole."""

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import figures
from analyses.cka import epochs as cka_over_time
from analyses.cka.networks import cka
from analyses.evaluation.predictions import judge
from kdprobe import cli, load
from kdprobe.config import RunConfig, override, parse, write_yaml
from kdprobe.distillers import option_types
from kdprobe.errors import RunError
from kdprobe.features.store import FeatureStore, Network
from kdprobe.formats.yamls import read_yaml
from kdprobe.mean_interval import mean_interval
from kdprobe.models import create, model_info
from kdprobe.models.checkpoint import save
from kdprobe.recipe import read_recipe
from kdprobe.results import check_result, load_result
from kdprobe.runs.compare import accuracy_differences, budget_differences, gather, group, shared, table, to_result
from kdprobe.runs.curves import training_curves
from kdprobe.runs.folder import RunFolder, find_runs
from kdprobe.runs.inputs import Inputs
from kdprobe.runs.method_table import method_table
from kdprobe.training import train
from kdprobe.training.verify import problems
from tests.saved_results import cka_result, comparison_result, evaluation_result


def write_run(path, *assignments, accuracies=(0.5, 0.7, 0.6), method="plain", finished=True):
    """A run folder with everything but networks."""
    given = [f"method.name={method}", f"training.epochs={len(accuracies)}"]
    given += ["teacher=runs/gone"] if method != "plain" else []
    config = parse(override(read_recipe("digits/resnet8"), [*given, *assignments]), option_types())
    path.mkdir(parents=True)
    run = RunFolder(path)
    run.config_path.write_text(write_yaml(config))
    for epoch, accuracy in enumerate(accuracies, start=1):
        record = {"epoch": epoch, "loss": 1 / epoch, "accuracy": accuracy, "lr": 0.1, "seconds": 2.0, "images": 1000}
        run.append_metrics(record)
    if finished:
        run.write_result(
            {
                "model": config.model.name,
                "method": config.method["name"],
                "teacher": config.teacher,
                "data": config.data.spec,
                "evaluated_on": "test",
                "seed": config.seed,
                "epochs": len(accuracies),
                "images_seen": 1000 * len(accuracies),
                "accuracy": accuracies[-1],
                "best_accuracy": max(accuracies),
                "parameters": 78_042,
                "auxiliary_parameters": 0 if method == "plain" else 1234,
                "seconds": 2.0 * len(accuracies),
            }
        )
    return run


def test_runs_that_differ_in_the_seed_alone_are_one_group(tmp_path):
    for seed, last in ((2, 0.62), (0, 0.6), (1, 0.64)):
        workers = f"data.workers={seed}"
        write_run(tmp_path / f"plain{seed}", f"seed={seed}", workers, accuracies=(0.5, 0.7, last))
        write_run(tmp_path / f"kd{seed}", f"seed={seed}", accuracies=(0.5, 0.6, last + 0.1), method="kd")
    groups = group(gather([tmp_path]))
    assert [(entry.name, entry.seeds) for entry in groups] == [("kd", [0, 1, 2]), ("plain", [0, 1, 2])]
    assert shared(groups) == "model resnet8, data digits"
    assert budget_differences(groups) == ""
    rows = table(groups, best=True).to_dict("records")
    mean, half = mean_interval([0.6, 0.64, 0.62])
    assert rows[1] == {
        "": "plain",
        "epochs": 3,
        "images seen": "3,000",
        "seeds": "0, 1, 2",
        "accuracy %": f"{100 * mean:.2f} ± {100 * half:.2f}",
        "best-epoch accuracy %": "70.00, all equal",
        "images/s": "500",
        "auxiliary parameters": "0",
    }
    assert rows[0]["auxiliary parameters"] == "1,234"
    assert not [key for key in table(groups).columns if "best" in key]


def test_names_say_what_differs_and_no_more(tmp_path):
    def names(*settings):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for number, (method, *assignments) in enumerate(settings):
            write_run(folder / str(number), *assignments, method=method)
        return [entry.name for entry in group(gather([folder]))]

    assert names(["plain"], ["kd"]) == ["kd", "plain"]
    assert names(["plain"], ["plain", "model.name=resnet14"]) == ["plain, resnet14", "plain, resnet8"]
    assert names(["kd"], ["kd", "method.temperature=2"]) == ["kd, temperature=2.0", "kd, temperature=4.0"]
    assert names(["kd"], ["kd", "teacher=runs/b"], ["plain"]) == ["kd, b", "kd, gone", "plain"]
    far = ["teacher=vit@/a/weights.pth", "teacher=/b/c/weights.pth", "teacher=/b/d/weights.pth"]
    assert names(*(["kd", one] for one in far)) == ["kd, c/weights.pth", "kd, d/weights.pth", "kd, a/weights.pth"]
    data = ["data.spec=folder:/a/pictures", "data.spec=digits"]
    assert names(*(["plain", one] for one in data)) == ["plain, digits", "plain, folder:pictures"]
    assert names(["plain"], ["plain", "training.batch_size=7"]) == [
        "plain, training.batch_size=64",
        "plain, training.batch_size=7",
    ]


def test_budgets_that_differ_are_told_in_one_line(tmp_path):
    write_run(tmp_path / "a")
    augment = "data.augment.rand_augment=rand-m9"
    other = ("training.batch_size=128", "training.precision=bf16", augment, "training.mixing.mixup=0.2")
    write_run(tmp_path / "b", *other, accuracies=(0.1, 0.2), method="kd")
    assert budget_differences(group(gather([tmp_path]))) == (
        "budgets differ in epochs (2, 3), images seen (2000, 3000), batch size (128, 64), precision (bf16, auto), "
        "augmentation.rand_augment (rand-m9, null), mixing.mixup (0.2, 0.0)"
    )


def test_a_comparison_is_saved_and_can_be_drawn(tmp_path):
    for seed in (0, 3):
        write_run(tmp_path / f"plain{seed}", f"seed={seed}", accuracies=(0.5, 0.6 + seed / 100))
    write_run(tmp_path / "kd", "seed=1", accuracies=(0.5, 0.9), method="kd")
    result, csv = to_result(group(gather([tmp_path])))
    np.testing.assert_array_equal(result.arrays["accuracy"], [[math.nan, 0.9, math.nan], [0.6, math.nan, 0.63]])
    assert np.isnan(result.arrays["uar"]).all()
    assert result.facts["methods"] == ["kd", "plain"]
    assert result.facts["seeds"] == [0, 1, 3]
    assert result.facts["teacher_accuracy"] is None
    assert csv.splitlines()[1].startswith("kd,kd,resnet8,runs/gone,digits,1,2,2000,0.9,")
    figures.draw(result)


def test_the_teachers_accuracy_is_that_of_its_run_on_the_same_data(tmp_path):
    write_run(tmp_path / "teacher", accuracies=(0.8, 0.9))
    write_run(tmp_path / "runs" / "kd", f"teacher={tmp_path / 'teacher'}", method="kd")
    facts = to_result(group(gather([tmp_path / "runs"])))[0].facts
    assert (facts["teacher"], facts["teacher_accuracy"]) == ("resnet8", 0.9)
    assert "remarks" not in facts
    path = tmp_path / "teacher" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data": "cifar10:x"}))
    assert to_result(group(gather([tmp_path / "runs"])))[0].facts["teacher_accuracy"] is None


@pytest.mark.parametrize(("seeds", "known"), [((), None), (("data.seed=3",), 0.9)])
def test_a_teacher_that_held_out_other_images_has_no_accuracy_beside_its_students(tmp_path, seeds, known):
    runs = [write_run(tmp_path / "teacher", "data.holdout=0.2", *seeds, accuracies=(0.8, 0.9))]
    for seed in (0, 1):
        given = (f"teacher={tmp_path / 'teacher'}", "data.holdout=0.2", f"seed={seed}", *seeds)
        runs.append(write_run(tmp_path / "runs" / f"kd{seed}", *given, method="kd"))
    for run in runs:
        run.write_result({**run.result(), "evaluated_on": "holdout"})
    assert to_result(group(gather([tmp_path / "runs"])))[0].facts["teacher_accuracy"] == known


def test_a_teacher_that_knows_less_than_its_students_is_told(tmp_path, capsys):
    write_run(tmp_path / "teacher", accuracies=(0.1, 0.176))
    write_run(tmp_path / "runs" / "kd", f"teacher={tmp_path / 'teacher'}", accuracies=(0.5, 0.6), method="kd")
    remark = "the teacher (17.6 %) is less accurate than kd (60.0 %)"
    cli.run("runs", "compare", tmp_path / "runs", "--out", tmp_path / "c.npz")
    assert f"note: {remark}" in capsys.readouterr().out.splitlines()
    result = load_result(tmp_path / "c.npz")
    assert result.facts["remarks"] == [{"reason": remark}]
    assert "The teacher (17.6 %) is less accurate than kd (60.0 %)." in method_table(result).markdown()


@pytest.mark.parametrize(
    ("teacher", "model"),
    [
        ("timm:resnet50", "resnet50"),
        ("resnet56@weights.pth", "resnet56"),
        ("{}/teacher", "resnet8"),
        ("{}/teacher/best.safetensors", "resnet8"),
        ("{}/gone", None),
    ],
)
def test_a_comparison_says_what_was_trained_by_whom(tmp_path, teacher, model):
    write_run(tmp_path / "teacher")
    write_run(tmp_path / "runs" / "kd", f"teacher={teacher.format(tmp_path)}", method="kd")
    (told,) = to_result(group(gather([tmp_path / "runs"])))[0].facts["groups"]
    assert told == {
        "method": "kd",
        "model": "resnet8",
        "data": "digits",
        "evaluated_on": "test",
        "teacher": model,
        "runs": [str(tmp_path / "runs" / "kd")],
        "sha256": [[]],
        "parameters": 78_042,
    }


def test_a_teacher_that_moved_is_known_by_its_hash(tmp_path):
    for name, more, method in (("teacher", {"sha256": {"last.safetensors": "ab"}}, "plain"), ("kd", {}, "kd")):
        run = write_run(tmp_path / name, f"seed={len(more)}", method=method)
        run.result_path.write_text(json.dumps({**run.result(), "teacher_sha256": "ab", **more}))
    kd, _ = to_result(group(gather([tmp_path])))[0].facts["groups"]
    assert kd["teacher"] == "resnet8"


def test_results_are_joined_with_runs_by_the_hashes_of_their_last_checkpoints(tmp_path):
    for seed in (0, 1):
        run = write_run(tmp_path / f"run{seed}", f"seed={seed}")
        hashes = {"best.safetensors": f"best{seed}", "last.safetensors": f"last{seed}"}
        run.result_path.write_text(json.dumps({**run.result(), "sha256": hashes}))
    models = [{"sha256": digest} for digest in ("best0", "last0", None)]
    evaluation, cka = evaluation_result(("a", "b", "c")), cka_result()
    evaluation = replace(evaluation, provenance={**evaluation.provenance, "models": models})
    cka = replace(cka, provenance={**cka.provenance, "student": {"sha256": "last1"}})
    result, csv = to_result(group(gather([tmp_path])), [evaluation, cka, comparison_result()])
    check_result(result)
    np.testing.assert_array_equal(result.arrays["accuracy"], [[0.6, 0.6]])
    np.testing.assert_array_equal(result.arrays["uar"], [[evaluation.arrays["uar"][1, 0], np.nan]])
    np.testing.assert_array_equal(result.arrays["cka"], [[np.nan, cka.arrays["matrix"][-1, -1]]])
    assert result.facts["cka_layers"] == ["blocks.3", "layer3.3.conv2"]
    assert csv.splitlines()[0].endswith(",accuracy,seconds,uar,cka")


def test_compare_prints_and_saves(tmp_path, capsys):
    write_run(tmp_path / "runs" / "a")
    lost = write_run(tmp_path / "runs" / "b", accuracies=(0.1,), method="kd")
    write_run(tmp_path / "runs" / "c", finished=False)
    lost.result_path.write_text(json.dumps({**lost.result(), "sha256": {"last.safetensors": "ab"}}))
    cli.run("runs", "compare", tmp_path / "runs", tmp_path / "runs" / "a", "--out", tmp_path / "c.npz")
    printed = capsys.readouterr()
    assert printed.err == f"{lost.path} counts by its result.json, but its last.safetensors is missing\n"
    lines = printed.out.splitlines()
    assert lines[0] == "model resnet8, data digits"
    assert lines[3].split() == ["plain", "3", "3,000", "0", "60.00", "500", "0"]
    assert lines[4] == f"left out, not finished: {tmp_path / 'runs' / 'c'}"
    assert lines[5] == "budgets differ in epochs (1, 3), images seen (1000, 3000)"
    assert load_result(tmp_path / "c.npz", kind="comparison").facts["budget_differences"] == lines[5]
    assert (tmp_path / "c.csv").is_file()


def test_compare_tests_rows_paired_by_seed(tmp_path, capsys):
    for seed in (0, 1):
        write_run(tmp_path / f"plain{seed}", f"seed={seed}", accuracies=(0.5, 0.6 + seed / 100))
        write_run(tmp_path / f"kd{seed}", f"seed={seed}", accuracies=(0.5, 0.7 + seed / 50), method="kd")
    cli.run("runs", "compare", tmp_path, "--out", tmp_path / "c.npz")
    assert "kd - plain  +10.50 ± 6.35 points (p = 0.03)\n" in capsys.readouterr().out
    (entry,) = load_result(tmp_path / "c.npz", kind="comparison").facts["differences"]
    assert (entry["method"], entry["other"], round(entry["difference"], 6)) == ("kd", "plain", 0.105)
    cli.run("runs", "compare", tmp_path, "--baseline", "kd")
    assert "plain - kd  -10.50 ± 6.35 points (p = 0.03)\n" in capsys.readouterr().out
    with pytest.raises(RunError, match="no row is named 'pkt' to compare the others with; known: kd, plain"):
        accuracy_differences(group(gather([tmp_path])), baseline="pkt")


def test_a_run_that_took_no_time_has_no_speed(tmp_path):
    run = write_run(tmp_path / "run")
    edit(run.result_path, seconds=0.0)
    assert table(group([run])).to_dict("records")[0]["images/s"] == "nan"


def test_what_cannot_be_compared_is_told(tmp_path):
    with pytest.raises(RunError, match=r"there is no folder .*nowhere"):
        gather([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"there is no run in .*empty"):
        gather([tmp_path / "empty"])
    write_run(tmp_path / "new" / "a", finished=False)
    with pytest.raises(RunError, match="none of 1 runs is finished, so there is nothing to compare"):
        group(gather([tmp_path / "new"]))
    for name in "ab":
        write_run(tmp_path / "twice" / name)
    with pytest.raises(RunError, match=r"twice/a and .*twice/b have the same configuration and seed"):
        group(gather([tmp_path / "twice"]))


def test_curves_of_different_lengths(tmp_path, capsys):
    write_run(tmp_path / "x" / "long", accuracies=(0.1, 0.2, 0.3))
    write_run(tmp_path / "x" / "short", accuracies=(0.4,), finished=False)
    cli.run("runs", "curves", tmp_path / "x", "--out", tmp_path / "curves.npz")
    assert capsys.readouterr().out.split() == [str(tmp_path / f"curves.{ending}") for ending in ("pdf", "png")]
    result = load_result(tmp_path / "curves.npz", kind="training")
    assert result.facts["names"] == ["long", "short"]
    np.testing.assert_array_equal(result.arrays["epoch"], [1, 2, 3])
    np.testing.assert_array_equal(result.arrays["accuracy"], [[0.1, 0.2, 0.3], [0.4, math.nan, math.nan]])
    np.testing.assert_allclose(result.arrays["train_loss"], [[1, 1 / 2, 1 / 3], [1, math.nan, math.nan]])
    figures.draw(result)
    assert (tmp_path / "curves.csv").read_text().splitlines()[4] == "short,1,1.0,0.4,0.1,2.0"


def test_a_run_without_an_epoch_has_no_curve(tmp_path):
    run = write_run(tmp_path / "new", accuracies=(0.1,), finished=False)
    run.metrics_path.unlink()
    with pytest.raises(RunError, match=r"new has no finished epoch, so there is no curve"):
        training_curves([run])


@pytest.mark.parametrize("epochs", [[0, 1], [1, 1], [2, 1], [-3, 2], [1, "2"], [1, 3], [True, 2]])
def test_epochs_that_do_not_count_up_are_damage(tmp_path, epochs):
    run = write_run(tmp_path / "run", accuracies=(0.1, 0.2))
    records = [{**record, "epoch": epoch} for record, epoch in zip(run.metrics(), epochs, strict=True)]
    run.metrics_path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(
        RunError, match=r"metrics.jsonl is damaged in line \d: (it must be of epoch \d, but is of epoch|epoch: )"
    ):
        training_curves([run])


def test_runs_from_before_an_option_existed_belong_to_those_with_its_default(tmp_path):
    old, new = write_run(tmp_path / "old"), write_run(tmp_path / "new", "seed=1")
    text = old.config_path.read_text()
    old.config_path.write_text(text.replace("  skip_bad: false\n", ""))
    assert old.config_path.read_text() != text
    assert len(group([old, new])) == 1
    old.claim(parse(read_yaml(text, source="old"), option_types()), resume=True)


def test_a_foreign_configuration_is_named_and_left_out(tmp_path, capsys):
    write_run(tmp_path / "run")
    for name, content in (("foreign", b"name: other\n"), ("list", b"[1]\n"), ("bytes", b"\xff\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_bytes(content)
    cli.run("runs", "ls", tmp_path)
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == [str(tmp_path / "run")]
    bad, foreign, listed = shown.err.splitlines()
    assert re.fullmatch(r"left out: .*bytes/config\.yaml is damaged: it is not UTF-8 text", bad)
    assert re.fullmatch(r"left out: .*foreign/config\.yaml is not the configuration of a run", foreign)
    assert re.fullmatch(r"left out: .*list/config\.yaml is not the configuration of a run", listed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]\n", r"metrics\.jsonl is damaged in line 1: it is a list, not a mapping$"),
        (b'{"epoch": 1}\n', r"metrics\.jsonl is damaged in line 1: it lacks images, lr, loss, accuracy, seconds$"),
        (b"\xff\n", r"metrics\.jsonl is damaged: it is not UTF-8 text$"),
    ],
)
def test_damaged_metrics_are_told_by_all_who_read_them(tmp_path, capsys, content, message):
    run = write_run(tmp_path / "run")
    run.metrics_path.write_bytes(content)
    unfinished = write_run(tmp_path / "unfinished", finished=False)
    unfinished.metrics_path.write_bytes(content)
    for read in (unfinished.summary, lambda: run.keep_metrics(1), lambda: training_curves([run])):
        with pytest.raises(RunError, match=message):
            read()
    with pytest.raises(RunError, match=message):
        cli.run("runs", "show", run.path)
    assert any(re.search(message, problem) for problem in problems(run))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"result\.json is not a result of format 'kdprobe-run' version 1$"),
        ('{"format": "kdprobe-run", "version": 1}', r"result\.json is not the result of a training: it lacks model, "),
    ],
)
def test_a_damaged_result_is_not_compared(tmp_path, content, message):
    run = write_run(tmp_path / "run")
    run.result_path.write_text(content)
    with pytest.raises(RunError, match=message):
        group([run])
    assert any("result.json" in problem for problem in problems(run))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A teacher and a student of a method with modules of its own, one epoch each."""
    root = tmp_path_factory.mktemp("trained")
    brief = ["training.epochs=1", "data.per_class=8", "data.image_size=16", "training.schedule.name=constant"]
    for name, recipe, given in (
        ("teacher", "digits/resnet8", []),
        ("student", "digits/resnet8-dropkd", [f"teacher={root / 'teacher'}", "method.dim=8"]),
    ):
        config = parse(override(read_recipe(recipe), [*brief, *given]), option_types())
        train(config, root / name, device="cpu", quiet=True)
    return root


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained / "student", tmp_path / "student")
    return RunFolder(tmp_path / "student")


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_trained_runs_are_whole(trained, capsys):
    cli.run("runs", "verify", trained)
    assert capsys.readouterr().out == "nothing is wrong with 2 runs\n"
    assert set(RunFolder(trained / "student").result()["sha256"]) == {
        "auxiliary.safetensors", "best.safetensors", "last.safetensors",
    }  # fmt: skip


def test_a_run_that_was_killed_is_whole(run):
    run.result_path.unlink()
    with run.metrics_path.open("a") as file:
        file.write('{"epoch": 2, "lo')
    (run.path / "last.safetensors").unlink()
    assert problems(run) == []


def cut(name):
    def damage(run):
        path = run.path / name
        path.write_bytes(path.read_bytes()[:-100])

    return damage


def other_weights(run):
    """Valid, of the right shapes, but not those that were saved."""
    path = run.path / "best.safetensors"
    tensors = load_file(path)
    tensors["fc.bias"] = tensors["fc.bias"] + 1
    with safe_open(path, "numpy") as file:
        meta = file.metadata()
    save_file(tensors, path, meta)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda run: run.config_path.write_text("data: ["), [r"config\.yaml is not YAML at line 1"]),
        (lambda run: (run.path / "env.json").unlink(), [r"env\.json is missing$"]),
        (cut("env.json"), [r"env\.json cannot be read as the environment of a run \(JSONDecodeError"]),
        (cut("last.safetensors"), [r"last\.safetensors is truncated or not a", r"states sha256 of last\.safetensors"]),
        (cut("auxiliary.safetensors"), [r"auxiliary\.safetensors is truncated or not", r"states sha256 of auxiliary"]),
        (
            other_weights,
            [
                r"best\.safetensors is damaged: its tensors' sha256",
                r"result\.json states sha256 of best\.safetensors '\w+', but it is '\w+'",
            ],
        ),
        (lambda run: (run.path / "best.safetensors").unlink(), [r"best\.safetensors is missing"]),
        (cut("state.pt"), [r"state\.pt is damaged \("]),
        (cut("result.json"), [r"result\.json cannot be read as the result of a run \(JSONDecodeError"]),
        (lambda run: edit(run.result_path, accuracy=0.5), [r"result\.json states accuracy 0\.5, but it is 0\.\d+"]),
        (lambda run: edit(run.result_path, seed=7), [r"result\.json states seed 7, but it is 0"]),
        (lambda run: edit(run.result_path, teacher_sha256="0"), [r"is not the teacher of .* any more: its sha256 has"]),
        (
            lambda run: run.metrics_path.write_text(run.metrics_path.read_text() * 2),
            [
                r"metrics\.jsonl is damaged in line 2: it must be of epoch 2, but is of epoch 1",
                "states epochs 1, but it is 0",
                r"states accuracy 0\.\d+, but it is None",
                r"states best_accuracy 0\.\d+, but it is None",
                "is finished after 0 of 1 epoch",
            ],
        ),
        (
            lambda run: run.metrics_path.write_text("{\n"),
            [
                r"metrics\.jsonl is damaged in line 1",
                "states epochs 1, but it is 0",
                r"states accuracy 0\.\d+, but it is None",
                r"states best_accuracy 0\.\d+, but it is None",
                "is finished after 0 of 1 epoch",
            ],
        ),
    ],
)
def test_each_problem_is_one_line(run, damage, expected, capsys):
    damage(run)
    with pytest.raises(RunError, match=rf"^{len(expected)} problems? in 1 run$"):
        cli.run("runs", "verify", run.path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.search(pattern, line), line


def test_the_exit_status_is_two(run, capsys):
    cut("state.pt")(run)
    with pytest.raises(SystemExit) as caught:
        cli.main(["runs", "verify", str(run.path)])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "kdprobe: 1 problem in 1 run\n"


def test_a_run_whose_process_died_behind_its_configuration_is_whole_when_it_is_continued(tmp_path):
    config = parse(read_yaml("data: {spec: digits}\nmodel: {name: resnet8}", source="x"), option_types())
    run = RunFolder(tmp_path / "run")
    run.claim(config, resume=False)
    (run.path / "env.json").unlink()
    run.claim(config, resume=True)
    assert json.loads((run.path / "env.json").read_text())["versions"]


def test_of_two_that_take_one_folder_the_later_is_told_of_the_earlier(tmp_path):
    config = parse(read_yaml("data: {spec: digits}\nmodel: {name: resnet8}", source="x"), option_types())
    run = RunFolder(tmp_path / "run")
    run.check_free(config, resume=False)
    with run.held():
        run.check_free(config, resume=False)  # another's lock is no run yet
        with pytest.raises(RunError, match=r"another process is training in .*run; wait for it or stop it"), run.held():
            pass
        run.claim(config, resume=False)
    with pytest.raises(RunError, match="already holds a run"):
        run.check_free(config, resume=False)


def test_inputs_that_moved_are_no_other_configuration(tmp_path):
    run, now = RunFolder(tmp_path / "run"), Inputs("a" * 64, "b" * 64)
    before = parse({"model": {"name": "resnet8"}, "data": {"spec": "folder:D"}, "teacher": "T"}, option_types())
    after = before.model_copy(update={"teacher": "T2", "data": before.data.model_copy(update={"spec": "folder:D2"})})
    run.claim(before, resume=False)
    run.keep_inputs(now)
    for other, message in (
        (None, r"these keys differ: .*data\.spec"),
        (
            Inputs("c" * 64, "c" * 64),
            "when it began, the teacher T2 had the sha256 a{64}, but now it is c{64}; the data ",
        ),
    ):
        with pytest.raises(RunError, match=message):
            run.claim(after, resume=True, inputs=other)
    run.claim(after, resume=True, inputs=now)
    assert (run.values()["teacher"], run.values()["data"]["spec"]) == ("T2", "folder:D2")


def with_network(run, epoch, *names):
    """Let a run have its networks after so many epochs."""
    for name in names:
        save(create("resnet8", n_classes=10, image_size=16), run.path / name, training={"epoch": epoch})
    return run.path


@pytest.mark.parametrize(
    ("name", "finished", "epoch", "remark"),
    [
        ("last.safetensors", False, 2, r"the run .*run is unfinished: last\.safetensors is its network after 2 of 3 e"),
        ("best.safetensors", False, 1, r"the run .*run is unfinished: best\.safetensors is its network after 1 of 3 e"),
        ("last.safetensors", True, 2, r"last\.safetensors is the network after 2 epochs, but result\.json .* is of 3"),
    ],
)
def test_weights_of_an_unfinished_run_say_so(tmp_path, name, finished, epoch, remark):
    path = with_network(write_run(tmp_path / "run", finished=finished), epoch, name)
    with pytest.warns(UserWarning, match=remark):
        model = load(path if name.startswith("last") else path / name)
    info = model_info(model)
    assert re.search(remark, info.remark)
    assert re.search(remark, info.origin()["remark"])
    save(model, tmp_path / "copy.safetensors")
    assert load(tmp_path / "copy.safetensors").kdprobe_info.remark == ""  # which is in no run


def test_weights_of_a_failed_run_or_beside_a_damaged_result_say_so(tmp_path):
    run = write_run(tmp_path / "run", finished=False)
    path = with_network(run, 1, "last.safetensors")
    run.failure_path.write_text("the loss is not finite\n")
    with pytest.warns(UserWarning, match=r"is failed: last\.safetensors is its network after 1 of 3 epochs"):
        load(path)
    run.result_path.write_text("{}")
    with pytest.warns(UserWarning, match=r"whether the run of .*last\.safetensors is finished is not known: .*result"):
        load(path)


def test_weights_of_a_finished_run_and_snapshots_say_nothing(tmp_path):
    path = with_network(write_run(tmp_path / "run"), 3, "last.safetensors")
    with_network(RunFolder(path), 2, "best.safetensors")
    for name in ("", "best.safetensors"):
        assert model_info(load(path / name)).remark == ""
    cut = write_run(tmp_path / "cut", finished=False)
    with_network(cut, 1, "snapshots/epoch-0001.safetensors")
    assert model_info(load(cut.snapshot_path(1))).remark == ""


def test_a_result_and_a_dump_keep_what_has_to_be_known_of_their_networks(tmp_path):
    path = with_network(write_run(tmp_path / "run", finished=False), 1, "last.safetensors")
    images = torch.rand(8, 3, 16, 16)
    with pytest.warns(UserWarning, match="is unfinished"):
        model, judged = load(path), judge(path, "digits")
    remark = model_info(model).remark
    assert judged[0].origin()["remark"] == remark
    loader = [(images, torch.zeros(8, dtype=torch.long))]
    assert cka(model, model, loader).provenance["teacher"]["remark"] == remark
    networks = {"teacher": Network("resnet8", "", {}, "", remark)}
    with FeatureStore.create(tmp_path / "f.h5", networks, batch_size=8, data="digits") as writer:
        writer.append(torch.arange(8), torch.zeros(8).long(), {"teacher": {"x": images.flatten(1)}})
    with (
        FeatureStore.open(tmp_path / "f.h5") as store,
        pytest.warns(UserWarning, match=r"f\.h5: the run .* is unfinished"),
    ):
        assert store.origin("teacher")["remark"] == remark


def test_curves_say_which_runs_are_not_finished(tmp_path):
    write_run(tmp_path / "whole")
    cut = write_run(tmp_path / "cut", finished=False)
    cut.keep_metrics(2)
    result, _ = training_curves(gather([tmp_path]))
    assert result.facts["remarks"] == [{"reason": "cut is unfinished: 2 of 3 epochs"}]
    texts = [text.get_text() for text in figures.draw(result).texts]
    assert texts == ["cut is unfinished: 2 of 3 epochs"]


def test_snapshots_that_should_be_there_are_told(tmp_path):
    run = write_run(tmp_path / "run", "training.saving.snapshots=1", finished=False)
    with_network(run, 1, *(f"snapshots/epoch-{epoch:04d}.safetensors" for epoch in (0, 2)))
    assert cka_over_time._missing(run, None) == {
        "missing_epochs": [1, 3],
        "remarks": [
            {"reason": "no snapshot after 2 of the 4 epochs that should have one: 1, 3; its run is unfinished"}
        ],
    }
    assert cka_over_time._missing(run, 2) == {"missing_epochs": []}


@pytest.mark.parametrize(
    ("known", "told"), [(500, "60.00 ± 4.35"), (0, "60.00, all equal"), (None, "60.00, all equal")]
)
def test_equal_seeds_are_as_uncertain_as_the_images_they_were_judged_on(tmp_path, known, told):
    for seed in range(2):
        run = write_run(tmp_path / f"run{seed}", f"seed={seed}")
        if known is not None:
            run.write_result({**run.result(), "evaluated_images": known})
    groups = group(gather([tmp_path]))
    assert table(groups)["accuracy %"].tolist() == [told]
    result, _ = to_result(groups)
    assert result.facts["n_images"] == [known or None]
    texts = [text.get_text() for axes in figures.draw(result).axes for text in axes.texts]
    assert texts == [f"{told[:4]}{' ± 4.4' if known else ', all equal'}"]


def test_a_finished_run_is_summed_up_by_its_result_as_by_its_configuration_and_metrics(tmp_path):
    run = write_run(tmp_path / "run", accuracies=(0.1, 0.2))
    told = run.summary()
    run.result_path.rename(tmp_path / "kept.json")
    assert {**run.summary(), "state": "finished"} == told
    (tmp_path / "kept.json").rename(run.result_path)
    run.metrics_path.unlink()
    assert run.summary() == told


def test_what_loggers_keep_in_a_run_is_no_run(tmp_path):
    config = RunConfig(data={"spec": "digits"}, model={"name": "resnet8"})
    for name in ("wandb/one", "wandb/two"):
        RunFolder(tmp_path / name).claim(config, resume=False)
    kept = tmp_path / "wandb" / "one" / "wandb" / "run-20261128_091200-abc" / "files"
    kept.mkdir(parents=True)
    (kept / "config.yaml").write_text("wandb_version: 1\n")
    assert [run.path.name for run in find_runs(tmp_path)] == ["one", "two"]
