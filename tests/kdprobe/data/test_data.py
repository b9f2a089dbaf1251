"""Data sets by name: what is read, how it is divided, and what is said of broken ones."""

import pickle
import shutil
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_digits
from torch import Tensor

from kdprobe.config import AugmentConfig
from kdprobe.data import DataSet, ImageFiles, Split, load_data
from kdprobe.data.dataset import stratified
from kdprobe.data.decode import decode
from kdprobe.errors import ConfigError, DataError

RESIZED = AugmentConfig(crop="resized")


def pixels(split: Split) -> Tensor:
    assert isinstance(split.images, Tensor)
    return split.images


def write_images(folder: Path, count: int, *, size: tuple[int, int] = (12, 10), value: int = 0) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", size, (value, 10 * i, 255)).save(folder / f"{i}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for value, name in enumerate(("cat", "dog")):
        write_images(root / "train" / name, 8, value=100 + value)
        write_images(root / "test" / name, 3, value=200 + value)
    (root / "train" / ".hidden").mkdir()
    (root / "train" / "cat" / "notes.txt").write_text("not an image")
    return root


def test_digits_are_all_there_once() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert data.classes == tuple("0123456789")
    assert (data.image_size, data.evaluated_on) == (32, "test")
    assert pixels(data.train).shape[1:] == (3, 32, 32)
    for label in range(10):
        train, test = ((split.labels == label).sum().item() for split in (data.train, data.test))
        assert test == round(0.2 * (train + test))


def test_digits_are_the_same_every_time_and_statistics_are_theirs() -> None:
    data = load_data("digits")
    assert torch.equal(pixels(data.train), pixels(load_data("digits", seed=7).train))
    images = pixels(data.train).double() / 255
    assert data.mean == pytest.approx([images.mean().item()] * 3, abs=5e-5)
    assert data.std == pytest.approx([images.std(correction=0).item()] * 3, abs=5e-5)


def test_digits_at_their_own_size_have_seventeen_levels() -> None:
    data = load_data("digits", image_size=8)
    assert len(pixels(data.train).unique()) == 17
    assert pixels(data.train).max() == 255


def test_digits_are_those_of_scikit_learn() -> None:
    found = load_digits()
    data = load_data("digits", image_size=8)
    shown = torch.cat([pixels(data.train)[:, 0], pixels(data.test)[:, 0]]).double() / (255 / 16)
    labels = torch.cat([data.train.labels, data.test.labels])

    def rows(levels: Tensor, labels: Tensor) -> list[list[int]]:
        return sorted(torch.cat([levels.round().long().flatten(1), labels[:, None]], 1).tolist())

    assert rows(shown, labels) == rows(torch.from_numpy(found.images), torch.from_numpy(found.target))


def test_digits_take_no_folder() -> None:
    with pytest.raises(DataError, match=r"digits come with scikit-learn and take no folder, but got 'somewhere'"):
        load_data("digits:somewhere")


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_holdout_is_stratified_and_disjoint(fraction: float) -> None:
    whole, data = load_data("digits"), load_data("digits", holdout=fraction, seed=1)
    assert data.evaluated_on == "holdout"
    assert len(data.train) + len(data.test) == len(whole.train)
    counts = whole.train.labels.bincount() * fraction
    assert (data.test.labels.bincount() - counts).abs().max() <= 0.5
    together = torch.cat([pixels(data.train), pixels(data.test)]).flatten(1)
    assert torch.equal(together.sum(1).sort().values, pixels(whole.train).flatten(1).sum(1).sort().values)


def test_holdout_depends_on_the_seed_alone() -> None:
    one, same, other = (load_data("digits", holdout=0.2, seed=seed).test for seed in (1, 1, 2))
    assert torch.equal(pixels(one), pixels(same))
    assert not torch.equal(pixels(one), pixels(other))


