"""A teacher and a data set are what they hold, not the path they lie at."""

import json
import os
import re
import shutil
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from analyses.cka.epochs import cka_over_time
from kdprobe.cli.group import run
from kdprobe.data import ImageFiles, Split, identity, load_data
from kdprobe.data.identity import content_sha256
from kdprobe.errors import AnalysisError, DataError, RunError, SweepError
from kdprobe.models import create
from kdprobe.models.checkpoint import save
from kdprobe.models.identity import weights_sha256
from kdprobe.runs.compare import group, unknown_inputs
from kdprobe.runs.folder import RunFolder
from kdprobe.runs.inputs import Inputs, read_inputs
from kdprobe.sweeps import engines
from kdprobe.sweeps.ledger import open_ledger
from kdprobe.sweeps.work import work
from kdprobe.training import train
from kdprobe.training.places import require_inputs
from tests.kdprobe.runs.test_folder import write_run
from tests.kdprobe.training.test_loop import config


@pytest.fixture
def folder(tmp_path):
    """Four images in two classes and two splits."""
    for number, name in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (tmp_path / "D" / name).mkdir(parents=True)
        for i in range(2):
            pixels = np.full((16, 16, 3), 20 * number + i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "D" / name / f"{i}.bmp")
    return tmp_path / "D"


def sha(folder):
    return load_data(f"folder:{folder}", identified=True, decode=False).sha256


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


