"""The command: what it writes and says, and that what it refuses leaves nothing behind."""

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from analyses.commands.fidelity import fidelity
from kdprobe.errors import AnalysisError, ConfigError, OutputError
from kdprobe.models import create, save
from kdprobe.results import load_result
from tests import tiny


@pytest.fixture
def networks(tmp_path, monkeypatch):
    data = tiny.digits(8)
    monkeypatch.setattr("analyses.evaluation.predictions.load_judged", lambda *_, **__: data)
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
