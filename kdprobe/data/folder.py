"""`folder:DIR` and `imagenet:DIR`: train/ and test/ (or val/), with one folder of images per class."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from kdprobe.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DataSet, ImageFiles, Split
from kdprobe.data.decode import SUFFIXES, image_side
from kdprobe.errors import DataError


def read_folder(spec: str, folder: str, *, image_size: int | None, download: bool, skip_bad: bool = False) -> DataSet:
    """Read a folder of images; without a size they are shown as large as the first one, at most at 224 pixels.

    Where images may be skipped, the first one is the first that can be read.

    Raises:
        DataError: if a folder is missing or empty, a class has no images, or the splits' classes differ.
    """
    root = _root(spec, folder)
    train, test = _listing(root, "train"), _listing(root, "test", "val")
    size = image_size or min(_first_side([path for paths in train.values() for path in paths], skip_bad=skip_bad), 224)
    return _data_set(spec, train, test, size, crop_fraction=1.0)


def read_imagenet(spec: str, folder: str, *, image_size: int | None, download: bool, skip_bad: bool = False) -> DataSet:
    """Read ImageNet's layout, at 224 pixels if not told otherwise; the centre is cut at 7/8 of the shorter side.

    Raises:
        DataError: as `read_folder`.
    """
    root = _root(spec, folder)
    train, test = _listing(root, "train"), _listing(root, "val", "test")
    return _data_set(spec, train, test, image_size or 224, crop_fraction=0.875)


def _first_side(paths: Sequence[str], *, skip_bad: bool) -> int:
    """Side of the first image; where it may be skipped, of the first that can be read, if there is one."""
    for path in paths if skip_bad else ():
        with suppress(DataError):
            return image_side(path)
    return image_side(paths[0])


def _root(spec: str, folder: str) -> Path:
    if not folder:
        raise DataError(f"{spec} needs a folder: {spec}:DIR")
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    return root


def _listing(root: Path, *names: str) -> dict[str, list[str]]:
    """Paths of each class, classes and paths sorted by name."""
    split = next((root / name for name in names if (root / name).is_dir()), None)
    if split is None:
        raise DataError(f"{root} has no folder {' or '.join(f'{name}/' for name in names)}")
    classes = sorted(entry.name for entry in os.scandir(split) if entry.is_dir() and entry.name[0] != ".")
    if not classes:
        raise DataError(f"{split} is empty: it must hold one folder of images per class")
    found = {name: sorted(_images(split / name)) for name in classes}
    for name, paths in found.items():
        if not paths:
            raise DataError(f"class {name!r} has no images in {split / name} ({', '.join(SUFFIXES)})")
    return found


def _images(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            if name.lower().endswith(SUFFIXES) and name[0] != ".":
                yield os.path.join(parent, name)


def _data_set(
    spec: str, train: dict[str, list[str]], test: dict[str, list[str]], size: int, *, crop_fraction: float
) -> DataSet:
    for name in sorted(train.keys() ^ test.keys()):
        here, there = ("training", "test") if name in train else ("test", "training")
        raise DataError(f"class {name!r} of {spec} has {here} images but no {there} images")

    def split(listing: dict[str, list[str]]) -> Split:
        paths = tuple(path for paths in listing.values() for path in paths)
        counts = torch.tensor([len(paths) for paths in listing.values()])
        labels = torch.arange(len(listing)).repeat_interleave(counts)
        return Split(ImageFiles(paths, crop_fraction), labels, size)

    return DataSet(spec, split(train), split(test), tuple(train), IMAGENET_MEAN, IMAGENET_STD, size)
