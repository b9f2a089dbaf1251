"""What is told of networks whose files do not say it, by command and in a configuration; weights that changed."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import save_file

import kdprobe
from analyses.cka.epochs import cka_over_time
from kdprobe.cli.group import cli
from kdprobe.errors import AnalysisError, CheckpointError, ConfigError, ModelError
from kdprobe.files import sha256
from kdprobe.models import create, model_info
from kdprobe.models.checkpoint import read_info, read_tensors, save, save_tensors
from tests.kdprobe.test_user_code import run


def invoke(*words):
    CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A foreign network that saw 16 px."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(create("resnet8", n_classes=10, image_size=16).state_dict(), "w.pth")
    return "resnet8@w.pth"


TOLD = ["--image-size", 16, "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"]
FEW = ["--set", "data.per_class=8", "--set", "data.image_size=16"]
SHORT = ["--set", "training.epochs=1", "--set", "training.batch_size=512", *FEW, "--quiet"]


def test_a_dump_says_what_was_told(weights):
    invoke("dump", "--checkpoint", weights, *TOLD, "--data", "digits", "--layers", "fc", "--out", "a.h5", "--quiet")
    with kdprobe.FeatureStore.open("a.h5") as store:
        network = store.network("student")
    assert (network.preprocessing["image_size"], network.preprocessing["std"]) == (16, [0.25] * 3)


def test_complexity_counts_names_and_files_as_told(weights):
    invoke("complexity", weights, "resnet20", "--image-size", 16, "--out", "c", "--quiet")
    table = pd.read_csv("c/complexity.csv")
    assert (table.pixels.tolist(), table.classes.tolist()) == ([16, 16], [10, 100])
    save(create("resnet8", n_classes=3, image_size=8), Path("own.safetensors"))
    with pytest.raises(CheckpointError, match=r"image_size was given, but own\.safetensors specifies its own"):
        invoke("complexity", "own.safetensors", "--image-size", 16, "--out", "e", "--quiet")
    invoke("complexity", "own.safetensors", "resnet8", "--image-size", 16, "--out", "d", "--quiet")
    assert pd.read_csv("d/complexity.csv").pixels.tolist() == [8, 16]


def test_mean_and_std_are_of_as_many_channels(weights):
    with pytest.raises(CheckpointError, match=r"must have the same number of channels, but are \(0\.5,\) and \(0\.2"):
        kdprobe.load(weights, mean=[0.5])


@pytest.mark.parametrize("text", ["", "a,b", "0.5,,0.5", "nan", "0.5,inf", "0.5,0"])
def test_numbers_of_channels_are_numbers(text, weights):
    with pytest.raises(
        ConfigError, match=r"--std takes a number above 0 for each channel, such as 0\.5,0\.5,0\.5, but got"
    ):
        invoke("complexity", weights, "--std", text, "--out", "c")


def test_facts_reach_one_side_alone(weights):
    torch.save(create("resnet8", n_classes=4, image_size=16, args={"shortcut": "A"}).state_dict(), "a.pth")
    words = ["dump", "--teacher", "resnet8@a.pth", "--student", weights, "--data", "digits", "--layers", "fc"]
    words += ["--image-size", 16, "--teacher-std", "0.5,0.5,0.5", "--teacher-args", "shortcut=A", "--out", "a.h5"]
    invoke(*words, "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--quiet")
    with kdprobe.FeatureStore.open("a.h5") as store:
        stds = [store.network(role).preprocessing["std"] for role in ("teacher", "student")]
    assert stds == [[0.5] * 3, [0.25] * 3]
    with pytest.raises(CheckpointError, match="image_size of the teacher was given, but no teacher"):
        invoke("dump", "--student", weights, "--data", "digits", "--teacher-image-size", 16, "--out", "b.h5")


def test_refusals_say_what_is_so(weights):
    for spec, said in (
        ("w.pth", r"w\.pth is not a \.safetensors file; give a model's name with it: NAME@w\.pth"),
        ("resnet18", "no checkpoint resnet18: a network's name has no weights; give resnet18@FILE"),
    ):
        for load in (kdprobe.load, lambda spec: kdprobe.load(spec, image_size=16)):
            with pytest.raises(CheckpointError, match=said):
                load(spec)
        with pytest.raises(CheckpointError, match=said):
            invoke("evaluate", "--checkpoint", spec, "--data", "digits", "--image-size", 16, "--out", "e")
    with pytest.raises(
        CheckpointError, match=r"mean is for images in \[0, 1\], but is 127,127,127; .*: 0\.498,0\.498,0"
    ):
        kdprobe.load(weights, mean=(127,) * 3, std=(64,) * 3)


def test_a_dump_of_features_that_are_not_finite_is_refused(weights):
    state = torch.load("w.pth")
    state["bn1.running_var"] = -state["bn1.running_var"]
    torch.save(state, "w.pth")
    with pytest.raises(
        AnalysisError, match=r"student, minibatch 0, samples from 0 on: layer 'fc' has \d+ NaN and 0 inf"
    ):
        invoke("dump", "--checkpoint", weights, *TOLD, "--data", "digits", "--layers", "fc", "--out", "a.h5", "--quiet")
    assert not Path("a.h5").exists()


def test_a_teacher_is_used_as_told_and_so_again(weights):
    train = ["train", "digits/resnet8-kd", "--teacher", weights, *SHORT]
    invoke(*train, "--mean", "0.5,0.5,0.5", "--out", "a")
    facts = yaml.safe_load(Path("a/config.yaml").read_text())["teacher_facts"]
    assert {key: value for key, value in facts.items() if value not in (None, False)} == {"mean": [0.5] * 3}
    Path("a/result.json").unlink()
    assert run("train", "--resume", "--out", "a", "--quiet")[0] == 0
    status, told = run(*train, "--resume", "--out", "a")
    assert (status, "these keys differ: teacher_facts" in told) == (2, True)
    invoke(*train, "--image-size", 32, "--out", "larger")
    result = json.loads(Path("larger/result.json").read_text())
    assert (result["image_size"], result["teacher_image_size"]) == (16, 32)
    with pytest.raises(ModelError, match="method 'plain' has no use for a teacher"):
        invoke("train", "digits/resnet8", *SHORT, "--image-size", 16, "--out", "b")


@pytest.mark.slow
def test_cka_over_time_shows_the_teacher_what_it_saw(weights):
    snapshots = ["--set", "training.saving.snapshots=1"]
    invoke("train", "digits/resnet8-kd", "--teacher", weights, *SHORT, *snapshots, "--out", "a")
    result = cka_over_time(Path("a"), every=1, teacher_layers="layer3", student_layers="layer3")
    assert result.provenance["teacher"]["image_size"] == 16
    told = cka_over_time(Path("a"), teacher_layers="fc", student_layers="fc", told={"mean": (0.1, 0.1, 0.1)})
    assert told.provenance["teacher"]["mean"] == (0.1, 0.1, 0.1)


def flip(path, place=3):
    """Change one bit of the first tensor of four dimensions."""
    content = bytearray(path.read_bytes())
    start = int.from_bytes(content[:8], "little") + 8
    head = json.loads(content[8:start])
    name = next(key for key, entry in head.items() if key != "__metadata__" and len(entry["shape"]) == 4)
    content[start + head[name]["data_offsets"][0] + place] ^= 8
    path.write_bytes(content)


def test_one_bit_is_noticed_wherever_weights_lie(tmp_path):
    out = tmp_path / "run"
    words = [
        "--set",
        "training.saving.snapshots=1",
        "--set",
        "method.name=fitnet",
        "--teacher",
        tmp_path / "t.safetensors",
    ]
    save(create("resnet8", n_classes=10, image_size=16, data="digits"), tmp_path / "t.safetensors")
    invoke("train", "digits/resnet8-kd", *SHORT, *words, "--out", out)
    names = ["last.safetensors", "best.safetensors", "auxiliary.safetensors", "snapshots/epoch-0001.safetensors"]
    assert set(names) < set(json.loads((out / "result.json").read_text())["sha256"])
    for name in names:
        read_tensors(out / name)
        flip(out / name)
        with pytest.raises(
            CheckpointError, match=rf"{name} is damaged: its tensors' sha256 is \w+, but was \w+ when it"
        ):
            read_tensors(out / name)
    assert run("runs", "verify", out)[0] == 2


def test_another_file_in_its_place_is_noticed(tmp_path):
    one, other = (create("resnet8", n_classes=3, image_size=8) for _ in range(2))
    out = tmp_path / "run"
    for folder, model in ((out, one), (tmp_path, other)):
        save(model, folder / "last.safetensors")
    recorded = {"format": "kdprobe-run", "version": 1, "sha256": {"last.safetensors": sha256(out / "last.safetensors")}}
    (out / "result.json").write_text(json.dumps(recorded))
    assert model_info(kdprobe.load(out)).n_classes == 3
    shutil.copy(tmp_path / "last.safetensors", out)
    with pytest.raises(CheckpointError, match=r"damaged or of another run: its sha256 is \w+, but result\.json says"):
        kdprobe.load(out)
    for text in ("[1]", "{", '{"format": "kdprobe-run", "sha256": 3}', '{"format": "other"}'):
        (out / "result.json").write_text(text)  # no result that says anything of the file
        kdprobe.load(out)


def test_files_of_before_have_no_hash_of_their_own(tmp_path):
    model = create("resnet8", n_classes=3, image_size=8)
    meta = {"format": "kdprobe-checkpoint", "version": 1, "model": model_info(model).to_json(), "training": {}}
    save_file(model.state_dict(), tmp_path / "old.safetensors", {"kdprobe": json.dumps(meta)})
    assert model_info(kdprobe.load(tmp_path / "old.safetensors")).n_classes == 3
    assert read_info(tmp_path / "old.safetensors").image_size == 8
    save_tensors({"a": torch.zeros(())}, tmp_path / "a.safetensors", {"format": "x", "version": 1})
    assert read_tensors(tmp_path / "a.safetensors")[1]["a"].shape == ()