def test_a_few_training_images_of_each_class() -> None:
    def read(**options: Any) -> DataSet:
        return load_data("digits", image_size=8, **options)

    def rows(split: Split) -> set[bytes]:
        return {image.numpy().tobytes() for image in pixels(split)}

    whole, data, again, other = read(), *(read(per_class=5, seed=seed) for seed in (1, 1, 2))
    assert data.train.labels.bincount().tolist() == [5] * 10
    assert torch.equal(pixels(data.train), pixels(again.train))
    assert not torch.equal(pixels(data.train), pixels(other.train))
    assert rows(data.train) <= rows(whole.train)
    assert torch.equal(pixels(data.test), pixels(whole.test))
    held = read(per_class=5, holdout=0.25, seed=1)
    assert rows(held.train).isdisjoint(rows(held.test))
    assert len(read(per_class=10_000).train) == len(whole.train)


def test_holdout_keeps_every_class_on_both_sides() -> None:
    with pytest.raises(DataError, match=r"0\.001 cannot be taken from class 0, which has 142 images: 0 would be"):
        load_data("digits", holdout=0.001)
    with pytest.raises(DataError, match=r"0\.5 cannot be taken from class 2, which has 1 images"):
        stratified(torch.tensor([0, 0, 2]), 0.5, torch.Generator())


def test_a_folder_is_read_into_memory(folder: Path) -> None:
    data = load_data(f"folder:{folder}")
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.test), data.image_size) == (16, 6, 10)
    assert data.train.labels.tolist() == [0] * 8 + [1] * 8
    assert pixels(data.train)[:, 0, 5, 5].tolist() == [100] * 8 + [101] * 8
    assert pixels(data.test)[:, 1, 5, 5].tolist() == [0, 10, 20] * 2


def test_a_folder_stays_files_when_asked_or_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = f"folder:{folder}"
    assert isinstance(load_data(spec, storage="files").train.images, ImageFiles)
    assert isinstance(load_data(spec, augment=RESIZED).train.images, ImageFiles)
    monkeypatch.setattr("kdprobe.data.decode._MOST_BYTES", 22 * 3 * 10 * 10 - 1)
    assert isinstance(load_data(spec).train.images, ImageFiles)
    assert isinstance(load_data(spec, storage="memory").train.images, Tensor)


def test_holding_out_files(folder: Path) -> None:
    data = load_data(f"folder:{folder}", storage="files", holdout=0.25)
    assert isinstance(data.train.images, ImageFiles)
    assert isinstance(data.test.images, ImageFiles)
    assert len(set(data.train.images.paths) | set(data.test.images.paths)) == 16
    for path, label in zip(data.test.images.paths, data.test.labels.tolist(), strict=True):
        assert Path(path).parent.name == data.classes[label]


def test_val_serves_where_there_is_no_test(folder: Path) -> None:
    (folder / "test").rename(folder / "val")
    assert len(load_data(f"folder:{folder}").test) == 6
    data = load_data(f"imagenet:{folder}")
    assert (data.image_size, len(data.test)) == (224, 6)
    assert data.mean == (0.485, 0.456, 0.406)


def test_large_first_images_are_shown_at_224(folder: Path) -> None:
    Image.new("RGB", (300, 400)).save(folder / "train" / "cat" / "0.png")
    assert load_data(f"folder:{folder}").image_size == 224


def test_imagenet_is_cut_at_seven_eighths(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_images(tmp_path / split / "a", 1)
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (256, 1, 3))
    Image.fromarray(ramp).save(tmp_path / "val" / "a" / "0.png")
    row = pixels(load_data(f"imagenet:{tmp_path}").test)[0, 0, 112].tolist()
    assert row == list(range(16, 240))


def test_a_broken_folder_is_told_apart(folder: Path) -> None:
    def message() -> str:
        with pytest.raises(DataError) as caught:
            load_data(f"folder:{folder}")
        return str(caught.value)

    (folder / "train" / "owl").mkdir()
    assert f"class 'owl' has no images in {folder / 'train' / 'owl'}" in message()
    shutil.rmtree(folder / "train" / "owl")
    write_images(folder / "test" / "emu", 1)
    assert message() == f"class 'emu' of folder:{folder} has test images but no training images"
    shutil.rmtree(folder / "test" / "emu")
    shutil.rmtree(folder / "test")
    assert message().startswith(f"folder:{folder} has no test images; add some (a folder has them in test/ or val/)")
    (folder / "test").mkdir()
    assert message() == f"{folder / 'test'} is empty: it must hold one folder of images per class"
    shutil.rmtree(folder / "train")
    assert message() == f"{folder} has no folder train/"
    shutil.rmtree(folder)
    assert message() == f"there is no folder {folder}"


