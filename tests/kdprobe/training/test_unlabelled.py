"""Training without labels: features alone are taught, and nowhere is there an accuracy."""

import json
import signal

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

import kdprobe
from kdprobe.config import parse
from kdprobe.data import load_data
from kdprobe.data.judged import load_judged
from kdprobe.distillers import option_types
from kdprobe.errors import ConfigError, DataError, KdprobeError, ModelError, NoTestImages, Stopped
from kdprobe.runs.compare import gather, group, table, to_result
from kdprobe.runs.curves import training_curves
from kdprobe.runs.folder import RunFolder
from kdprobe.sweeps.table import worded_rows
from kdprobe.training import loop, train
from kdprobe.training.verify import problems

N = 30


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images in folders that mean nothing, and beside them what is none."""
    root = tmp_path_factory.mktemp("pictures")
    for number in range(N):
        path = root / ("abc"[number % 3] * (number % 3)) / "deep" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "run"
    train(config({"spec": "digits", "image_size": 16, "per_class": 3}, epochs=1), out, device="cpu", quiet=True)
    return out


def config(data, *, epochs=2, **more):
    training = {"epochs": epochs, "batch_size": 8, "precision": "fp32", "optimizer": {"lr": 0.01}}
    given = {"data": data, "model": {"name": "resnet8"}, "training": training | more.pop("training", {}), **more}
    return parse(given, option_types(), source="here")


def unlabelled(pictures, teacher, *, method="rkd", data=None, **more):
    options = {"name": method, **({} if method == "plain" else {"ce_weight": 0})} if isinstance(method, str) else method
    found = {"spec": f"images:{pictures}", "image_size": 16, "storage": "files", "workers": 0, **(data or {})}
    taught = {} if options["name"] == "plain" else {"teacher": str(teacher)}
    return config(found, method=options, **taught, **more)


@pytest.fixture(scope="module")
def student(pictures, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("student") / "run"
    return out, train(unlabelled(pictures, teacher), out, device="cpu", quiet=True)


def test_every_image_below_is_read_and_none_has_a_label(pictures):
    data = load_data(f"images:{pictures}", identified=True)
    assert (len(data.train), len(data.test), data.classes, data.n_classes, data.image_size) == (N, 0, (), 0, 16)
    assert data.train.labels.tolist() == [0] * N
    assert sorted(reason for _, reason in data.left_out) == [".txt is not an image file extension", "hidden"]
    held = load_data(f"images:{pictures}", holdout=0.2)
    assert (len(held.train), len(held.test), held.evaluated_on) == (24, 6, "holdout")
    assert len(data.sha256) == 64


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(
        DataError, match=r"^there are no images in .* \(\.jpg, .*\); .*a\.txt is left out: \.txt is not"
    ):
        load_data(f"images:{tmp_path}")
    with pytest.raises(DataError, match=r"^there is no folder .*none$"):
        load_data(f"images:{tmp_path / 'none'}")
    with pytest.raises(DataError, match=r"^images needs a folder: images:DIR$"):
        load_data("images")


def test_no_accuracy_is_written_or_said(student, capsys, tmp_path):
    out, result = student
    assert {key: result[key] for key in ("accuracy", "best_accuracy", "best_epoch", "evaluated_on")} == dict.fromkeys(
        ("accuracy", "best_accuracy", "best_epoch", "evaluated_on")
    )
    assert (result["evaluated_images"], result["images_seen"], result["epochs"]) == (0, 2 * N, 2)
    records = [json.loads(line) for line in RunFolder(out).metrics_path.read_text().splitlines()]
    assert [record["accuracy"] for record in records] == [None, None]
    assert all(set(record["terms"]) == {"distance", "angle"} for record in records)
    assert list(result["sha256"]) == ["last.safetensors"]
    assert not (out / "best.safetensors").exists()
    assert problems(RunFolder(out)) == []
    assert kdprobe.load(out).kdprobe_info.n_classes == 0

    assert kdprobe.main(["runs", "ls", out]) == 0
    assert capsys.readouterr().out.split("\n")[1].split()[-4:] == ["0", "2/2", "-", "finished"]
    for arguments in (["show", out], ["verify", out], ["compare", out], ["curves", out, "--out", tmp_path / "c.npz"]):
        assert kdprobe.main(["runs", *arguments]) == 0, arguments
        shown = capsys.readouterr()
        assert not {"nan", "NaN", "None"} & set((shown.out + shown.err).split()), shown
    assert kdprobe.main(["report", tmp_path / "c.npz", "--out", tmp_path / "report.html"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "training loss over 2 epochs" in page
    assert "accuracy in %" not in page


@pytest.mark.slow
def test_the_command_says_what_was_done(pictures, teacher, tmp_path, capsys):
    given = unlabelled(pictures, teacher, epochs=1).model_dump(mode="json")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(given))
    arguments = ["train", tmp_path / "c.yaml", "--out", tmp_path / "run", "--device", "cpu"]
    for _ in range(2):  # the second time it is finished
        assert kdprobe.main(arguments) == 0
        told = capsys.readouterr()
        assert told.out.startswith(f"{tmp_path / 'run'}: trained without labels, 1 epoch in ")
        arguments = [*arguments, "--resume"]


@pytest.mark.slow
def test_what_no_gradient_reaches_is_told(pictures, teacher, tmp_path, capsys):
    given = unlabelled(pictures, teacher, method="fitnet", epochs=1)
    train(given, tmp_path / "run", device="cpu")
    told = " ".join(capsys.readouterr().err.split())
    assert "parameters of the student, the first layer" in told
    assert (
        "stay as they begin: without labels only what lies before the features that 'fitnet' compares is trai" in told
    )
    train(unlabelled(pictures, teacher, epochs=1), tmp_path / "other", device="cpu")
    assert "stay as they begin" not in capsys.readouterr().err


def test_tables_and_curves_have_no_accuracy(student):
    out, result = student
    groups = group(gather([out]))
    assert table(groups, best=True)[["accuracy %", "best-epoch accuracy %"]].to_numpy().tolist() == [["-", "-"]]
    with pytest.raises(KdprobeError, match=r"^these runs learnt without labels, so none has an accuracy to compare;"):
        to_result(groups)
    curves, _ = training_curves([RunFolder(out)])
    assert np.isnan(curves.arrays["accuracy"]).all()
    assert np.isfinite(curves.arrays["train_loss"]).all()
    row = {"a": 1, "seed": 0, "run": "x", **{key: result[key] for key in ("accuracy", "evaluated_images", "seconds")}}
    assert worded_rows([row]).splitlines()[0].split() == ["a=1", "-"]


def test_a_stopped_run_goes_on_to_the_same_weights(student, pictures, teacher, tmp_path, monkeypatch):
    steps = 0

    def step(self):
        nonlocal steps
        steps += 1
        if steps == 6:
            signal.raise_signal(signal.SIGTERM)
        original(self)

    original = loop.Trainer._step
    monkeypatch.setattr(loop.Trainer, "_step", step)
    given = unlabelled(pictures, teacher)
    with pytest.raises(Stopped, match="stopped by SIGTERM in epoch 2"):
        train(given, tmp_path / "run", device="cpu", quiet=True)
    monkeypatch.undo()
    train(given, tmp_path / "run", resume=True, device="cpu", quiet=True)
    for key, value in load_file(student[0] / "last.safetensors").items():
        assert value.equal(load_file(tmp_path / "run" / "last.safetensors")[key]), key


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            {"method": "plain"},
            ModelError,
            r"^method 'plain' learns from classes, but the data have no labels; take one",
        ),
        ({"method": "kd"}, ModelError, r"^method 'kd' learns from classes, but the data have no labels"),
        (
            {"method": {"name": "rkd"}},
            ModelError,
            r"the cross entropy .* but the data have no labels; set method\.ce_w",
        ),
        ({"data": {"per_class": 3}}, ConfigError, r"^data\.per_class takes images of each class, but images:.* has no"),
        (
            {"training": {"mixing": {"mixup": 0.2}}},
            ConfigError,
            r"^training\.mixing mixes images and their labels, but the data have no labels; set mixup and cutmix to 0$",
        ),
    ],
)
def test_what_needs_labels_is_refused_before_anything_is_written(pictures, teacher, tmp_path, change, error, said):
    with pytest.raises(error, match=said):
        train(unlabelled(pictures, teacher, **change), tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_all_images_are_looked_at_where_none_were_held_out(pictures, student, teacher, tmp_path):
    spec = f"images:{pictures}"
    judged = load_judged(spec, student[0], image_size=16, shown=True)
    assert (len(judged.test), judged.train is judged.test) == (N, True)
    held = tmp_path / "run"
    train(unlabelled(pictures, teacher, data={"holdout": 0.2}, epochs=1), held, device="cpu", quiet=True)
    part = load_judged(spec, held, image_size=16, shown=True)
    assert (len(part.test), part.evaluated_on) == (6, "holdout")
    assert part.shown.identity != judged.shown.identity
    with pytest.raises(NoTestImages, match=r"has no test images"):
        load_data(spec, everything=False)


def test_two_networks_are_compared_on_them_but_not_judged(pictures, student, teacher, tmp_path, capsys):
    spec = f"images:{pictures}"
    pair = ["--teacher", teacher, "--student", student[0], "--data", spec, "--device", "cpu"]
    assert kdprobe.main(["cka", *pair, "--batch-size", "10", "--out", tmp_path / "cka"]) == 0
    assert kdprobe.main(["dump", "--checkpoint", teacher, "--data", spec, "--out", tmp_path / "f.h5"]) == 0
    capsys.readouterr()
    assert kdprobe.main(["evaluate", "--checkpoint", teacher, "--data", spec, "--out", tmp_path / "e"]) == 2
    assert f"evaluation needs labels, but {spec} has none; give labelled images, such as folder:DIR" in (
        capsys.readouterr().err
    )
    assert kdprobe.main(["data", "check", spec]) == 0
    assert f"{spec}: {N} training and 0 test images" in capsys.readouterr().out
