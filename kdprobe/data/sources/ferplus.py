"""`ferplus:DIR`: FER-2013's faces with the votes of FER+, as its authors lay them out.

    fer2013new.csv                       for each face its part, its file and ten votes, under the names of the columns
    data/FER2013Train/fer0000000.png     grey faces of 48 pixels
    data/FER2013Valid/...                those of FER-2013's public test
    data/FER2013Test/...                 those of its private test

A face is of the emotion that more than half of the votes name, votes that stand alone left out; faces without one,
unknown ones, what is no face, and lines without a file are left out. `ferplus` has eight emotions, `ferplus7` all but
contempt, whose votes then count for no emotion. Both are judged on the test faces, `ferplus-valid` and `ferplus7-valid`
on those for validation. `ferplus-compound` and `ferplus7-compound` hold the faces for which at least two emotions have
three votes or more: the two with the most votes are its pair, and of equal ones those listed first.

The repository of FER+ has the votes twice, and they differ (for 283 of 3,573 test faces): its page says to take
`fer2013new.csv`, which is read here; its code for training reads `label.csv` in each folder. A file that is named again
is the later image: the authors' code writes it over the earlier one.

The images are not ours to share.

Reference:
    Barsoum, Zhang, Canton Ferrer, Zhang (2016), Training deep networks for facial expression recognition with
    crowd-sourced label distribution: the mode "majority" of its code.
"""

import csv
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import torch

from kdprobe.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DataSet, ImageFiles, Split
from kdprobe.data.sources.folder import folder_of
from kdprobe.data.sources.listing import LeftOut
from kdprobe.errors import DataError
from kdprobe.files import read_text

EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
#: the emotions of each family of data sets
FAMILIES = {"ferplus": EMOTIONS, "ferplus7": EMOTIONS[:-1]}
#: what follows the family's name: the part to be judged on
_JUDGED_ON = {"": "PrivateTest", "-valid": "PublicTest", "-compound": "PrivateTest"}
NAMES = tuple(family + ending for family in FAMILIES for ending in _JUDGED_ON)

VOTES = "fer2013new.csv"
#: the parts as the list names them, and the folders of their images
FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
_COLUMNS = ("Usage", "Image name", *EMOTIONS, "unknown", "NF")
_SIDE = 48
_NO_EMOTION = "no emotion has most votes"
_NOT_TWO = "no two emotions have three votes each"
_ENOUGH = 3  # votes for an emotion of a compound


class Face(NamedTuple):
    """A line of the list: its part, the file of its image, and the votes for each emotion, for unknown and no face."""

    part: str
    path: Path
    votes: tuple[int, ...]


def compounds(emotions: Sequence[str]) -> dict[str, tuple[int, int]]:
    """All pairs of emotions by name, in the order of their labels."""
    return {f"{emotions[i]} and {emotions[j]}": (i, j) for i, j in combinations(range(len(emotions)), 2)}


def read_ferplus(spec: str, folder: str, *, image_size: int | None, download: bool, skip_bad: bool = False) -> DataSet:
    """Read FER+ by its name: 8 or 7 emotions, judged on test or validation faces, or pairs; at 48 pixels by default.

    Raises:
        DataError: if the list is missing or has a line that cannot be read, or an image is missing.
    """
    name = spec.partition(":")[0]
    family, dash, ending = name.partition("-")
    root, emotions = folder_of(spec, folder), FAMILIES[family]
    faces = read_faces(root)
    of_two = ending == "compound"
    pairs = compounds(emotions)
    classes = tuple(pairs) if of_two else emotions
    left_out: list[LeftOut] = []

    def split(part: str) -> Split:
        paths, labels = [], []
        for face in (one for one in faces if one.part == part):
            label = pair_of(face.votes, pairs) if of_two else majority(face.votes, len(emotions))
            if label is None:
                left_out.append(LeftOut(str(face.path), _NOT_TWO if of_two else _NO_EMOTION))
            else:
                paths.append(str(face.path))
                labels.append(label)
        if not labels:
            raise DataError(f"{root / VOTES} names no face of {'two emotions' if of_two else 'one emotion'} for {part}")
        return Split(ImageFiles(tuple(paths)), torch.tensor(labels), image_size or _SIDE)

    train, test = split("Training"), split(_JUDGED_ON[dash + ending])
    size = image_size or _SIDE
    return DataSet(spec, train, test, classes, IMAGENET_MEAN, IMAGENET_STD, size, left_out=tuple(left_out))


def majority(votes: Sequence[int], n_emotions: int) -> int | None:
    """The emotion that more than half of the votes name, without votes that stand alone; None if there is none."""
    counted = [count if count > 1 else 0 for count in votes]
    best = max(range(len(counted)), key=counted.__getitem__)
    return best if best < n_emotions and 2 * counted[best] > sum(counted) else None


def pair_of(votes: Sequence[int], pairs: dict[str, tuple[int, int]]) -> int | None:
    """The place of the pair of emotions that have three votes or more each; None if there are not two."""
    n_emotions = 1 + max(second for _, second in pairs.values())
    enough = [emotion for emotion in range(n_emotions) if votes[emotion] >= _ENOUGH]
    if len(enough) < 2:
        return None
    first, second = sorted(sorted(enough, key=lambda emotion: -votes[emotion])[:2])
    return list(pairs.values()).index((first, second))


def read_faces(root: Path) -> list[Face]:
    """All faces of the list that have a file, in its order.

    Raises:
        DataError: if the list is missing or has a line that cannot be read, or an image is missing.
    """
    if not (root / VOTES).is_file():
        raise DataError(f"there is no {VOTES} in {root}")
    lines = csv.reader(read_text(root / VOTES).splitlines(), strict=True)
    faces: dict[Path, Face] = {}
    try:
        head = next(lines, [])
        if tuple(head) != _COLUMNS:
            raise DataError(
                f"{root / VOTES} must have the columns {', '.join(_COLUMNS)}, but has {', '.join(head)[:120]}"
            )
        for fields in filter(None, lines):
            where = f"{root / VOTES}, line {lines.line_num}"
            if (face := _face(root, fields, where)) is not None:
                faces[face.path] = face  # of the last line that names it
    except csv.Error as error:
        raise DataError(f"{root / VOTES}, line {lines.line_num}: {error}") from error
    _require_images(root, list(faces))
    return list(faces.values())


def _face(root: Path, fields: list[str], where: str) -> Face | None:
    part, name, *votes = fields if len(fields) > 1 else (*fields, "")
    whole = len(fields) == len(_COLUMNS) and all(one.isascii() and one.isdecimal() for one in votes)
    if not whole or part not in FOLDERS or name != Path(name).name:
        wanted = f"a part ({', '.join(FOLDERS)}), a file and {len(_COLUMNS) - 2} numbers of votes"
        raise DataError(f"{where}: a line must hold {wanted}, but is {','.join(fields)[:80]!r}")
    return Face(part, root / "data" / FOLDERS[part] / name, tuple(int(one[:9]) for one in votes)) if name else None


def _require_images(root: Path, paths: list[Path]) -> None:
    folders = [root / "data" / folder for folder in FOLDERS.values()]
    there = {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    if missing := [path for path in paths if path not in there]:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]} is named in the list but missing{more}")
