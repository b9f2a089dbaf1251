"""The command: what it writes and says, and that what it refuses leaves nothing behind."""

import signal
import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from analyses.commands.fidelity import fidelity
from kdprobe.errors import AnalysisError, CheckpointError, ConfigError, OutputError
from kdprobe.models import create, save
from kdprobe.results import load_result
from tests import tiny


@pytest.fixture
def networks(tmp_path, monkeypatch):
    data = tiny.digits(8)
    monkeypatch.setattr("analyses.evaluation.predictions.load_judged", lambda *_, **__: data)
    monkeypatch.setattr("kdprobe.cli.saving.run", lambda *_: None)
    for seed, name in enumerate(("teacher", "student", "control")):
        torch.manual_seed(seed)
        network = create("resnet8", n_classes=10, image_size=8, data="digits")
        save(network, tmp_path / f"{name}.safetensors")
    return tmp_path


def run(networks, *arguments, student="student"):
    named = ["--teacher", networks / "teacher.safetensors", "--student", networks / f"{student}.safetensors"]
    words = [str(word) for word in (*named, *arguments, "--out", networks / "out", "--device", "cpu", "--quiet")]
    return CliRunner().invoke(fidelity, words, catch_exceptions=False, standalone_mode=False)


def test_it_writes_result_and_table_has_them_drawn_and_says_what_it_found(networks, monkeypatch):
    asked = []
    monkeypatch.setattr("kdprobe.cli.saving.run", lambda *words: asked.append(words))
    said = run(networks, "--control", networks / "control.safetensors").output
    assert f"Beside control ({tiny.N_TEST} images), student" in said
    result = load_result(networks / "out" / "fidelity.npz", kind="fidelity")
    own, _ = result.arrays["predictions"]
    accuracy = pd.read_csv(networks / "out" / "fidelity.csv").query("quantity == 'accuracy'")["value"].iloc[0]
    assert accuracy == pytest.approx(np.mean(own == result.arrays["targets"]))
    assert result.facts["roles"] == ["student", "control"]
    assert asked[0][:2] == ("figures", networks / "out" / "fidelity.npz")


def test_what_it_refuses_leaves_nothing_behind(networks):
    with pytest.raises(ConfigError, match="fidelity needs a teacher; give it with --teacher"):
        words = ["--student", str(networks / "student.safetensors"), "--out", str(networks / "out")]
        CliRunner().invoke(fidelity, words, catch_exceptions=False, standalone_mode=False)
    (networks / "same.safetensors").write_bytes((networks / "teacher.safetensors").read_bytes())
    with pytest.raises(AnalysisError, match="same is the same network as the teacher: both"):
        run(networks, student="same")
    assert not (networks / "out").exists()


def test_a_file_in_the_way_is_kept(networks):
    (networks / "out").mkdir()
    (networks / "out" / "fidelity.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"fidelity\.csv already exists"):
        run(networks)
    assert [path.read_text() for path in (networks / "out").iterdir()] == ["mine"]


def keep(path, classes=(), *, order=None, **more):
    """A network of seed 0, as `teacher` is; its last layer in another order of classes."""
    torch.manual_seed(0)
    network = create("resnet8", n_classes=10, image_size=8, classes=classes, **more)
    if order is not None:
        for values in network.fc.parameters():
            values.data = values.data[order]
    save(network, path)


def test_classes_in_another_order_are_the_same_classes(networks):
    order = [3, 1, 0, 2, 9, 8, 7, 6, 5, 4]
    keep(networks / "other.safetensors", [str(name) for name in order], order=order)
    said = run(networks, student="other").output
    result = load_result(networks / "out" / "fidelity.npz")
    values = dict(zip(result.facts["quantities"], result.arrays["values"][0], strict=True))
    assert values["agreement"][0] == values["error_consistency"][0] == 1
    assert 0.9 < values["agreement"][1] < 1 == values["agreement"][2]  # 60 equal answers are no proof of equal networks
    assert values["jensen_shannon"][0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(values["jensen_shannon"][1])
    assert "Jensen-Shannon divergence, other: no interval" in said
    assert "Cohen's kappa, other: both give the same class to every image" in said
    assert [entry["quantity"] for entry in result.facts["undefined"]] == ["kappa", "jensen_shannon"]


@pytest.mark.parametrize(
    ("network", "error", "said"),
    [
        (
            {"n_classes": 0},
            AnalysisError,
            "has no classifier, so it answers nothing; kdprobe evaluate judges its features",
        ),
        ({"n_classes": 4}, AnalysisError, "knows 4 classes, but digits has 10"),
        ({"n_classes": 10, "classes": list("abcdefghij")}, AnalysisError, "does not know the class '0' of digits"),
        (None, CheckpointError, r"other\.h5 is an HDF5 file, as dumps of features are, and no network"),
    ],
)
def test_networks_that_do_not_answer_with_the_same_classes_are_refused(networks, network, error, said):
    path = networks / ("other.h5" if network is None else "other.safetensors")
    if network is None:
        h5py.File(path, "w").close()
    else:
        save(create("resnet8", image_size=8, **network), path)
    with pytest.raises(error, match=said):
        run(networks, "--student", path)
    assert not (networks / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rename", range(1, 5))
def test_a_killed_command_leaves_whole_files_alone(networks, rename):
    code = (
        "import os, signal, sys\n"
        "from analyses.evaluation import predictions\n"
        "from kdprobe import main\n"
        "from tests import tiny\n"
        "predictions.load_judged = lambda *_, **__: tiny.digits(8)\n"
        "left = [int(sys.argv[1])]\n"
        "def hook(event, arguments):\n"
        "    if event == 'os.rename' and 'out' in str(arguments[1]):\n"
        "        left[0] -= 1\n"
        "        if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(hook)\n"
        "main(sys.argv[2:])\n"
    )
    words = [f"--{name}={networks / name}.safetensors" for name in ("teacher", "student", "control")]
    words = ["fidelity", *words, f"--out={networks / 'out'}", "--device=cpu", "--quiet"]
    done = subprocess.run([sys.executable, "-c", code, str(rename), *words], check=False)
    assert done.returncode == -signal.SIGKILL
    found = [path for path in (networks / "out").iterdir() if not path.name.startswith(".")]
    for path in found:
        assert path.suffix != ".npz" or load_result(path).kind in ("fidelity", "inherited-errors")
        assert path.suffix != ".csv" or len(pd.read_csv(path))
    run(networks, "--control", networks / "control.safetensors")
    assert not [path for path in (networks / "out").iterdir() if path.name.startswith(".") or "partial" in path.name]
