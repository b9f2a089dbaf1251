"""Data sets of one's own: lazily, in workers, equal to the same images in memory and in files."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from torchvision.datasets import FakeData, ImageFolder

from kdprobe.config import AugmentConfig, parse
from kdprobe.data import DataSet, ImageItems, Split, evaluation_batches, identity, load_data, training_batches
from kdprobe.data.check import check
from kdprobe.distillers import option_types
from kdprobe.errors import DataError, RunError
from kdprobe.runs import RunFolder
from kdprobe.training import train

AUGMENT = AugmentConfig(crop="resized", rand_augment="rand-m9-mstd0.5-inc1", erase=0.5)


class Squares(Dataset[tuple[Any, int]]):
    """Numbered images of 12 x 10 pixels in three classes; remembers in which processes items were read."""

    def __init__(self, count: int = 24, *, bad: int | None = None, nan: int | None = None) -> None:
        self.count, self.bad, self.nan = count, bad, nan

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Any, int]:
        if number == self.bad:
            raise ValueError("the disk is on strike")
        levels = np.random.default_rng(number).integers(0, 256, (10, 12, 3), dtype=np.uint8)
        image: Any = Image.fromarray(levels)
        if number == self.nan:
            image = torch.full((3, 10, 12), torch.nan)
        return image, number % 3


class Traced(Squares):
    """Its images say which process read them."""

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return np.full((2, 2), os.getpid() % 251, np.uint8) if self.count == 16 else super().__getitem__(number)[0], 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same images as files: sorted by class, in the order of their numbers within each."""
    for number in range(24):
        path = tmp_path / "set" / "train" / str(number % 3) / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Squares()[number][0].save(path)
    return tmp_path / "set"


def by_class(split: Split) -> Split:
    return split.take(split.labels.argsort(stable=True))


def pixels(split: Split) -> Tensor:
    assert isinstance(split.images, Tensor)
    return split.images


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_items_are_cut_varied_and_held_out_like_files(folder: Path, workers: int) -> None:
    given = {"storage": "files", "image_size": 9, "holdout": 0.25, "per_class": 5, "seed": 3}
    ours = load_data(Subset(Squares(), sorted(range(24), key=lambda number: (number % 3, number))), **given)  # type: ignore
    theirs = load_data(f"folder:{folder}", **given)  # type: ignore[arg-type]
    assert isinstance(ours.train.images, ImageItems)
    assert (ours.classes, ours.evaluated_on, len(ours.train), len(ours.test)) == (("0", "1", "2"), "holdout", 15, 6)
    for one, other in ((ours.train, theirs.train), (ours.test, theirs.test)):
        assert torch.equal(one.labels, other.labels)
        for a, b in zip(*(evaluation_batches(x, batch_size=4, workers=workers) for x in (one, other)), strict=True):
            assert torch.equal(a.images, b.images)
        varied = (
            training_batches(x, batch_size=4, augment=AUGMENT, seed=1, epoch=2, workers=workers) for x in (one, other)
        )
        for a, b in zip(*varied, strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.labels, b.labels)


def test_small_sets_are_decoded_into_memory_unless_files_are_wanted(folder: Path) -> None:
    ours, theirs = load_data((Squares(), Squares(6))), load_data(f"folder:{folder}", holdout=0.25)
    assert ours.image_size == theirs.image_size == 10
    assert pixels(ours.train).shape == (24, 3, 10, 10)
    lazy = load_data((Squares(), Squares(6)), storage="files")
    assert isinstance(lazy.test.images, ImageItems)
    first = next(evaluation_batches(lazy.test, batch_size=6, workers=0))
    assert torch.equal((255 * first.images).round().byte(), pixels(ours.test))


def test_items_are_read_in_workers() -> None:
    data = load_data((Traced(16), Traced(16)), storage="files") if os.getpid() % 251 else None
    if data is None:
        pytest.skip("this process's number looks like black")
    seen = {round(255 * float(batch.images[0, 0, 0, 0])) for batch in evaluation_batches(data.test, batch_size=4)}
    assert os.getpid() % 251 not in seen