CHANGES = {
    "one bit": lambda folder: flip(folder / "test/b/1.bmp"),
    "a new name": lambda folder: (folder / "train/a/0.bmp").rename(folder / "train/a/9.bmp"),
    "another class": lambda folder: (folder / "train/a/0.bmp").rename(folder / "train/b/9.bmp"),
    "one more": lambda folder: shutil.copy(folder / "train/a/0.bmp", folder / "train/a/7.bmp"),
    "one fewer": lambda folder: (folder / "train/a/0.bmp").unlink(),
    "a class's name": lambda folder: [
        (folder / split / "b").rename(folder / split / "c") for split in ("train", "test")
    ],
    "the splits": lambda folder: [
        (folder / one).rename(folder / other) for one, other in (("train", "x"), ("test", "train"), ("x", "test"))
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_data_that_change_have_another_sha256(folder, change):
    before = sha(folder)
    CHANGES[change](folder)
    assert sha(folder) != before


def test_data_that_are_moved_or_touched_have_the_same(folder, tmp_path):
    before = sha(folder)
    shutil.copytree(folder, tmp_path / "elsewhere" / "E")
    os.utime(folder / "train/a/0.bmp", (1, 1))
    assert sha(folder) == sha(tmp_path / "elsewhere" / "E") == before
    whole = load_data(f"folder:{folder}", identified=True, storage="memory", holdout=0.5)
    assert whole.sha256 == before, "storage and what is held out are the configuration's"


def test_of_large_sets_some_files_are_read_and_all_are_named(folder, monkeypatch):
    monkeypatch.setattr(identity, "WHOLE", 100)
    monkeypatch.setattr(identity, "SAMPLED", 2)
    before = sha(folder)
    flip(folder / "train/a/1.bmp")
    assert sha(folder) == before, "the second of four is not among those read"
    flip(folder / "train/a/0.bmp")
    changed = sha(folder)
    assert changed != before
    with (folder / "train/a/1.bmp").open("ab") as file:
        file.write(b"x")
    assert sha(folder) != changed


def test_a_file_that_cannot_be_read(tmp_path):
    files = ImageFiles((str(tmp_path / "a.png"), str(tmp_path / "b.png")))
    data = load_data("tests.tiny:digits", image_size=32)
    data = replace(data, train=Split(files, torch.tensor([0, 1]), 32))
    with pytest.raises(DataError, match=r"a\.png cannot be read: No such file"):
        content_sha256(data)


def test_pixels_labels_and_classes_count():
    data = load_data("tests.tiny:digits", image_size=32)
    images, labels = data.train.images.clone(), data.train.labels.clone()
    images[5, 0, 3, 3] ^= 1
    labels[5] = (labels[5] + 1) % 10
    others = [
        replace(data, train=replace(data.train, images=images)),
        replace(data, train=replace(data.train, labels=labels)),
        replace(data, classes=tuple("abcdefghij")),
        replace(data, test=data.train, train=data.test),
    ]
    assert len({content_sha256(one) for one in (data, *others)}) == 5
    assert content_sha256(data) == content_sha256(load_data("tests.tiny:digits", image_size=32))


def test_weights_that_come_from_no_file():
    torch.manual_seed(0)
    model = create("resnet8", n_classes=10, image_size=32)
    before = weights_sha256(model)
    assert weights_sha256(model) == before
    model.bn1.num_batches_tracked += 1
    assert weights_sha256(model) != before


def test_inputs_that_are_damaged(tmp_path):
    path = tmp_path / "inputs.json"
    assert read_inputs(path) is None
    Inputs("a", "b").write(path)
    assert read_inputs(path) == Inputs("a", "b")
    known = json.loads(path.read_text())
    for text, message in (
        ("{", r"inputs\.json cannot be read as the sha256 of a run's teacher and data \(JSONDecodeError"),
        ("[]", r"inputs\.json does not hold 'kdprobe-inputs' version 1"),
        (json.dumps(known | {"version": 2}), r"does not hold 'kdprobe-inputs' version 1"),
        (json.dumps(known | {"data": 3}), r"is damaged: data must be a sha256, but is 3"),
    ):
        path.write_text(text)
        with pytest.raises(RunError, match=message):
            read_inputs(path)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of one epoch of two, with snapshots, and its teacher and data."""
    place = tmp_path_factory.mktemp("begun")
    for number, name in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (place / "D" / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8) // 2 + np.uint8(i)
            Image.fromarray(pixels).save(place / "D" / name / f"{i}.png")
    save(create("resnet8", n_classes=2, image_size=16), place / "T.safetensors")
    train(chosen(place), place / "R", device="cpu", quiet=True)
    (place / "R" / "result.json").unlink()  # as a kill before the end leaves it
    return place


def chosen(place, *assignments):
    settings = (f"data.spec=folder:{place}/D", "data.image_size=16", "data.workers=0", "training.saving.snapshots=1")
    return config("digits/resnet8-kd", f"teacher={place}/T.safetensors", *settings, *assignments)


@pytest.fixture
def interrupted(begun, tmp_path, monkeypatch):
    """A copy of it, at a path that stays the same."""
    place = tmp_path / "copy"
    shutil.copytree(begun, place)
    text = (place / "R" / "config.yaml").read_text()
    (place / "R" / "config.yaml").write_text(text.replace(str(begun), str(place)))
    return place


def retrain(place):
    torch.manual_seed(7)
    save(create("resnet8", n_classes=2, image_size=16), place / "T.safetensors")


def test_a_run_says_what_it_learns_from(interrupted):
    inputs = RunFolder(interrupted / "R").inputs()
    assert inputs == Inputs(identity_of(interrupted), sha(interrupted / "D"))
    result = train(chosen(interrupted), interrupted / "R", resume=True, device="cpu", quiet=True)
    assert (result["teacher_sha256"], result["data_sha256"]) == (inputs.teacher, inputs.data)


def identity_of(place):
    from kdprobe.files import sha256

    return sha256(place / "T.safetensors")


@pytest.mark.parametrize("what", ["teacher", "data"])
def test_a_run_does_not_go_on_with_others(interrupted, what):
    before = RunFolder(interrupted / "R").inputs()
    retrain(interrupted) if what == "teacher" else flip(interrupted / "D/train/a/0.png")
    now = Inputs(identity_of(interrupted), sha(interrupted / "D"))
    expected = rf"R cannot go on: when it began, the {what} .* had the sha256 {getattr(before, what)}, but now it is "
    kept = {path: path.read_bytes() for path in (interrupted / "R").rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=expected + getattr(now, what)):
        train(chosen(interrupted), interrupted / "R", resume=True, device="cpu", quiet=True)
    assert kept == {path: path.read_bytes() for path in (interrupted / "R").rglob("*") if path.is_file()}


def test_a_run_that_does_not_say_goes_on_with_a_word(interrupted, capsys):
    (interrupted / "R" / "inputs.json").unlink()
    train(chosen(interrupted), interrupted / "R", resume=True, device="cpu")
    assert "was begun by an older kdprobe, which did not record its teacher and data" in capsys.readouterr().err


def test_what_was_not_written_before_a_kill_is_written_at_resume(interrupted, capsys):
    for path in (interrupted / "R").iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    train(chosen(interrupted), interrupted / "R", resume=True, device="cpu")
    assert RunFolder(interrupted / "R").inputs() == Inputs(identity_of(interrupted), sha(interrupted / "D"))
    assert "did not write down" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("what", ["teacher", "data"])
def test_cka_over_a_runs_epochs_takes_the_teacher_and_the_data_that_it_learnt_from(interrupted, what):
    layers = {"teacher_layers": "layer1", "student_layers": "layer1", "batch_size": 16}
    layers["data"] = f"folder:{interrupted}/D"
    assert cka_over_time(interrupted / "R", **layers).kind == "cka-over-time"
    if what == "teacher":
        retrain(interrupted)
    else:
        flip(interrupted / "D/train/a/0.png")
    with pytest.raises(
        AnalysisError, match=rf"R was trained with a different teacher or data: the {what} .* but now it is .*; give"
    ):
        cka_over_time(interrupted / "R", **layers)
    if what == "teacher":
        shutil.copy(interrupted / "T.safetensors", interrupted / "U.safetensors")
        cka_over_time(interrupted / "R", teacher=str(interrupted / "U.safetensors"), **layers)


@pytest.mark.parametrize("what", ["teacher", "data"])
def test_runs_of_different_teachers_or_data_are_not_compared(tmp_path, what):
    for number, name in enumerate("ab"):
        write_run(tmp_path / name, f"seed={number}", method="kd")
        path = tmp_path / name / "result.json"
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"data_sha256": "d", "teacher_sha256": "t", f"{what}_sha256": name * 64}))
    runs = [RunFolder(tmp_path / name) for name in "ab"]
    with pytest.raises(RunError, match=rf"compared: their {what} \S+ was not the same: its sha256 was a+ and b+"):
        group(runs)
    assert unknown_inputs(group(runs[:1])) == ""
    (tmp_path / "a" / "result.json").write_text(
        (tmp_path / "a" / "result.json").read_text().replace("data_sha256", "x")
    )
    assert unknown_inputs(group(runs[:1])).startswith("1 of 1 runs name their teacher and data by path alone")


@pytest.mark.parametrize("whole", ["run", "data", "teacher"])
def test_what_moved_is_named_and_goes_on_from_its_new_place(interrupted, begun, whole, tmp_path):
    names = {"run": "R", "data": "D", "teacher": "T.safetensors"}
    out, at = interrupted / "R", {"teacher": f"{interrupted}/T.safetensors", "data.spec": f"folder:{interrupted}/D"}
    new = (interrupted / names[whole]).rename(tmp_path / f"moved{(interrupted / names[whole]).suffix}")
    if whole == "run":
        out = new
    else:
        key, named = ("teacher", str(new)) if whole == "teacher" else ("data.spec", f"folder:{new}")
        option = {"teacher": "is not there, say with --teacher CKPT", "data": "are not there, say with --data folder:"}
        expected = (
            rf"R cannot go on: its {whole} {re.escape(at[key])} {option[whole]}(DIR)? where (it|they) (is|are) now; "
        )
        with pytest.raises(RunError, match=expected):
            train(chosen(interrupted), out, resume=True, device="cpu", quiet=True)
        at[key] = named
    assignments = [f"{key}={place}" for key, place in at.items()]
    result = train(chosen(interrupted, *assignments), out, resume=True, device="cpu", quiet=True)
    assert (result["teacher"], result["data"]) == (at["teacher"], at["data.spec"])
    assert read_inputs(out / "inputs.json") == read_inputs(begun / "R" / "inputs.json")


def test_other_content_at_a_new_place_is_refused(interrupted):
    (interrupted / "D").rename(interrupted / "E")
    flip(interrupted / "E/train/a/0.png")
    with pytest.raises(
        RunError, match=r"R cannot go on: when it began, the data .*/E had the sha256 .*, but now it is"
    ):
        train(
            chosen(interrupted, f"data.spec=folder:{interrupted}/E"),
            interrupted / "R",
            resume=True,
            device="cpu",
            quiet=True,
        )


@pytest.mark.parametrize(
    ("teacher", "data", "missing"),
    [
        ("resnet8@{}/none.pth", "digits", ["teacher"]),
        ("resnet8@{}/there.pth#model", "digits", []),
        ("timm:resnet18", "module:function", []),
        ("{}/none", "folder:{}/none", ["teacher", "data"]),
        ("{}/there.pth", "cifar10:{}/empty", ["data"]),
    ],
)
def test_which_inputs_are_missing(tmp_path, teacher, data, missing):
    (tmp_path / "there.pth").touch()
    (tmp_path / "empty").mkdir()
    settings = [f"teacher={teacher.format(tmp_path)}", f"data.spec={data.format(tmp_path)}"]
    asked = config("digits/resnet8-kd", *settings)
    try:
        require_inputs(asked, "runs/a")
        said = ""
    except RunError as error:
        said = str(error)
    assert [what for what in ("teacher", "data") if f"its {what} " in said] == missing
    if "data" not in missing:
        return
    if missing == ["data"]:
        require_inputs(asked, "runs/a", download=True)


class InProcess:
    """An engine that trains here and now."""

    slots = 1

    def __init__(self, _name, order, **_options):
        self.order = order

    def submit(self, cell, given_up=0):
        future = Future()
        future.set_result(work(self.order, cell.id, cell.config, given_up))
        return future

    def abandon(self, cell):
        pass

    def close(self):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("what", ["teacher", "data"])
def test_a_sweep_goes_on_where_its_inputs_lie_now(interrupted, what, monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "make_engine", InProcess)
    settings = ["data.image_size=16", "data.workers=0", "training.epochs=1", "training.batch_size=8"]
    common = [
        "sweep",
        "run",
        "digits/resnet8-kd",
        "--out",
        tmp_path / "S",
        "--quiet",
        *(f"--set={s}" for s in settings),
    ]
    places = {"teacher": interrupted / "T.safetensors", "data": interrupted / "D"}

    def swept(n_seeds, **moved):
        at = {**places, **moved}
        run(*common, "--teacher", at["teacher"], "--data", f"folder:{at['data']}", "--grid", f"seed={n_seeds}")

    swept("0,1")
    ledger = open_ledger(tmp_path / "S")
    written = {cell.id: ledger.run(cell.id).result_path.read_bytes() for cell in ledger.cells}
    new = places[what].rename(tmp_path / f"moved{places[what].suffix}")
    with pytest.raises(RunError, match=rf"S cannot go on: its {what} .* not there, say with --{what} "):
        swept("0,1,2")
    swept("0,1,2", **{what: new})
    moved = open_ledger(tmp_path / "S")
    assert [cell.id for cell in moved.cells][:2] == [cell.id for cell in ledger.cells]
    assert {cell: moved.run(cell).result_path.read_bytes() for cell in written} == written, "they are not done again"
    third = moved.run(moved.cells[2].id)
    assert str(new) in third.config_path.read_text()
    assert third.result()["data_sha256"] == json.loads(written[ledger.cells[0].id])["data_sha256"]
    if what == "data":
        flip(new / "train/a/0.png")
    else:
        save(create("resnet8", n_classes=2, image_size=16), new)
    with pytest.raises(
        SweepError, match=rf"S cannot go on: when it began, its {what} .* had the sha256 .*, but now it is"
    ):
        swept("0,1,2,3", **{what: new})
    plan = json.loads((tmp_path / "S/sweep.json").read_text())
    (tmp_path / "S/sweep.json").write_text(json.dumps({**plan, "inputs": {}}))
    for cell in moved.cells:
        result = moved.run(cell.id).result()
        moved.run(cell.id).write_result({key: value for key, value in result.items() if not key.endswith("_sha256")})
    with pytest.raises(
        SweepError, match=rf"S cannot go on with its {what} .* at another place: it was begun by a kdprobe"
    ):
        swept("0,1,2,3", **{what: new})