def test_an_undecodable_image_is_named(folder: Path) -> None:
    (folder / "train" / "dog" / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"dog/5\.png cannot be decoded as an image"):
        load_data(f"folder:{folder}")
    (folder / "train" / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"cat/0\.png cannot be decoded as an image"):
        load_data(f"folder:{folder}", storage="files")


@pytest.mark.parametrize("name", ["folder", "imagenet", "cifar10", "cifar100"])
def test_a_folder_is_needed(name: str) -> None:
    with pytest.raises(DataError, match=rf"^{name} needs a folder: {name}:DIR"):
        load_data(name)


def test_unknown_names_get_near_matches() -> None:
    with pytest.raises(DataError, match=r"no data set 'digit'; did you mean 'digits'\?"):
        load_data("digit")
    with pytest.raises(DataError, match=r"no data set 'cifr10'; did you mean 'cifar10' or 'cifar100'\?"):
        load_data("cifr10:/data/cifar")
    with pytest.raises(DataError, match=r"no data set and no module 'foldr' for foldr:images; did you mean 'folder'"):
        load_data("foldr:images")


def test_impossible_storage_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.storage 'files' needs image files, but digits has none"):
        load_data("digits", storage="files")
    with pytest.raises(ConfigError, match=r"augment\.crop 'resized' needs image files, but digits has none"):
        load_data("digits", augment=RESIZED)
    with pytest.raises(ConfigError, match=r"'resized' needs data\.storage 'files' or 'auto', but storage is 'memory'"):
        load_data(f"folder:{folder}", storage="memory", augment=RESIZED)


USER_MODULE = """
import torch
from kdprobe.data import DataSet, Split
def make(*, image_size):
    split = Split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), image_size or 8)
    return DataSet("", split, split, ("a", "b"), (0.5,) * 3, (0.5,) * 3, image_size or 8)
def wrong(*, image_size):
    return 3
def plain():
    return make(image_size=None)
def asking(colour):
    return 3
"""


def test_a_function_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_data.py").write_text(USER_MODULE)
    (tmp_path / "my_broken_data.py").write_text("import a_module_that_is_not_there")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    data = load_data("my_own_data:make", image_size=16, holdout=0.5)
    assert (data.spec, data.image_size, data.evaluated_on) == ("my_own_data:make", 16, "holdout")
    with pytest.raises(DataError, match=r"my_own_data:wrong must be a dataset with a length .*, but is of type int$"):
        load_data("my_own_data:wrong")
    assert load_data("my_own_data:plain").image_size == 8
    with pytest.raises(
        DataError, match=r"my_own_data:asking must take image_size or no argument, but takes \(colour\)"
    ):
        load_data("my_own_data:asking")
    with pytest.raises(DataError, match=r"module 'my_own_data' has no function 'missing' that returns a dataset"):
        load_data("my_own_data:missing")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        load_data("my_broken_data:make")


@pytest.mark.parametrize("spec", [":foo", ".x:foo", "a..b:foo"])
def test_what_names_no_module_is_no_data_set(spec: str) -> None:
    with pytest.raises(DataError, match=rf"no data set '{spec.partition(':')[0]}'"):
        load_data(spec)


def test_a_module_missing_from_a_package() -> None:
    with pytest.raises(DataError, match=r"no data set and no module 'kdprobe\.nonexist' for kdprobe\.nonexist:foo"):
        load_data("kdprobe.nonexist:foo")


def test_grey_of_16_bits_is_scaled_to_8(tmp_path: Path) -> None:
    values = np.array([[0, 257, 30_000], [40_000, 65_278, 65_535], [0, 0, 128 * 257]], np.uint16)
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(values).save(tmp_path / name)
        expected = (values / 257).round()
        assert np.array_equal(decode(ImageFiles((str(tmp_path / name),)), 0, image_size=3), np.stack([expected] * 3))


