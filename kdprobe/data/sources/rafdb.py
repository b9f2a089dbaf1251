"""`rafdb:DIR` and `rafdb-compound:DIR`: the Real-world Affective Faces Database as its authors lay it out.

    basic/EmoLabel/list_patition_label.txt         lines `train_00001.jpg 5` (the spelling is the original's)
    basic/Image/aligned/train_00001_aligned.jpg    faces; the beginning of the name is the split
    compound/...                                   the same, with eleven pairs of emotions

DIR holds `basic` (or `raf-basic`) or is it; likewise for `compound`. The images are not ours to share.
"""

import codecs
import os
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from kdprobe.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DataSet, ImageFiles, Split
from kdprobe.errors import DataError
from kdprobe.files import read_bytes
from kdprobe.formats.parsing import parsing

BASIC = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
#: compound classes in the order of their labels, each with its two basic classes
COMPOUND = {
    "happily surprised": (3, 0),
    "happily disgusted": (3, 2),
    "sadly fearful": (4, 1),
    "sadly angry": (4, 5),
    "sadly surprised": (4, 0),
    "sadly disgusted": (4, 2),
    "fearfully angry": (1, 5),
    "fearfully surprised": (1, 0),
    "angrily surprised": (5, 0),
    "angrily disgusted": (5, 2),
    "disgustedly surprised": (2, 0),
}
LIST = Path("EmoLabel") / "list_patition_label.txt"
ALIGNED = Path("Image") / "aligned"
_DIGITS = 20  # of a label that is read at all; Python reads no number of thousands


class Entry(NamedTuple):
    """A line of the list: its split, the file of its image, and its class from 0."""

    split: Literal["train", "test"]
    file: str
    label: int


def read_rafdb(spec: str, folder: str, *, image_size: int | None, download: bool, skip_bad: bool = False) -> DataSet:
    """Read the basic emotions, at 224 pixels by default.

    Raises:
        DataError: if the list is missing or has a line that cannot be read, or an image is missing.
    """
    return _read(spec, part_folder(folder, "basic"), BASIC, image_size or 224)


def read_rafdb_compound(
    spec: str, folder: str, *, image_size: int | None, download: bool, skip_bad: bool = False
) -> DataSet:
    """Read the compound emotions, at 224 pixels by default.

    Raises:
        DataError: as `read_rafdb`.
    """
    return _read(spec, part_folder(folder, "compound"), tuple(COMPOUND), image_size or 224)


def read_present(spec: str) -> tuple[DataSet, list[str]]:
    """What is there of a part, and the paths of the images that its list names but that are missing.

    Args:
        spec: `rafdb:DIR` or `rafdb-compound:DIR`.

    Raises:
        DataError: if the list is missing or has a line that cannot be read, or a whole split is missing.
    """
    name, _, folder = spec.partition(":")
    part, classes = ("basic", BASIC) if name == "rafdb" else ("compound", tuple(COMPOUND))
    root = part_folder(os.path.expanduser(folder), part)
    entries = read_list(root, len(classes))
    missing, there = _missing(root, entries), files_on_disk(root)
    present = [entry for entry in entries if entry.file in there]
    if {entry.split for entry in present} < {entry.split for entry in entries}:
        raise _told(missing)
    return _data(spec, root, present, classes, 224), missing


def part_folder(folder: str, part: str) -> Path:
    """The folder of the basic or the compound part.

    Raises:
        DataError: if it is not there.
    """
    candidates = [Path(folder) / part, Path(folder) / f"raf-{part}", Path(folder)]
    for candidate in candidates:
        if folder and (candidate / LIST).is_file():
            return candidate
    raise DataError(f"there is no {LIST} in {', '.join(map(str, candidates[:2]))} or {folder or 'DIR'}")


def read_list(root: Path, n_classes: int) -> list[Entry]:
    """All lines of the list, in its order.

    Raises:
        DataError: with its number, for a line that cannot be read, or that names an image again.
    """
    entries, seen = [], set[str]()
    for number, line in enumerate(_text(root / LIST).splitlines(), start=1):
        if not line.strip():
            continue
        entry = _entry(line, n_classes, f"{root / LIST}, line {number}")
        if entry.file in seen:
            raise DataError(f"{root / LIST}, line {number}: {entry.file} is listed twice")
        seen.add(entry.file)
        entries.append(entry)
    return entries


def _text(path: Path) -> str:
    """A text in UTF-8, or as an editor may save it: with a byte order mark, or in UTF-16.

    Raises:
        DataError: if it is neither.
    """
    with parsing(path, DataError, expected="a text in UTF-8 or UTF-16"):
        content = read_bytes(path)
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode("utf-16")
        without_mark = {content[1:2]: "utf-16-le", content[:1]: "utf-16-be"}  # every other byte of plain letters is 0
        return content.decode(without_mark.get(b"\0", "utf-8-sig"))


def files_on_disk(root: Path) -> set[str]:
    """Names of all aligned images; none where the folder is missing."""
    folder = root / ALIGNED
    return {entry.name for entry in os.scandir(folder) if entry.is_file()} if folder.is_dir() else set()


def _entry(line: str, n_classes: int, where: str) -> Entry:
    name, label = (*line.rsplit(None, 1), "")[:2]
    stem, ending = os.path.splitext(name.strip())
    split = next((split for split in ("train", "test") if stem.startswith(f"{split}_")), None)
    if split is None or ending != ".jpg" or not label.isdecimal():
        raise DataError(f"{where}: a line must read `train_00001.jpg 5` or `test_0001.jpg 5`, but is {line.strip()!r}")
    number = int(label) if len(label) <= _DIGITS else 0
    if not 1 <= number <= n_classes:
        shown = label if len(label) <= _DIGITS else f"one of {len(label):,} digits"
        raise DataError(f"{where}: labels run from 1 to {n_classes}, but {name} has {shown}")
    return Entry("train" if split == "train" else "test", f"{stem}_aligned.jpg", number - 1)


def _read(spec: str, root: Path, classes: tuple[str, ...], size: int) -> DataSet:
    entries = read_list(root, len(classes))
    if missing := _missing(root, entries):
        raise _told(missing)
    return _data(spec, root, entries, classes, size)


def _missing(root: Path, entries: list[Entry]) -> list[str]:
    there = files_on_disk(root)
    return [str(root / ALIGNED / entry.file) for entry in entries if entry.file not in there]


def _told(missing: list[str]) -> DataError:
    more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
    return DataError(f"{missing[0]} is named in the list but missing{more}")


def _data(spec: str, root: Path, entries: list[Entry], classes: tuple[str, ...], size: int) -> DataSet:
    def split(name: str) -> Split:
        chosen = [entry for entry in entries if entry.split == name]
        if not chosen and name == "train":
            raise DataError(f"{root / LIST} names no {name} images")
        paths = tuple(str(root / ALIGNED / entry.file) for entry in chosen)
        return Split(ImageFiles(paths), torch.tensor([entry.label for entry in chosen], dtype=torch.int64), size)

    return DataSet(spec, split("train"), split("test"), classes, IMAGENET_MEAN, IMAGENET_STD, size)