def test_an_error_in_a_worker_names_the_item() -> None:
    data = load_data((Squares(), Squares(24)), storage="files")
    assert isinstance(data.test.images, ImageItems)
    for fault, said in (
        ({"bad": 17}, r"^item 17 of .*\.Squares \(test\) cannot be read \(ValueError: the disk is on strike\)$"),
        ({"nan": 17}, r"^item 17 of .*\.Squares \(test\) has an image with NaN or infinity in it$"),
    ):
        broken = replace(data.test, images=replace(data.test.images, dataset=Squares(24, **fault)))
        for workers in (0, 2):
            with pytest.raises(DataError, match=said):
                list(evaluation_batches(broken, batch_size=8, workers=workers))


class Deadly(Squares):
    """Ends the process that reads its item 17."""

    def __getitem__(self, number: int) -> tuple[Any, int]:
        if number == 17:
            os._exit(3)
        return super().__getitem__(number)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_worker_that_ends_early_is_an_error_in_one_line() -> None:
    """torch's signal handler raises wherever it is called, so also between opening a socket and closing it."""
    data = load_data((Squares(), Squares(24)), storage="files")
    assert isinstance(data.test.images, ImageItems)
    broken = replace(data.test, images=replace(data.test.images, dataset=Deadly()))
    with pytest.raises(
        DataError, match=r"^a process that reads images ended before its work was done, .* data\.workers=0"
    ):
        list(evaluation_batches(broken, batch_size=8, workers=1))
    gc.collect()  # of what was cut short, while its warnings are expected


@pytest.mark.parametrize("said", [ConnectionResetError, EOFError])
def test_a_worker_that_torch_does_not_miss_yet_is_the_same_error(
    said: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: Any, **__: Any) -> Iterator[Any]:
        raise said

    def gone(_: float) -> None:
        raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")

    monkeypatch.setattr("kdprobe.data.loaders.DataLoader", lambda *_, **__: map(ended, [0]))
    monkeypatch.setattr("time.sleep", gone)
    data = load_data((Squares(), Squares(24)), storage="files")
    with pytest.raises(DataError, match=r"^a process that reads images ended before its work was done, "):
        list(evaluation_batches(data.test, batch_size=8, workers=1))


def test_bad_items_are_left_out_where_they_may_be() -> None:
    for fault in ({"bad": 0}, {"nan": 6}, {"nan": 0}):
        dataset = Squares(24, **fault)
        with pytest.raises(DataError, match=r"^item [06] of "):
            load_data(dataset, holdout=0.25, identified=True)
        for storage, numbers in (("memory", [23]), ("files", [23, 24])):
            data = load_data((dataset, Squares(6)), skip_bad=True, storage=storage, identified=True)  # type: ignore
            n_seen = sum(len(batch.labels) for batch in evaluation_batches(data.train, batch_size=5, workers=0))
            assert n_seen == 23
            assert len(data.train) in numbers
    held = load_data(Squares(24, bad=0), holdout=0.25, skip_bad=True)
    assert (len(held.train) + len(held.test), held.train.n_skipped + held.test.n_skipped) == (23, 1)
    with pytest.raises(DataError, match=r"^none of the 1 items of .*Squares can be read$"):
        load_data(Squares(1, bad=0), skip_bad=True)


def test_labels_come_from_a_list_only_where_it_tells_the_truth(folder: Path) -> None:
    files = ImageFolder(str(folder / "train"))
    turned = ImageFolder(str(folder / "train"), target_transform=lambda label: 2 - label)
    for dataset, labels in ((files, files.targets), (turned, [2 - label for label in files.targets])):
        data = load_data((dataset, dataset))
        assert data.train.labels.tolist() == labels
        assert data.classes == ("0", "1", "2")
    part = load_data((Subset(files, [20, 1, 9, 3, 12]), files))
    assert part.train.labels.tolist() == [2, 0, 1, 0, 1]
    joined = load_data((ConcatDataset([files, files]), files))
    assert joined.train.labels.tolist() == files.targets * 2
    other = ImageFolder(str(folder / "train"))
    other.classes = other.classes[::-1]
    with pytest.raises(DataError, match=r"joins have different classes, 0, 1, 2 and 2, 1, 0, so that one label means"):
        load_data((ConcatDataset([files, other]), files))


