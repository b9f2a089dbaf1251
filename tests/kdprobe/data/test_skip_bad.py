"""Images that cannot be decoded: an error with the path, or, where they may be skipped, counted and left out."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from kdprobe.cli.group import run
from kdprobe.config import AugmentConfig, RunConfig, parse
from kdprobe.data import evaluation_batches, load_data, training_batches
from kdprobe.distillers import option_types
from kdprobe.errors import DataError
from kdprobe.runs.folder import RunFolder
from kdprobe.training import train

N_BAD = {"train": 3, "test": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 12 training and 6 test images, some of them no images."""
    root = tmp_path_factory.mktemp("some bad")
    source = torch.Generator().manual_seed(0)
    for split, count in (("train", 12), ("test", 6)):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=source)
                Image.fromarray(pixels.numpy()).save(root / split / name / f"{i:02}.png")
        for i in range(N_BAD[split]):
            (root / split / "ab"[i % 2] / f"{i + 2:02}.png").write_bytes(b"no image")
    return root


def config(folder: Path, **data: object) -> RunConfig:
    values = {
        "data": {"spec": f"folder:{folder}", "workers": 1, **data},
        "model": {"name": "resnet8"},
        "training": {"epochs": 2, "batch_size": 8, "schedule": {"name": "constant"}},
    }
    return parse(values, option_types())


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_say_how_many_are_missing(folder: Path, workers: int) -> None:
    data = load_data(f"folder:{folder}", storage="files", skip_bad=True)
    augment = AugmentConfig(rand_augment="rand", erase=0.5)
    training = list(training_batches(data.train, batch_size=8, augment=augment, seed=0, epoch=0, workers=workers))
    assert sum(batch.n_skipped for batch in training) == 3
    assert sorted(torch.cat([batch.index for batch in training]).tolist()) == sorted({*range(24)} - {2, 4, 15})
    assert [len(batch.labels) + batch.n_skipped for batch in training] == [8, 8, 8]
    evaluation = list(evaluation_batches(data.test, batch_size=5, workers=workers))
    assert torch.cat([batch.index for batch in evaluation]).tolist() == sorted({*range(12)} - {2})
    assert [batch.n_skipped for batch in evaluation] == [1, 0, 0]
    assert all(torch.equal(batch.labels, data.test.labels[batch.index]) for batch in evaluation)


def test_the_rest_is_as_without_bad_images(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    for path in whole.rglob("*.png"):
        if path.read_bytes() == b"no image":
            Image.new("RGB", (32, 32)).save(path)
    batches = [
        training_batches(load_data(f"folder:{root}", storage="files", skip_bad=True).train, batch_size=8,
                         augment=AugmentConfig(crop="resized", erase=0.5), seed=0, epoch=0, workers=0)
        for root in (folder, whole)
    ]  # fmt: skip
    for some, every in zip(*batches, strict=True):
        kept = torch.isin(every.index, some.index)
        assert torch.equal(some.images, every.images[kept])


def test_in_memory_they_are_left_out(folder: Path) -> None:
    data = load_data(f"folder:{folder}", storage="memory", skip_bad=True)
    assert (len(data.train), data.train.n_skipped) == (21, 3)
    assert (len(data.test), data.test.n_skipped) == (11, 1)
    files = load_data(f"folder:{folder}", storage="files", skip_bad=True)
    expected = torch.cat([batch.labels for batch in evaluation_batches(files.test, batch_size=4, workers=0)])
    assert torch.equal(data.test.labels, expected)


@pytest.mark.parametrize("storage", ["files", "memory"])
def test_a_run_says_and_records_how_many(
    folder: Path, tmp_path: Path, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(config(folder, storage=storage, skip_bad=True), tmp_path / "run", device="cpu")
    said = "skipped 3 training and 1 evaluation images that cannot be decoded"
    assert capsys.readouterr().err.count(said) == 2
    records = RunFolder(tmp_path / "run").metrics()
    assert [(r["skipped"], r["skipped_in_evaluation"], r["images"]) for r in records] == [(3, 1, 21)] * 2
    assert (result["images_seen"], result["evaluated_images"]) == (42, 11)
    assert result["accuracy"] * 11 == pytest.approx(round(result["accuracy"] * 11))


@pytest.mark.parametrize("storage", ["files", "memory"])
def test_a_link_to_no_file_is_one_of_them(folder: Path, tmp_path: Path, storage: str) -> None:
    linked = tmp_path / "linked"
    shutil.copytree(folder, linked)
    for path in [path for path in linked.rglob("*.png") if path.read_bytes() == b"no image"]:
        path.unlink()
        path.symlink_to(tmp_path / "gone.png")
    train(config(linked, storage=storage, skip_bad=True), tmp_path / "run", device="cpu", quiet=True)
    records = RunFolder(tmp_path / "run").metrics()
    assert [(r["skipped"], r["skipped_in_evaluation"], r["images"]) for r in records] == [(3, 1, 21)] * 2
    with pytest.raises(DataError, match=r"/0[234]\.png cannot be read: No such file"):
        train(config(linked, storage=storage), tmp_path / "other", device="cpu", quiet=True)
    identities = {load_data(f"folder:{root}", skip_bad=True, identified=True).sha256 for root in (folder, linked)}
    assert len(identities) == 2


@pytest.mark.parametrize("storage", ["files", "memory"])
def test_by_default_the_first_one_is_named(folder: Path, tmp_path: Path, storage: str) -> None:
    with pytest.raises(DataError, match=r"train/./0[234]\.png cannot be decoded as an image"):
        train(config(folder, storage=storage), tmp_path / "run", device="cpu", quiet=True)


def test_the_command_skips_them_too(folder: Path, tmp_path: Path) -> None:
    words = ["train", "digits/resnet8", "--data", f"folder:{folder}", "--device", "cpu", "--quiet", "--out", tmp_path]
    run(*words, "--skip-bad", "--set", "training.epochs=1")
    assert RunFolder(tmp_path).metrics()[0]["skipped"] == 3


def test_the_size_is_that_of_the_first_one_that_can_be_read(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "train" / "a" / "00.png").write_bytes(b"no image")
    assert load_data(f"folder:{broken}", storage="files", skip_bad=True).image_size == 32
    with pytest.raises(DataError, match=r"a/00\.png cannot be decoded as an image"):
        load_data(f"folder:{broken}", storage="files")


def test_a_batch_needs_two_images(folder: Path) -> None:
    data = load_data(f"folder:{folder}", storage="files", skip_bad=True)
    split = data.train.take(torch.tensor([0, 2, 4, 15]))
    with pytest.raises(DataError, match=r"only 1 of a batch of 4 images can be decoded, but two are needed"):
        list(training_batches(split, batch_size=4, augment=AugmentConfig(), seed=0, epoch=0, workers=0))


def test_something_must_be_left(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    for path in (broken / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"none of 12 evaluation images can be decoded"):
        train(config(broken, storage="files", skip_bad=True), tmp_path / "run", device="cpu", quiet=True)
    with pytest.raises(DataError, match=r"none of 12 images can be decoded; the first is .*test/a/00\.png"):
        load_data(f"folder:{broken}", storage="memory", skip_bad=True)
