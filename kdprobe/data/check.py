"""Is a data set complete? Images per class; files that are missing, surplus or damaged; and the published counts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from kdprobe.data.dataset import DataSet, ImageFiles, ImageItems, Pictures, Split
from kdprobe.data.decode import decode, in_turn
from kdprobe.data.identity import copied_files, shared_files
from kdprobe.data.items import item_of
from kdprobe.data.sources.listing import LeftOut, grouped
from kdprobe.data.sources.rafdb import read_present
from kdprobe.data.spec import DATASETS, read_data
from kdprobe.errors import DataError
from kdprobe.terminal.progress import progress

#: training and test images of each class, or (one number) of all together, as the authors publish them
PUBLISHED: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "cifar10": ((5000,) * 10, (1000,) * 10),
    "cifar100": ((500,) * 100, (100,) * 100),
    "imagenet": ((1_281_167,), (50_000,)),
    "rafdb": ((1290, 281, 717, 4772, 1982, 705, 2524), (329, 74, 160, 1185, 478, 162, 680)),
    "rafdb-compound": ((3162,), (792,)),
}

_SHOWN = 5  # items of one split that cannot be read


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        counts: columns class, train, test: images that are there.
        missing: files that the list names but that are not there.
        surplus: files that the list does not name.
        damaged: the error for each file that cannot be decoded.
        differences: differences from the published counts, in words.
        untested: classes that have no test images, in words.
        shared: test images that are training images too, or copies of them, in words.
        left_out: files that are not counted, one line per reason; not a complaint, but worth knowing.
        n_left_out: the number of these files.
    """

    counts: pd.DataFrame
    missing: list[str]
    surplus: list[str]
    damaged: list[str]
    differences: list[str]
    untested: list[str]
    shared: list[str]
    left_out: list[str]
    n_left_out: int

    @property
    def complaints(self) -> list[str]:
        """Everything that is wrong, one sentence each."""
        missing = [f"{path} is named in the list but missing" for path in self.missing]
        surplus = [f"{path} is not in the list" for path in self.surplus]
        return [*missing, *self.damaged, *surplus, *self.differences, *self.untested, *self.shared]


def check(spec: str, *, quiet: bool = True) -> Findings:
    """Look at every image of a data set.

    Args:
        spec: the data set, read as training would read it; but images that RAF-DB's list names may be missing.
        quiet: no progress on stderr.

    Raises:
        DataError: if the data set cannot be read.
    """
    name = spec.partition(":")[0]
    size = 224 if name in ("folder", "images") else None  # none is taken from the first image, which may be damaged
    own = name not in DATASETS  # whose items may raise, all of which are to be known
    data, missing = (
        read_present(spec) if name.startswith("rafdb") else (read_data(spec, image_size=size, skip_bad=own), [])
    )
    counts, shared = _count(data), shared_files(data)
    return Findings(
        counts,
        missing,
        _surplus(data),
        [*(_unread(data) if own else []), *_damaged(data, quiet=quiet)],
        _differences(name, counts),
        _untested(counts) if data.classes else [],
        [*_shared(shared), *_copied(data, shared)],
        grouped(LeftOut(*one) for one in data.left_out),
        len(data.left_out),
    )


def _count(data: DataSet) -> pd.DataFrame:
    """Images per class: columns class, train, test."""
    columns = {
        name: split.labels.bincount(minlength=max(data.n_classes, 1)).tolist()
        for name, split in (("train", data.train), ("test", data.test))
    }
    return pd.DataFrame({"class": data.classes or ("(no labels)",), **columns})


def _differences(name: str, counts: pd.DataFrame) -> list[str]:
    """Where the counts are not the published ones, in words; nothing where none are known."""
    found = []
    for split, published in zip(("train", "test"), PUBLISHED.get(name, ()), strict=False):
        counted = list(counts[split])
        if len(published) == 1:
            counted, labels = [sum(counted)], [""]
        else:
            labels = [f" of {label}" for label in counts["class"]]
        triples = zip(labels, counted, published, strict=True)
        found += [
            f"{here} {split} images{label} where {there} are published"
            for label, here, there in triples
            if here != there
        ]
    return found


def _untested(counts: pd.DataFrame) -> list[str]:
    """Classes without test images, in words."""
    names = [str(name) for name in counts["class"][counts["test"] == 0]]
    if len(names) == len(counts):
        return ["there are no test images: training needs data.holdout"]
    return [f"class {name!r} has no test images" for name in names]


def _shared(paths: Sequence[str]) -> list[str]:
    """How many test images are training images too, in words; nothing where none is."""
    if len(paths) < 2:
        return [f"{path} is also a training image, so it tests nothing" for path in paths]
    return [f"{len(paths)} test images are also training images, the first {paths[0]}, so they test nothing"]


def _copied(data: DataSet, shared: Sequence[str]) -> list[str]:
    """How many test images are copies of training images, in words; nothing where none is.

    Only of one's own images: published sets have such copies, and their numbers are reported with them.
    """
    if data.spec.partition(":")[0] in PUBLISHED or data.spec.startswith("ferplus"):
        return []
    copies = [pair for pair in copied_files(data) if pair[0] not in set(shared)]
    if not copies:
        return []
    first = "{} of {}".format(*copies[0])
    if len(copies) == 1:
        return [f"{first} is a copy, so it tests nothing"]
    return [f"{len(copies)} test images are copies of training images, the first {first}, so they test nothing"]


def _surplus(data: DataSet) -> list[str]:
    """Images beside those that a list names."""
    if not data.spec.startswith("rafdb"):
        return []
    named = {path for split in (data.train, data.test) for path in _paths(split)}
    folder = os.path.dirname(next(iter(named)))
    return sorted({os.path.join(folder, name) for name in os.listdir(folder)} - named)


def _damaged(data: DataSet, *, quiet: bool = True) -> list[str]:
    """The error for each image that cannot be decoded; every one is tried."""
    found = []
    with progress("decoding", len(data.train) + len(data.test), quiet=quiet) as shown:
        for split in (data.train, data.test):
            if isinstance(split.images, Pictures):
                for text in in_turn(split.images, partial(_complaint, split.images), range(len(split))):
                    shown(1)
                    if text:
                        found.append(text)
    return found


def _unread(data: DataSet) -> list[str]:
    """The errors of the first items of a dataset of one's own that it cannot give, and how many more there are."""
    found = []
    for split in (data.train, data.test):
        if not isinstance(items := split.images, ImageItems):
            continue
        given = set(items.numbers.tolist())
        errors = [_error(items, number) for number in range(len(items.dataset)) if number not in given]
        found += errors[:_SHOWN]
        if len(errors) > _SHOWN:
            found.append(f"{len(errors) - _SHOWN} more items of {items.called} cannot be read ({len(errors)} in all)")
    return found


def _error(items: ImageItems, number: int) -> str:
    try:
        item_of(items.dataset, number, f"item {number} of {items.called}")
    except DataError as error:
        return str(error)
    return f"item {number} of {items.called} could not be read before, but can now"


def _paths(split: Split) -> tuple[str, ...]:
    return split.images.paths if isinstance(split.images, ImageFiles) else ()


def _complaint(pictures: Pictures, place: int) -> str:
    try:
        decode(pictures, place, image_size=8)
    except DataError as error:
        return str(error)
    return ""