def test_tensors_and_torchvisions_sets_work() -> None:
    images = torch.rand(12, 1, 8, 8)
    labels = torch.arange(12) % 3
    data = load_data(TensorDataset(images, labels), holdout=0.25)
    assert torch.equal(data.train.labels.bincount(), torch.tensor([3, 3, 3]))
    assert data.spec == "torch.utils.data.dataset.TensorDataset"
    assert pixels(data.train).shape == (9, 3, 8, 8)
    halves = random_split(TensorDataset(images, labels), [9, 3], generator=torch.Generator().manual_seed(0))
    assert load_data(tuple(halves)).train.labels.tolist() == labels[halves[0].indices].tolist()  # type: ignore[arg-type]
    assert len(load_data(FakeData(20, (3, 16, 16), 2), holdout=0.5).test) == 10


def test_identity_is_of_content() -> None:
    def hashed(*given: Any, **options: Any) -> str:
        return load_data(given, identified=True, **options).sha256

    one = hashed(Squares(), Squares(6))
    assert one == hashed(Squares(), Squares(6), storage="files") == hashed(Squares(), Squares(6), image_size=16)
    assert one == hashed(Subset(Squares(), range(24)), Squares(6))
    assert one != hashed(Squares(), Squares(7))
    order = [1, 0, *range(2, 24)]
    assert one != hashed(Subset(Squares(), order), Squares(6))


def test_of_large_sets_some_images_are_identified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SAMPLED", 6)
    read: list[int] = []

    class Seen(Squares):
        def __getitem__(self, number: int) -> tuple[Any, int]:
            read.append(number)
            return super().__getitem__(number)

    data = load_data((Seen(), Squares(6)), storage="files")
    for whole, places in ((identity.WHOLE, list(range(24))), (24 * 360 - 1, list(range(0, 24, 4)))):
        monkeypatch.setattr(identity, "WHOLE", whole)
        read.clear()
        identity.content_sha256(data)
        assert sorted(read) == places


