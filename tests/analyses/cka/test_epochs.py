"""Snapshots of a run, and CKA of each with the teacher."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from analyses.cka.epochs import cka_over_time, over_time_summary, over_time_table
from analyses.cka.networks import views_cka
from figures.pictures.cka_over_time import draw_cka_over_time
from figures.report.curves import over_time_panels
from kdprobe.cli.train import _probe
from kdprobe.config import parse, write_yaml
from kdprobe.distillers import option_types
from kdprobe.errors import AnalysisError, ConfigError, RunError, Stopped
from kdprobe.features.shared_images import open_views
from kdprobe.models.checkpoint import LAST, load, read_meta
from kdprobe.results import load_result
from kdprobe.runs.folder import RunFolder
from kdprobe.training import train
from tests.kdprobe.training.test_loop import config, stop_after


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("over-time") / "teacher"
    train(config("digits/vit-teacher", "model.args.depth=3", "training.epochs=1"), out, device="cpu", quiet=True)
    return out


@pytest.fixture(scope="module")
def student(tmp_path_factory, teacher):
    out = tmp_path_factory.mktemp("over-time") / "student"
    train(distilled(teacher), out, device="cpu", quiet=True)
    return out


def distilled(teacher, *assignments):
    settings = ["training.epochs=4", "training.saving.snapshots=2", *assignments]
    return config("digits/resnet8", "method.name=kd", f"teacher={teacher}", *settings)


def command(name, *arguments):
    from analyses.commands.cka import cka
    from kdprobe.cli.train import train as training

    words = [str(argument) for argument in arguments]
    found = {"cka": cka, "train": training}[name]
    return CliRunner().invoke(found, words, catch_exceptions=False, standalone_mode=False)


def test_snapshots_are_the_network_before_training_and_every_so_many_epochs(student):
    kept = RunFolder(student).snapshots()
    assert list(kept) == [0, 2, 4]
    assert kept[0].name == "epoch-0000.safetensors"
    assert [read_meta(path)["training"]["epoch"] for path in kept.values()] == [0, 2, 4]
    last = load(student / LAST).state_dict()
    assert all((value == last[name]).all() for name, value in load(kept[4]).state_dict().items())


@pytest.mark.slow
def test_a_resumed_run_keeps_the_same_snapshots(student, teacher, tmp_path, monkeypatch):
    chosen = distilled(teacher, "training.saving.epochs=3")
    stop_after(14, monkeypatch)
    with pytest.raises(Stopped):
        train(chosen, tmp_path / "run", device="cpu", quiet=True)
    monkeypatch.undo()
    train(chosen, tmp_path / "run", resume=True, device="cpu", quiet=True)
    both = [RunFolder(folder).snapshots() for folder in (student, tmp_path / "run")]
    assert list(both[0]) == list(both[1])
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(*map(dict.values, both), strict=True))


def test_no_snapshots_unless_asked_for(teacher):
    assert not RunFolder(teacher).snapshots()
    with pytest.raises(AnalysisError, match=r"has no snapshots; train with --set training\.saving\.snapshots=K"):
        cka_over_time(teacher)


@pytest.mark.slow
def test_each_epoch_equals_cka_of_its_snapshot(student, teacher):
    result = cka_over_time(student, batch_size=12)
    assert result.arrays["epoch"].tolist() == [0, 2, 4]
    assert result.facts["teacher_layers"] == ["blocks.0", "blocks.1", "blocks.1", "blocks.2"]
    for column, path in enumerate(RunFolder(student).snapshots().values()):
        alone = views_cka(open_views({"teacher": str(teacher), "student": str(path)}), batch_size=12)
        for pair, layer in enumerate(result.facts["student_layers"]):
            row = alone.teacher_layers.index(result.facts["teacher_layers"][pair])
            place = row, alone.student_layers.index(layer)
            assert result.arrays["cka"][pair, column] == pytest.approx(alone.matrix[place], rel=1e-9)
            assert result.arrays["low"][pair, column] == pytest.approx(alone.low[place], rel=1e-9)
            assert result.arrays["high"][pair, column] == pytest.approx(alone.high[place], rel=1e-9)


def test_a_teacher_that_moved_is_named_and_taken_from_its_new_place(student, teacher, tmp_path):
    moved = teacher.rename(tmp_path / "elsewhere")
    try:
        with pytest.raises(
            AnalysisError, match=r"its teacher .* is not there, say with --teacher CKPT where it is now"
        ):
            cka_over_time(student)
        assert cka_over_time(student, teacher=str(moved), every=4, batch_size=12).arrays["epoch"].tolist() == [0, 4]
    finally:
        moved.rename(teacher)


@pytest.mark.slow
def test_chosen_epochs_and_teachers(student, teacher, tmp_path):
    assert cka_over_time(student, every=4, batch_size=12).arrays["epoch"].tolist() == [0, 4]
    same = cka_over_time(student, teacher=str(student), every=4, batch_size=12)
    assert np.allclose(same.arrays["cka"][:, 1], 1)
    plain = tmp_path / "plain"
    train(config("digits/resnet8", "training.epochs=1", "training.saving.snapshots=1"), plain, device="cpu", quiet=True)
    with pytest.raises(AnalysisError, match="was trained without a teacher; give one with --teacher"):
        cka_over_time(plain)
    (plain / "snapshots" / "epoch-0000.safetensors").unlink()
    with pytest.raises(AnalysisError, match="no snapshot at a multiple of 5 epochs; it has snapshots after epochs 1"):
        cka_over_time(plain, every=5)
    with pytest.raises(RunError, match="is not a run folder"):
        cka_over_time(tmp_path)


def test_layers_that_do_not_vary_have_a_reason(student):
    result = cka_over_time(student, teacher_layers="patch_embed", student_layers="fc", batch_size=12, kernel="rbf")
    assert not result.facts["undefined"]
    result.facts["undefined"] = [{"pair": 0, "epoch": 2, "reason": "why"}]
    assert over_time_table(result)["undefined"].tolist() == ["", "why", ""]
    assert over_time_table(result)["no_interval"].tolist() == [""] * 3


def test_few_minibatches_give_no_intervals_with_a_reason(student):
    result = cka_over_time(student, every=4, batch_size=30)
    assert np.isnan(result.arrays["low"]).all()
    reason = "intervals need at least 3 minibatches, but there were 2"
    assert set(over_time_table(result)["no_interval"]) == {reason}
    assert f"no intervals: {reason}" in over_time_summary(result)


def test_command_writes_into_the_run(student):
    said = command("cka", "--run", student, "--every", 2, "--batch-size", 16, "--quiet").output
    assert "CKA at epoch 0  at epoch 4" in said
    assert "60 samples in 4 minibatches, 3 snapshots" in said
    files = {path.name for path in student.iterdir()}
    assert {f"cka-over-time.{ending}" for ending in ("npz", "csv", "pdf", "png")} <= files
    result, table = load_result(student / "cka-over-time.npz"), pd.read_csv(student / "cka-over-time.csv")
    assert table["cka"].to_numpy() == pytest.approx(result.arrays["cka"].ravel())
    assert result.provenance["teacher"]["sha256"]


@pytest.mark.slow
def test_epochs_stand_beside_one_null(student, teacher):
    plain, result = (cka_over_time(student, every=4, batch_size=16, permutations=count) for count in (0, 39))
    np.testing.assert_array_equal(plain.arrays["cka"], result.arrays["cka"])
    assert "calibrated" not in plain.arrays
    last = RunFolder(student).snapshots()[4]
    views = open_views({"teacher": str(teacher), "student": str(last)})
    alone = views_cka(views, batch_size=16, permutations=39, calibrate=True)
    rows, columns = (
        [getattr(alone, key).index(layer) for layer in result.facts[key]]
        for key in ("teacher_layers", "student_layers")
    )
    for name in ("null_mean", "threshold", "p_value", "score"):
        stored = {"p_value": "p_values", "score": "calibrated"}.get(name, name)
        np.testing.assert_allclose(
            result.arrays[stored][:, -1], getattr(alone.calibration.pairs, name)[rows, columns], atol=1e-6
        )
    p_adjusted = result.arrays["p_adjusted"]
    assert (p_adjusted >= result.arrays["p_values"]).all()  # of all pairs and epochs together
    assert result.facts["calibration"]["permutations"] == 39
    assert f"{(p_adjusted <= 0.05).sum()} of {p_adjusted.size} values exceed their null of 39" in over_time_summary(
        result
    )
    assert "p_adjusted" in over_time_table(result)
    hollow = sum(np.isfinite(line.get_ydata()).sum() for line in draw_cka_over_time(result).lines[1::2])
    assert hollow == (p_adjusted > 0.05).sum()
    (chart,) = over_time_panels([("a", result)])[0].charts
    assert [trace["marker"]["symbol"].count("circle-open") for trace in chart.traces] == (p_adjusted > 0.05).sum(
        1
    ).tolist()
    with pytest.raises(AnalysisError, match="calibration needs at least 19 permutations, but got 9"):
        cka_over_time(student, permutations=9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--run", "x", "--student", "y"), "--run takes no --student"),
        (("--run", "x", "--reduce", "gap"), "--run takes no --student, --features or --reduce"),
        (("--every", "2"), "give the run with --run"),
    ],
)
def test_options_that_do_not_go_together(arguments, message):
    with pytest.raises(ConfigError, match=message):
        command("cka", *arguments)


@pytest.mark.slow
def test_a_probed_training_compares_when_it_ends(teacher, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    values = distilled(teacher, "training.epochs=2", "probe.every=2", "training.saving.snapshots=1")
    recipe.write_text(write_yaml(values))
    command("train", recipe, "--out", tmp_path / "run", "--device", "cpu", "--quiet")
    assert list(RunFolder(tmp_path / "run").snapshots()) == [0, 1, 2]
    assert load_result(tmp_path / "run" / "cka-over-time.npz").arrays["epoch"].tolist() == [0, 2]
    (tmp_path / "run" / "cka-over-time.csv").unlink()
    command("train", "--resume", "--out", tmp_path / "run", "--device", "cpu", "--quiet")
    assert not (tmp_path / "run" / "cka-over-time.csv").exists()  # what is there is not made again


def test_several_processes_are_told_the_command(teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    _probe(tmp_path, every=3, device="cpu", quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_probe_needs_a_teacher():
    values = {"data": {"spec": "digits"}, "model": {"name": "resnet8"}, "probe": {"every": 2}}
    with pytest.raises(ConfigError, match="probe: must be left out where there is no teacher to compare with"):
        parse(values, option_types())
