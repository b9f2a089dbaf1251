"""`folder:DIR` and `imagenet:DIR`: train/ and test/ (or val/), with one folder of images per class."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from kdprobe.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DataSet, ImageFiles, Split
from kdprobe.data.decode import SUFFIXES, first_side
from kdprobe.data.sources.listing import LeftOut, Listing, composed, grouped, is_hidden, list_classes
from kdprobe.errors import DataError

#: side at which images are shown if none is given and the first one is larger
MOST_PIXELS = 224


def read_folder(spec: str, folder: str, *, image_size: int | None, download: bool, skip_bad: bool = False) -> DataSet:
    """Read a folder of images; without a size they are shown as large as the first one, at most at 224 pixels.

    Where images may be skipped, the first one is the first that can be read.

    Raises:
        DataError: if a folder is missing or empty, or a class has no training images. A class may lack test images,
            and test/ may be missing; then some are to be held out.
    """
    root = folder_of(spec, folder)
    train, test = _splits(spec, root, "test", "val")
    files = ImageFiles(tuple(path for paths in train.classes.values() for path in paths))
    size = image_size or min(first_side(files, skip_bad=skip_bad), MOST_PIXELS)
    return _data_set(spec, train, test, size, crop_fraction=1.0)


def read_imagenet(spec: str, folder: str, *, image_size: int | None, download: bool, skip_bad: bool = False) -> DataSet:
    """Read ImageNet's layout, at 224 pixels by default; the centre is cropped at 7/8 of the shorter side.

    Raises:
        DataError: as `read_folder`.
    """
    root = folder_of(spec, folder)
    train, test = _splits(spec, root, "val", "test")
    return _data_set(spec, train, test, image_size or 224, crop_fraction=0.875)


def folder_of(spec: str, folder: str) -> Path:
    """The folder that a SPEC names.

    Raises:
        DataError: if it names none, or there is none.
    """
    if not folder:
        name = spec.partition(":")[0]
        raise DataError(f"{name} needs a folder: {name}:DIR")
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    return root


def _listing(root: Path, *names: str) -> Listing | None:
    """What is in the first of these splits that is there."""
    split = next((root / name for name in names if (root / name).is_dir()), None)
    if split is None:
        return None
    listing = list_classes(split)
    if not any(listing.classes.values()):
        said = "".join(f"; {line}" for line in grouped(listing.left_out)[:1])
        raise DataError(f"{split} is empty: it must hold one folder of images per class{said}")
    return listing


def _splits(spec: str, root: Path, *tests: str) -> tuple[Listing, Listing]:
    """What is in train/ and in the other split, if there is one."""
    train = _listing(root, "train")
    if train is None:
        raise DataError(f"{root} has no folder train/")
    test = _listing(root, *tests) or Listing({})
    test.left_out += _unused(root, *tests)
    for name, paths in train.classes.items():
        if not paths:
            said = "".join(f"; {line}" for line in grouped(one for one in train.left_out if _in_class(one.path, name)))
            raise DataError(f"class {name!r} has no images in {root / 'train' / name} ({', '.join(SUFFIXES)}){said}")
    for name in test.classes:
        if name not in train.classes and test.classes[name]:
            raise DataError(f"class {name!r} of {spec} has test images but no training images")
    return train, test


def _unused(root: Path, *tests: str) -> Iterator[LeftOut]:
    """Folders beside the splits that are read, in which there may be images."""
    used = ["train", *[name for name in tests if (root / name).is_dir()][:1]]
    reason = f"images are read from {' and '.join(f'{name}/' for name in used)}"
    with suppress(OSError):  # where the splits can be read, but not what is beside them
        for path in sorted(root.iterdir()):
            if path.is_dir() and path.name not in used and not is_hidden(path.name):
                yield LeftOut(str(path), reason)


def _in_class(path: str, name: str) -> bool:
    return name in map(composed, Path(path).parts)


def _data_set(spec: str, train: Listing, test: Listing, size: int, *, crop_fraction: float) -> DataSet:
    classes = tuple(train.classes)

    def split(listing: Listing) -> Split:
        found = [listing.classes.get(name, []) for name in classes]
        labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(paths) for paths in found]))
        files = ImageFiles(tuple(path for paths in found for path in paths), crop_fraction=crop_fraction)
        return Split(files, labels, size)

    left_out = (*train.left_out, *test.left_out)
    return DataSet(spec, split(train), split(test), classes, IMAGENET_MEAN, IMAGENET_STD, size, left_out=left_out)
