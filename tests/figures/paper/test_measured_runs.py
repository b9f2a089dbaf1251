"""Own runs next to the published numbers: which run repeats which number, and how it is shown."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from figures.paper.measured_runs import RunGroup, repeats, run_groups
from figures.paper.write import TABLES, published_grid, published_table
from figures.pictures.dropout import draw_beside
from kdprobe import cli
from kdprobe.errors import ResultError
from kdprobe.results import load_result, save_result
from kdprobe.runs.folder import RunFolder
from tests.kdprobe.runs.test_folder import write_run
from tests.saved_results import (
    cka_result,
    comparison_result,
    complexity_result,
    compound_result,
    dropout_result,
    evaluation_result,
)

CIFAR = "data.spec=cifar100:/data"


def trained(path: Path, accuracy: float, *assignments: str, method: str = "plain", **result: Any) -> RunFolder:
    """A finished run on CIFAR-100 if nothing else is said."""
    run = write_run(path, CIFAR, *assignments, accuracies=(accuracy,), method=method)
    run.result_path.write_text(json.dumps({**run.result(), **result}))
    return run


def students(folder: Path, *accuracies: float, method: str = "kd", model: str = "resnet20", **result: Any) -> None:
    """A teacher, and students with the seeds 0, 1, ..."""
    if not (folder / "teacher").exists():
        trained(folder / "teacher", 0.725, "model.name=resnet56")
    for seed, accuracy in enumerate(accuracies):
        given = [f"model.name={model}", f"seed={seed}", f"teacher={folder / 'teacher'}"]
        trained(folder / f"{method}-{model}-{seed}", accuracy, *given, method=method, **result)


def paper(folder: Path, name: str = "table1") -> list[dict[str, str]]:
    """The lines of a table with something measured."""
    cli.run("paper", "--runs", folder, "--out", folder / "paper", "--format", "svg")
    with (folder / "paper" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [line for line in csv.DictReader(file) if line["measured"]]


def test_seeds_of_a_published_student_have_mean_difference_and_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    students(tmp_path, 0.70, 0.72, 0.71)
    teacher, kd = paper(tmp_path)
    half = t.ppf(0.975, 2) * np.std([70, 72, 71], ddof=1) / np.sqrt(3)
    assert {key: kd[key] for key in ("row", "column", "published", "source")} == {
        "row": "ResNet56 to ResNet20",
        "column": "KD",
        "published": "70.66",
        "source": "RepDistiller README",
    }
    assert [kd[key] for key in ("measured", "difference", "n")] == ["71.00", "+0.34", "3"]
    assert [kd["low"], kd["high"]] == [f"{71 - half:.2f}", f"{71 + half:.2f}"]
    assert (teacher["column"], teacher["measured"], teacher["difference"]) == ("Teacher", "72.50", "+0.16")
    assert (teacher["low"], teacher["n"]) == ("", "1")
    assert "repeat no" not in capsys.readouterr().err

    lines = (tmp_path / "paper" / "table1.md").read_text(encoding="utf-8").splitlines()
    assert f"|  | KD | 70.66 | 71.00 | +0.34 | [{kd['low']}, {kd['high']}] | 3 |" in lines
    assert "|  | FitNet | 69.21 |  |  |  |  |" in lines
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    tex = (tmp_path / "paper" / "table1.tex").read_text(encoding="utf-8")
    assert "\n" + rf"KD & 70.66 & 71.00 & $+0.34$ & [{kd['low']}, {kd['high']}] & 3 \\" in tex
    assert r"\begin{tabular}{lrrrrr}" in tex
    assert tex.count(r"\multicolumn{6}{l}") == 3
    assert r"\emph{ResNet110 to ResNet32}" in tex
    assert load_result(tmp_path / "paper" / "runs.npz").kind == "comparison"


def test_other_data_networks_and_held_out_images_are_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    students(tmp_path, 0.7, model="resnet8")
    students(tmp_path, 0.7, evaluated_on="holdout", method="rkd")
    trained(tmp_path / "folder", 0.7, "model.name=resnet20", "data.spec=folder:cifar100", data="folder:cifar100")
    trained(tmp_path / "dkd", 0.7, "model.name=resnet20", "teacher=gone", method="dkd")
    assert [line["column"] for line in paper(tmp_path)] == ["Teacher"]
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "runs repeat" in line]
    assert said.startswith("4 of 5 runs repeat no published number (kdprobe runs compare and kdprobe table make ")
    assert all(str(tmp_path / name) in said for name in ("kd-resnet8-0", "rkd-resnet20-0", "folder", "dkd"))


def test_configurations_stand_in_lines_of_their_own(tmp_path: Path) -> None:
    students(tmp_path, 0.7, 0.71)
    given = ["model.name=resnet20", f"teacher={tmp_path / 'teacher'}", "method.temperature=2"]
    trained(tmp_path / "warm", 0.69, *given, method="kd")
    _, *lines = paper(tmp_path)
    assert [(line["column"], line["n"]) for line in lines] == [("KD", "1"), ("KD", "2")]
    assert all("temperature=" in line["configuration"] for line in lines)
    assert "KD (temperature=" in (tmp_path / "paper" / "table1.md").read_text(encoding="utf-8")


def test_compound_scores_belong_to_the_runs_of_their_checkpoints(tmp_path: Path) -> None:
    for seed in (0, 1):
        given = ["model.name=mobilenetv2_100", "data.spec=rafdb:x", f"seed={seed}"]
        trained(tmp_path / f"plain{seed}", 0.84 + 0.01 * seed, *given, sha256={"last.safetensors": f"hash{seed}"})
    models = [{"sha256": f"hash{seed}"} for seed in (0, 1)]
    scores = compound_result(("one", "two"))
    scores = replace(scores, provenance={**scores.provenance, "models": models})
    save_result(scores, tmp_path / "compound.npz", table="")
    lines = paper(tmp_path, "table5")
    assert [line["column"] for line in lines] == ["Acc-both", "Acc-single", "Acc-single-top2"]
    assert [line["measured"] for line in lines] == ["33.00", "73.00", "91.00"]
    assert {(line["row"], line["n"]) for line in lines} == {("MobileNetV2", "2")}
    elsewhere = replace(scores, facts={**scores.facts, "data": "ferplus7-compound:x"})
    save_result(elsewhere, tmp_path / "compound.npz", table="", overwrite=True)
    assert paper(tmp_path, "table5") == []
    _, accuracy = paper(tmp_path, "table4")
    assert (accuracy["row"], accuracy["column"], accuracy["measured"]) == ("MobileNetV2", "Accuracy", "84.50")


@pytest.mark.slow
@pytest.mark.parametrize("known", ["resnet18", "run"])
def test_costs_come_from_the_runs_and_from_counts_of_their_network(tmp_path: Path, known: str) -> None:
    trained(tmp_path / "vit", 0.9, "model.name=vit_large_patch14_clip_224", "data.spec=rafdb:x")
    for seed in (0, 1):
        given = ["model.name=resnet18", "data.spec=rafdb:x", f"teacher={tmp_path / 'vit'}", f"seed={seed}"]
        trained(tmp_path / f"dropkd{seed}", 0.9, *given, method="dropkd", parameters=11_180_103)
    assert [line["column"] for line in paper(tmp_path, "table4")] == ["Parameters (M)", "Accuracy"]
    name = known if known == "resnet18" else str(tmp_path / "dropkd0")
    saved = complexity_result()
    small = {**saved.facts, "image_size": [64, 64]}
    save_result(replace(saved, facts=small), tmp_path / "small.npz", table="")
    assert [line["column"] for line in paper(tmp_path, "table4")] == ["Parameters (M)", "Accuracy"]
    facts = {**saved.facts, "names": [name, *saved.facts["names"][1:]]}
    counts = {**saved.arrays, "module_operations": np.array([1_824_033_792, *saved.arrays["module_operations"][1:]])}
    save_result(replace(saved, facts=facts, arrays=counts), tmp_path / "complexity.npz", table="")
    flops, parameters, accuracy = paper(tmp_path, "table4")
    assert accuracy["n"] == "2"
    assert [flops[key] for key in ("measured", "difference", "low", "n")] == ["1.82", "+0.02", "", "1"]
    assert [parameters[key] for key in ("measured", "difference", "low", "n")] == ["11.18", "+0.00", "", "1"]


def test_latencies_follow_the_costs_of_their_row(tmp_path: Path) -> None:
    for seed, rate in ((0, 0.1), (1, 0.1), (2, 0.2)):
        given = ["model.name=resnet18", "data.spec=rafdb:x", f"seed={seed}", f"training.optimizer.lr={rate}"]
        trained(tmp_path / f"plain{seed}", 0.8, *given, parameters=11_180_103)
    save_result(complexity_result(latency=True), tmp_path / "complexity.npz", table="")
    cli.run("paper", "--runs", tmp_path, "--out", tmp_path / "paper", "--format", "svg")
    with (tmp_path / "paper" / "table4.csv").open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["column"].startswith("Latency")]
    assert [line["column"] for line in lines] == ["Latency (ms), batch of 1", "Latency (ms), batch of 32"] * 2
    assert len({line["configuration"] for line in lines}) == 2
    assert {line["row"] for line in lines} == {"ResNet18"}
    keys = ("published", "measured", "difference", "low", "high", "n", "source")
    assert [lines[0][key] for key in keys] == ["", "12.30", "", "12.00", "13.10", "", ""]
    assert lines[1]["note"] == "median and quartiles in ms, on cpu (some processor) with 2 threads"
    text = (tmp_path / "paper" / "table4.md").read_text(encoding="utf-8")
    (letter,) = re.findall(r"<sup>(.)</sup> median and quartiles in ms, on cpu", text)
    assert len(re.findall(rf"<sup>{letter}</sup> \| 12.30 \|  \| \[12.00, 13.10\] \|  \|", text)) == 2
    assert "Latency" not in (tmp_path / "paper" / "table3.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_own_confusion_matrices_on_the_same_data_are_figure_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path / "run", 0.5)
    result = evaluation_result()
    others = [("cifar100:x", "test"), ("rafdb-compound:x", "test"), ("rafdb:x", "holdout")]
    for number, (data, split) in enumerate(others):
        facts = {**result.facts, "data": data, "evaluated_on": split}
        save_result(replace(result, facts=facts), tmp_path / f"{number}.npz", table="")
    paper(tmp_path)
    assert "figure4" in capsys.readouterr().err
    facts = {**result.facts, "data": "rafdb:x", "evaluated_on": "test"}
    save_result(replace(result, facts=facts), tmp_path / "rafdb.npz", table="")
    paper(tmp_path)
    told = capsys.readouterr()
    assert "figure4.svg" in told.out
    assert "figure4" not in told.err


@pytest.mark.parametrize(
    ("model", "teacher", "method", "data", "places"),
    [
        ("resnet20", None, "plain", "cifar100:x", 2),
        ("resnet110", None, "plain", "cifar100:x", 2),
        ("resnet20", "resnet56", "logit_standard", "cifar100:x", 1),
        ("mobilevitv2_100", None, "plain", "rafdb:x", 2),
        ("vit_large_patch14_clip_224.openai", None, "plain", "rafdb:x", 1),
        ("mobilenetv2_100.ra_in1k", "vit_large_patch14_clip_224", "dropkd", "rafdb:x", 1),
        ("resnet18", None, "scn", "rafdb:x", 1),
        ("resnet18", "resnet34.tv_in1k", "kd", "imagenet:x", 1),
        ("kdprobe.models.dense_deit:dense_deit", "regnety_160", "cskd", "imagenet:x", 1),
        ("kdprobe.models.dense_deit:dense_deit", None, "plain", "imagenet:x", 0),
        ("deit_tiny_distilled_patch16_224", "regnety_160.deit_in1k", "deit", "imagenet:x", 1),
        ("resnet20", "resnet56", "wttm", "cifar100:x", 1),
        ("resnet18", "resnet34.tv_in1k", "wkd", "imagenet:x", 1),
        ("resnet18d", None, "plain", "rafdb:x", 0),
        ("resnet20", "resnet56", "kd", "rafdb:x", 0),
    ],
)
def test_networks_are_known_by_the_names_that_create_them(
    model: str, teacher: str | None, method: str, data: str, places: int
) -> None:
    told = {"model": model, "teacher": teacher, "method": method, "data": data, "evaluated_on": "test"}
    own = RunGroup("own", ["runs/own"], told, {"accuracy": [70.0]})
    cells = [(name, cell) for name in TABLES for cell in published_table(name).cells]
    assert sum(repeats(own, name, cell.row, cell.column) == "accuracy" for name, cell in cells) == places


@pytest.mark.slow
def test_a_sweep_stands_beside_the_published_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path / "run", 0.5)
    save_result(dropout_result(), tmp_path / "one" / "dropout-feature.npz", table="")
    save_result(dropout_result(2), tmp_path / "two" / "dropout-feature.npz", table="")
    save_result(cka_result(), tmp_path / "cka.npz", table="")
    paper(tmp_path)
    names = {path.stem for path in (tmp_path / "paper").glob("*.svg")}
    assert names == {"figure2-1", "figure2-2", "figure3"}
    assert "figure2-1.svg" in capsys.readouterr().out


def test_both_grids_are_drawn_with_titles() -> None:
    figure = draw_beside(published_grid("figure2"), dropout_result(), ("published: a", "measured: b"))
    assert [text.get_text() for text in figure.texts] == ["published: a", "measured: b"]
    left, _, right, _ = figure.axes
    assert left.get_position().y0 == right.get_position().y0
    assert left.get_position().x1 < right.get_position().x0


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "there is no folder"),
        (lambda folder: folder.mkdir(), "there is no run in"),
        (lambda folder: write_run(folder / "a", finished=False), "none of 1 runs is finished"),
        (
            lambda folder: students(folder, 0.7) or (folder / "x.npz").write_bytes(b"PK"),
            "cannot be read as a kdprobe result",
        ),
    ],
)
def test_a_folder_without_runs_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prepare: Any, message: str
) -> None:
    prepare(tmp_path / "runs")
    with pytest.raises(SystemExit) as stop:
        cli.main(["paper", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_comparison_of_an_older_version_is_refused() -> None:
    with pytest.raises(ResultError, match="a comparison without groups does not say which runs repeat"):
        run_groups(comparison_result())