class Varying(Squares):
    def __getitem__(self, number: int) -> tuple[Any, int]:
        return torch.rand(3, 8, 8), number % 3


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Named(Squares):
    def __init__(self, *classes: str) -> None:
        super().__init__()
        self.classes = list(classes)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Squares(0), r"Squares is empty$"),
        (Varying(), r"^item 0 of .*Varying is another image when it is read again; give the images as they are, and"),
        (Endless(), r"must be a dataset with a length and items by number, a pair .*, but is of type Endless$"),
        (torch.zeros(3, 3, 8, 8), r"but is of type Tensor$"),
        ({"test": Squares()}, r"a mapping with the key 'train', but is of type dict$"),
        ((Squares(), 3), r"but is of type int$"),
        ((Squares(), [Image.new("L", (8, 8))]), r"Squares \(test\) has no labels, but the other images of .* have$"),
        (
            [(Image.new("L", (8, 8)), 1), (Image.new("L", (8, 8)), 3)],
            r"^class 0 of builtins\.list has no training images",
        ),
        (
            [(Image.new("L", (8, 8)), 0), (Image.new("L", (8, 8)), 2**40)],
            r"^class 1 of builtins\.list has no training images, though labels go up to 1099511627776; number the",
        ),
        (
            [(Image.new("L", (8, 8)), -1)],
            r"labels of builtins\.list must be 0 to -1 for 0 classes, but run from -1 to -1",
        ),
        ((Named("a", "b", "c"), Named("c", "b", "a")), r"Named are a, b, c in training, but c, b, a in testing$"),
        (Named("a", "b"), r"labels of .*Named must be 0 to 1 for 2 classes, but run from 0 to 2$"),
    ],
)
def test_what_cannot_be_used_is_refused(given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_data(given)


def test_images_without_labels_have_no_classes() -> None:
    data = load_data(([Image.new("L", (8, 8), shade) for shade in range(5)], None), holdout=0.4)
    assert (data.classes, data.n_classes, data.train.labels.tolist()) == ((), 0, [0, 0, 0])


MODULE = """
from tests.kdprobe.data.sources.test_own import Squares
def pair():
    return Squares(), Squares(6)
def named():
    return {"train": Squares(), "val": Squares(6)}
def damaged():
    return Squares(), Squares(6, nan=4)
"""


def test_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "squares_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    pair, named = (load_data(f"squares_of_mine:{name}", identified=True) for name in ("pair", "named"))
    assert pair.sha256 == named.sha256
    assert pair.spec == "squares_of_mine:pair"
    found = check("squares_of_mine:damaged")
    assert found.counts["train"].tolist() == [8, 8, 8]
    assert found.damaged == ["item 4 of squares_of_mine:damaged (test) has an image with NaN or infinity in it"]


def test_data_sets_of_hugging_face() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(image=datasets.Image(), kind=datasets.ClassLabel(names=["cat", "dog"]))
    images = [Squares()[number][0] for number in range(8)]
    given = {"image": images, "kind": [0, 1] * 4}
    made = datasets.Dataset.from_dict(given, features=features)
    data = load_data(datasets.DatasetDict(train=made, validation=made.select([0, 3])))
    assert (data.classes, data.train.labels.tolist(), len(data.test)) == (("cat", "dog"), [0, 1] * 4, 2)
    plain = load_data(([(image, number % 2) for number, image in enumerate(images)], None), holdout=0.5)
    assert torch.equal(load_data(made, holdout=0.5).train.images, pixels(plain.train))  # type: ignore[arg-type]
    bare = load_data(made.remove_columns("kind"), holdout=0.5)
    assert isinstance(bare, DataSet)
    assert bare.classes == ()


@pytest.mark.slow
def test_training_is_the_same_wherever_the_images_are_and_refuses_others(tmp_path: Path, folder: Path) -> None:
    by_label = "[n for c in range(3) for n in range(24) if n % 3 == c]"
    module = tmp_path / "sorted_squares.py"
    module.write_text(
        "from torch.utils.data import Subset\nfrom tests.kdprobe.data.sources.test_own import Squares\n"
        f"def make():\n    return Subset(Squares(), {by_label})\n"
    )
    given = {"holdout": 0.25, "image_size": 16}
    common = {"model": {"name": "resnet8"}, "training": {"epochs": 2, "batch_size": 9, "precision": "fp32"}}
    weights = {}
    for name, data in {
        "memory": {"spec": "sorted_squares:make"},
        "items": {"spec": "sorted_squares:make", "storage": "files"},
        "folder": {"spec": f"folder:{folder}", "storage": "files"},
    }.items():
        config = parse({"data": {**data, **given}, **common}, option_types(), source="here")
        with chdir(tmp_path):
            train(config, tmp_path / name, device="cpu", quiet=True)
        weights[name] = load_file(tmp_path / name / "last.safetensors")
    for name in ("items", "folder"):
        assert all(torch.equal(weights["memory"][key], value) for key, value in weights[name].items()), name
    module.write_text(module.read_text().replace("range(3)", "(0, 2, 1)"))
    sys.modules.pop("sorted_squares")
    (tmp_path / "items" / "result.json").unlink()
    with chdir(tmp_path), pytest.raises(RunError, match=r"cannot go on: when it began, the data sorted_squares:make"):
        train(RunFolder(tmp_path / "items").config(option_types()), tmp_path / "items", resume=True, quiet=True)


def raises(image_size: int | None = None) -> Squares:
    return Squares(int("many"))


def strikes() -> tuple[Squares, Squares]:
    return Squares(24, bad=3), Absent(20)


class Absent(Squares):
    """Every second item cannot be read."""

    def __getitem__(self, number: int) -> tuple[Any, int]:
        if number % 2:
            raise KeyError(number)
        return super().__getitem__(number)


def test_a_function_that_raises_is_one_line_with_its_place() -> None:
    line = raises.__code__.co_firstlineno + 1
    with pytest.raises(
        DataError, match=rf"^{__name__}:raises raised ValueError at \S+test_own\.py:{line}: invalid literal for int\(\)"
    ):
        load_data(f"{__name__}:raises")


def test_a_check_names_all_items_that_cannot_be_read() -> None:
    found = check(f"{__name__}:strikes").damaged
    assert [text.split(" of ")[0] for text in found] == [*(f"item {n}" for n in (3, 1, 3, 5, 7, 9)), "5 more items"]
    assert found[0].endswith("cannot be read (ValueError: the disk is on strike)")
    assert found[-1].endswith("strikes (test) cannot be read (10 in all)")
