"""`kdprobe evaluate`: from checkpoints to numbers, table and picture."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from analyses.commands.evaluate import evaluate as command
from analyses.evaluation.accuracy import evaluate, evaluation_summary, evaluation_table
from analyses.evaluation.calibration import reliability_result, reliability_table
from analyses.evaluation.names import checkpoint_names
from analyses.evaluation.predictions import judge, predict
from kdprobe import load
from kdprobe.data import DataSet, load_data
from kdprobe.errors import AnalysisError, DataError, DeviceError
from kdprobe.models import create, model_info
from kdprobe.models.checkpoint import save
from kdprobe.models.creation import attach
from kdprobe.results import Result, load_result


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = create("resnet8", n_classes=10, image_size=16 + 8 * seed, data="digits")
        save(model, folder / f"run{seed}" / "last.safetensors")
    with torch.random.fork_rng():
        save(create("resnet8", n_classes=3, image_size=16), folder / "three.safetensors")
    return [str(folder / "run0"), str(folder / "run1" / "last.safetensors"), str(folder / "three.safetensors")]


def test_predictions_are_the_networks_in_order(checkpoints: list[str]) -> None:
    model, data = load(checkpoints[0]), load_data("digits", image_size=16)
    model.train()
    logits = predict(model, data.test, batch_size=100)
    assert model.training
    assert logits.shape == (359, 10)
    assert isinstance(data.test.images, torch.Tensor)
    model.eval()
    image = data.test.images[350:351].float() / 255
    with torch.no_grad():
        alone = model(model_info(model).normalise(image))
    torch.testing.assert_close(logits[350:351], alone, rtol=1e-4, atol=1e-4)


def test_the_result_agrees_with_itself(checkpoints: list[str]) -> None:
    result = evaluate(judge(checkpoints[:2]))
    assert result.facts["names"] == ["run0", "run1"]
    assert result.facts["data"] == "digits"
    targets, predictions = result.arrays["targets"], result.arrays["predictions"]
    np.testing.assert_allclose(result.arrays["accuracy"][:, 0], (predictions == targets).mean(1))
    np.testing.assert_allclose(result.arrays["uar"][:, 0], result.arrays["recall"][:, :, 0].mean(1))
    assert result.arrays["confusion"].sum((1, 2)).tolist() == [359, 359]
    for name in ("accuracy", "uar"):
        value, low, high = result.arrays[name].T
        assert (low <= value).all()
        assert (value <= high).all()
    assert [model["sha256"] is not None for model in result.provenance["models"]] == [True, True]
    unused = set(range(10)) - set(predictions[0].tolist())
    assert np.isnan(result.arrays["precision"][0, sorted(unused), 0]).all()
    for name in ("recall", "precision", "ece"):
        value, low, high = result.arrays[name].reshape(-1, 3).T
        assert ((low <= value) & (value <= high) & (low >= 0) & (high <= 1) & (low < high) | np.isnan(value)).all()


def test_the_table_is_tidy_and_complete(checkpoints: list[str]) -> None:
    result = evaluate(judge(checkpoints[:2]))
    table = evaluation_table(result)
    assert table.groupby("quantity").size().to_dict() == {
        "accuracy": 2,
        "confusion": 200,
        "ece": 2,
        "precision": 20,
        "recall": 20,
        "uar": 2,
    }
    cells = table[(table.quantity == "confusion") & (table.model == "run1")]
    assert cells["count"].to_numpy().reshape(10, 10).tolist() == result.arrays["confusion"][1].tolist()
    assert cells.groupby("true_class").value.sum().to_numpy() == pytest.approx(np.ones(10))
    assert re.search(r"run1 +\d+\.\d\d % \[\d+\.\d\d, \d+\.\d\d\]", evaluation_summary(result))


def test_the_command_saves_result_table_and_picture(checkpoints: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--checkpoint", checkpoints[0], "--checkpoint", checkpoints[1], "--out", str(out), "--device", "cpu"]
    outcome = CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    assert {"model", "accuracy", "UAR", "run0", "run1"} <= set(outcome.stdout.split())
    assert load_result(out / "evaluation.npz", kind="evaluation").arrays["predictions"].shape == (2, 359)
    assert len(pd.read_csv(out / "evaluation.csv")) == 246
    stems, endings = ("evaluation", "reliability"), ("npz", "csv", "pdf", "png")
    assert {path.name for path in out.iterdir()} == {f"{stem}.{ending}" for stem in stems for ending in endings}


def test_what_cannot_be_evaluated_is_refused(checkpoints: list[str]) -> None:
    with pytest.raises(AnalysisError, match=r"three\.safetensors does not name its data set; give one with --data"):
        judge(checkpoints[2:])
    with pytest.raises(AnalysisError, match=r"three\.safetensors knows 3 classes, but digits has 10"):
        judge(checkpoints[2:], "digits")
    with pytest.raises(DataError, match=r"no data set 'digit'; did you mean 'digits'"):
        judge(checkpoints[:1], "digit")
    arguments = ["--checkpoint", checkpoints[0], "--device", "gpu"]
    with pytest.raises(DeviceError, match=r"the device must be auto, cpu"):
        CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    with pytest.raises(AnalysisError, match=r"run0 is given twice"):
        judge([checkpoints[0]] * 2)


def test_classes_are_told_apart_by_name(checkpoints: list[str], tmp_path: Path) -> None:
    digits = load_data("digits", image_size=16)
    order = [3, 0, 1, 2, *range(4, 10)]
    turned, other = tmp_path / "turned.safetensors", tmp_path / "other.safetensors"
    for path, names in (
        (turned, [digits.classes[place] for place in order]),
        (other, [f"class {k}" for k in range(10)]),
    ):
        model = load(checkpoints[0])
        info = replace(model_info(model), classes=tuple(names))
        with torch.no_grad():
            for parameter in model.get_classifier().parameters():
                parameter.copy_(parameter[order].clone())
        attach(model, info)
        save(model, path)
    torch.testing.assert_close(judge([str(turned)])[0].logits, judge(checkpoints[:1])[0].logits, rtol=1e-5, atol=1e-5)
    with pytest.raises(
        AnalysisError, match=r"other\.safetensors does not know the class '0' of digits; it knows 'class 0', "
    ):
        judge([str(other)])


def twins(image_size: int | None = None) -> DataSet:
    """The digits, two of which bear one name."""
    return replace(load_data("digits", image_size=image_size), classes=("0", "1", "2", "2", *"456789"))


def test_classes_of_one_name_are_not_taken_for_each_other(checkpoints: list[str], tmp_path: Path) -> None:
    model, path = load(checkpoints[0]), tmp_path / "twice.safetensors"
    for names in (("0", "1", "2", "2", *"456789"), ("1", "0", "2", "2", *"456789")):
        save(attach(model, replace(model_info(model), classes=names)), path)
        if names[0] == "0":  # in the data's order nothing has to be matched
            judge([str(path)], f"{__name__}:twins")
    with pytest.raises(AnalysisError, match=r"twice\.safetensors calls several of its classes '2', and those of tests"):
        judge([str(path)], f"{__name__}:twins")


def test_a_network_that_gives_nan_is_named(checkpoints: list[str], tmp_path: Path) -> None:
    model = load(checkpoints[0])
    with torch.no_grad():
        list(model.parameters())[-2].fill_(3e38)  # of the classifier: finite, but its logits are not
    save(model, tmp_path / "broken.safetensors")
    with pytest.raises(
        AnalysisError, match=r"broken\.safetensors gives NaN or infinity for 359 of 359 images of digits"
    ):
        judge([str(tmp_path / "broken.safetensors")])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["runs/kd"], ["kd"]),
        (["runs/kd", "runs/plain/last.safetensors"], ["kd", "plain"]),
        (["demo/kd/seed0", "demo/plain/seed0"], ["kd/seed0", "plain/seed0"]),
        (["kd/best.safetensors", "kd"], ["best", "kd"]),
        (["timm:resnet18.a1_in1k", "resnet18@net.pth"], ["resnet18.a1_in1k", "resnet18@net.pth"]),
        (["a", "b/a", "a/last.safetensors"], ["a", "b/a", "a/last.safetensors"]),
    ],
)
def test_names_tell_checkpoints_apart(given: list[str], expected: list[str]) -> None:
    assert checkpoint_names(given) == expected


def test_a_checkpoint_tested_against_another(checkpoints: list[str], tmp_path: Path) -> None:
    arguments = ["--checkpoint", checkpoints[0], "--against", checkpoints[1], "--out", str(tmp_path), "--quiet"]
    outcome = CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    assert re.search(r"accuracy - run1 +UAR - run1", outcome.stdout)
    result = load_result(tmp_path / "evaluation.npz")
    assert result.facts["against"] == "run1"
    for name in ("accuracy", "uar"):
        values = result.arrays[name][:, 0]
        np.testing.assert_allclose(result.arrays[f"{name}_difference"][:, 0], values - values[1], atol=1e-12)
        assert result.arrays[f"{name}_difference"][1].tolist() == [0, 1]
    table = pd.read_csv(tmp_path / "evaluation.csv")
    assert table[table.quantity == "uar difference"].p_value.between(0, 1).all()


def test_several_networks_against_one_are_adjusted_by_holm() -> None:
    shares, tested = np.full((3, 3), 0.5), np.array([[0.1, 0.02], [0, 1], [0.05, 0.04]])
    arrays = dict.fromkeys(("accuracy", "uar", "ece"), shares) | dict.fromkeys(
        ("accuracy_difference", "uar_difference"), tested
    )
    text = evaluation_summary(Result("evaluation", arrays, {"names": ["a", "b", "c"], "against": "b"}))
    assert "+10.00 (p = 0.04)" in text  # twice the smaller p value,
    assert "+5.00 (p = 0.04)" in text  # and no less
    assert text.splitlines()[2].split()[-1] == "-"
    assert "p of a difference from b by permutation over the images, Holm's for all networks tested; it is of" in text


def test_calibration_is_part_of_the_result(checkpoints: list[str]) -> None:
    result = evaluate(judge(checkpoints[:2]))
    bins = reliability_result(result)
    gaps = bins.arrays["count"] * np.abs(bins.arrays["accuracy"] - bins.arrays["confidence"])
    assert np.nansum(gaps, axis=1) / 359 == pytest.approx(bins.arrays["ece"])
    assert bins.arrays["ece"] == pytest.approx(result.arrays["ece"][:, 0])
    table = reliability_table(bins)
    assert table.groupby("model")["count"].sum().to_dict() == {"run0": 359, "run1": 359}
    assert len(table) == 2 * (len(bins.arrays["edges"]) - 1)