def test_splits_and_data_sets_check_themselves() -> None:
    images, labels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1])
    with pytest.raises(DataError, match=r"images must be uint8 \[n, 3, s, s\], but are torch\.float32 \[2, 3, 8, 8\]"):
        Split(images.float(), labels, 8)
    with pytest.raises(DataError, match=r"labels must be int64 \[n\], but are torch\.float32 \[2\]"):
        Split(images, labels.float(), 8)
    with pytest.raises(DataError, match=r"each image of a split needs a label, but there are 2 images and 1 labels"):
        Split(images, labels[:1], 8)
    split, empty = Split(images, labels, 8), Split(images[:0], labels[:0], 8)
    with pytest.raises(DataError, match=r"mine has no training images"):
        DataSet("mine", empty, split, ("a",), (0.0,) * 3, (1.0,) * 3, 8)
    with pytest.raises(DataError, match=r"labels of mine must be 0 to 0 for 1 classes, but run from 0 to 1"):
        DataSet("mine", split, split, ("a",), (0.0,) * 3, (1.0,) * 3, 8)


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, *, fine: bool) -> np.ndarray[Any, Any]:
    """A tiny set in the original layout; torchvision is told not to compare checksums."""
    from torchvision import datasets

    reader: Any = datasets.CIFAR100 if fine else datasets.CIFAR10
    rows = np.random.default_rng(0).integers(0, 256, (6, 3072), np.uint8)
    key, n_classes = ("fine_labels", 100) if fine else ("labels", 10)
    base = root / reader.base_folder
    base.mkdir()
    for attribute in ("train_list", "test_list"):
        names = [name for name, _ in getattr(reader, attribute)]
        monkeypatch.setattr(reader, attribute, [(name, None) for name in names])
        for name in names:
            (base / name).write_bytes(pickle.dumps({"data": rows, key: list(range(6))}))
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": None})
    names = [f"class {i}" for i in range(n_classes)]
    (base / reader.meta["filename"]).write_bytes(pickle.dumps({reader.meta["key"]: names}))
    return rows


@pytest.mark.parametrize("fine", [False, True])
def test_cifar_is_read_from_its_folder_or_the_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fine: bool
) -> None:
    rows = write_cifar(tmp_path, monkeypatch, fine=fine)
    name, base = ("cifar100", "cifar-100-python") if fine else ("cifar10", "cifar-10-batches-py")
    for path in (tmp_path, tmp_path / base):
        data = load_data(f"{name}:{path}")
        assert np.array_equal(pixels(data.test).numpy(), rows.reshape(6, 3, 32, 32))
        assert data.test.labels.tolist() == list(range(6))
        assert data.classes[3] == "class 3"
        assert len(data.train) == (6 if fine else 30)


def test_cifar_too_large_for_memory_stays_at_its_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch, fine=True)
    assert pixels(load_data(f"cifar100:{tmp_path}", image_size=48).test).shape[-1] == 48
    monkeypatch.setattr("kdprobe.data.decode._MOST_BYTES", 10_000)
    data = load_data(f"cifar100:{tmp_path}", image_size=48)
    assert (pixels(data.test).shape[-1], data.test.image_size) == (32, 48)


def test_cifar_that_is_missing_says_what_to_do(tmp_path: Path) -> None:
    expected = rf"there is no CIFAR10 in {tmp_path}: cifar-10-batches-py is missing or damaged; .*--download"
    with pytest.raises(DataError, match=expected):
        load_data(f"cifar10:{tmp_path}")


def test_cifar_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_given: object, **_options: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("torchvision.datasets.CIFAR10.download", offline)
    with pytest.raises(DataError, match=rf"CIFAR10 could not be fetched into {tmp_path}: .*no route"):
        load_data(f"cifar10:{tmp_path}", download=True)


def test_padding_wider_than_the_images_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.augment\.padding must be at most 32, the side of the images in pixels"
    ):
        load_data("digits", augment=AugmentConfig(padding=33))
    assert load_data("digits", augment=AugmentConfig(padding=32)).image_size == 32


@pytest.mark.parametrize("counts", [{"repeats": 10**9}, {"padding": 10**6}])
def test_absurd_counts_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="less than or equal to"):
        AugmentConfig(**counts)
