"""Trainings that start from weights: identified by their content, and not needed once they have begun."""

import json

import pytest
import torch

import kdprobe
from kdprobe.cli.group import run
from kdprobe.errors import ConfigError, RunError, SweepError
from kdprobe.models import cifar_resnet, model_info
from kdprobe.runs.compare import group
from kdprobe.runs.folder import RunFolder
from kdprobe.runs.inputs import Inputs, read_inputs
from kdprobe.sweeps import engines
from kdprobe.sweeps.ledger import open_ledger
from kdprobe.training import train
from kdprobe.training.build import build
from kdprobe.training.verify import problems
from tests.kdprobe.runs.test_inputs import InProcess
from tests.kdprobe.training.test_loop import Stopped, config, outcome, stop_after

LAST = "last.safetensors"


@pytest.fixture
def weights(tmp_path):
    """A network of 100 classes with padded shortcuts, which its keys say and its name does not."""
    torch.manual_seed(3)
    path = tmp_path / "first.pth"
    torch.save({"state_dict": cifar_resnet("resnet8", num_classes=100, shortcut="A").state_dict()}, path)
    return path


def from_weights(weights, *assignments):
    return config("digits/resnet8", f"model.weights={weights}", "training.precision=fp32", *assignments)


def go(weights, out, *assignments, **options):
    return train(from_weights(weights, *assignments), out, device="cpu", quiet=True, **options)


@pytest.mark.slow
def test_a_run_starts_from_weights_and_does_not_need_them_any_more(weights, tmp_path, monkeypatch, capsys):
    job = build(from_weights(weights), torch.device("cpu"))
    state = torch.load(weights)["state_dict"]
    assert torch.equal(job.student.layer3[0].conv1.weight, state["layer3.0.conv1.weight"])
    result = train(from_weights(weights), tmp_path / "whole", device="cpu")
    assert "first.pth: all but its classifier; a new classifier of 10 classes" in capsys.readouterr().err
    digest = read_inputs(tmp_path / "whole" / "inputs.json").weights
    assert (result["weights"], result["weights_sha256"]) == (str(weights), digest)
    assert model_info(kdprobe.load(tmp_path / "whole")).args == {"shortcut": "A"}

    stop_after(3, monkeypatch)
    with pytest.raises(Stopped):
        go(weights, tmp_path / "run")
    monkeypatch.undo()
    weights.unlink()
    again = go(weights, tmp_path / "run", resume=True)
    assert again["weights_sha256"] == digest
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert problems(RunFolder(tmp_path / "run")) == []
    assert "first weights" not in capsys.readouterr().err


def test_a_run_without_weights_says_nothing_of_them(tmp_path):
    train(config("digits/resnet8", "training.epochs=1"), tmp_path, device="cpu", quiet=True)
    assert not {"weights", "weights_sha256"} & RunFolder(tmp_path).result().keys()
    assert json.loads((tmp_path / "inputs.json").read_text()).keys() == {"format", "version", "teacher", "data"}
    assert "network" not in json.loads((tmp_path / "env.json").read_text())


@pytest.mark.slow
def test_before_it_has_begun_other_weights_are_refused_and_moved_ones_are_not(weights, tmp_path, monkeypatch):
    out = tmp_path / "run"
    go(weights, out, "training.epochs=1")
    for name in ("state.pt", "result.json", "metrics.jsonl", LAST, "best.safetensors"):  # as a kill at once leaves it
        (out / name).unlink()
    moved = weights.rename(tmp_path / "moved.pth")
    with pytest.raises(
        RunError, match=r"cannot go on: its first weights .*first\.pth are not there, say with --set mo"
    ):
        go(weights, out, "training.epochs=1", resume=True)
    torch.save(cifar_resnet("resnet8", shortcut="A").state_dict(), weights)
    with pytest.raises(RunError, match=r"when it began, the weights .*first\.pth had the sha256 .* but now it is"):
        go(weights, out, "training.epochs=1", resume=True)
    assert go(moved, out, "training.epochs=1", resume=True)["weights"] == str(moved)
    assert RunFolder(out).values()["model"]["weights"] == str(moved)


def test_weights_and_published_weights_exclude_each_other():
    with pytest.raises(ConfigError, match=r"model\.weights: must be left out where model\.pretrained takes"):
        config("digits/resnet8", "model.pretrained=true", "model.weights=a.pth")


@pytest.mark.slow
def test_runs_from_other_weights_at_one_path_are_not_compared(weights, tmp_path):
    go(weights, tmp_path / "a", "training.epochs=1")
    torch.save(cifar_resnet("resnet8", shortcut="A").state_dict(), weights)
    go(weights, tmp_path / "b", "training.epochs=1", "seed=1")
    with pytest.raises(RunError, match=r"cannot be compared: their weights .*first\.pth was not the same"):
        group([RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")])


@pytest.mark.slow
def test_a_sweep_whose_cells_have_begun_does_not_need_them(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "make_engine", InProcess)
    settings = ("data.spec=tests.tiny:digits", "training.epochs=1", "training.batch_size=32", "data.workers=0")

    def swept(seeds, weights=weights):
        chosen = [f"--set={one}" for one in (*settings, f"model.weights={weights}")]
        run("sweep", "run", "digits/resnet8", "--out", tmp_path / "S", "--quiet", *chosen, "--grid", f"seed={seeds}")

    swept("0,1")
    ledger = open_ledger(tmp_path / "S")
    digest = ledger.inputs[f"weights {weights}"]
    assert [ledger.run(cell.id).result()["weights_sha256"] for cell in ledger.cells] == [digest] * 2
    moved = weights.rename(tmp_path / "moved.pth")
    swept("0,1")
    with pytest.raises(
        RunError, match=r"S cannot go on: its first weights .*first\.pth are not there, say with --set mod"
    ):
        swept("0,1,2")
    swept("0,1,2", moved)
    ledger = open_ledger(tmp_path / "S")
    third = ledger.run(ledger.cells[2].id).result()
    assert (third["weights"], third["weights_sha256"]) == (str(moved), digest)
    torch.save(cifar_resnet("resnet8", shortcut="A").state_dict(), moved)
    with pytest.raises(
        SweepError, match=r"S cannot go on: when it began, its weights .* had the sha256 .*, but now it"
    ):
        swept("0,1,2,3", moved)


def test_inputs_of_older_runs_have_no_weights(tmp_path):
    Inputs("a" * 64, None).write(tmp_path / "inputs.json")
    assert read_inputs(tmp_path / "inputs.json") == Inputs("a" * 64, None, None)
    assert Inputs(weights="a").changes(Inputs(weights="b"), teacher=None, data=None, weights="w.pth") == [
        "the weights w.pth had the sha256 a, but now it is b"
    ]
