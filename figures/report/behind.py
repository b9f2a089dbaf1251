"""The images behind a chart: which of them each cell, bar or point stands for."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdprobe.results import Result

#: sets of images that a student and its teacher have, in the order of charts
AGREEMENT = (
    "both right",
    "only the teacher right",
    "only the student right",
    "both wrong, with the same answer",
    "both wrong, with different answers",
)


@dataclass(frozen=True)
class ImageSet:
    """Some of the test images.

    Attributes:
        group: what they are listed under.
        label: what they are.
        images: their places among the test images, ascending.
    """

    group: str
    label: str
    images: NDArray[np.int64]


@dataclass(frozen=True)
class Behind:
    """The sets of images behind a chart; a trace's `meta.sets` says which place stands for which of them.

    Attributes:
        of: which test images, from `images_key`.
        sets: none of them empty.
        linked: whether the chart has a point for each image, which `meta.images` of its traces name.
    """

    of: str
    sets: Sequence[ImageSet]
    linked: bool = False


def images_key(result: Result) -> str:
    """The same for results about the same test images: their data and their classes in order."""
    targets = np.ascontiguousarray(result.arrays["targets"], dtype=np.int64)
    return hashlib.sha256(str(result.facts["data"]).encode() + b"\0" + targets.tobytes()).hexdigest()[:16]


def confusion_sets(
    targets: NDArray[np.int64], predictions: NDArray[np.int64], classes: Sequence[str]
) -> tuple[list[ImageSet], list[list[int]]]:
    """The images of each cell of a confusion matrix and of each class.

    Args:
        targets: true classes [n].
        predictions: answers [n].
        classes: names.

    Returns:
        the sets, mistakes first, the most frequent on top; and the number of each cell's set, -1 for empty ones.
    """
    places = [[-1] * len(classes) for _ in classes]
    cells: dict[tuple[int, int], NDArray[np.int64]] = {}
    pairs = targets * len(classes) + predictions
    for pair in np.unique(pairs).tolist():
        cells[divmod(pair, len(classes))] = np.flatnonzero(pairs == pair)
    wrong = sorted((pair for pair in cells if pair[0] != pair[1]), key=lambda pair: (-len(cells[pair]), pair))
    right = sorted(pair for pair in cells if pair[0] == pair[1])
    sets = [
        ImageSet("mistakes", f"{classes[true]} taken for {classes[other]}", cells[true, other]) for true, other in wrong
    ]
    sets += [ImageSet("right answers", f"{classes[true]}, rightly", cells[true, true]) for true, _ in right]
    for number, (true, answer) in enumerate([*wrong, *right]):
        places[true][answer] = number
    return [*sets, *class_sets(targets, classes)], places


def class_sets(targets: NDArray[np.int64], classes: Sequence[str]) -> list[ImageSet]:
    """The images of each class that has any."""
    members = [(name, np.flatnonzero(targets == place)) for place, name in enumerate(classes)]
    return [ImageSet("classes", f"all of class {name}", images) for name, images in members if len(images)]


def agreement_sets(
    targets: NDArray[np.int64], teacher: NDArray[np.int64], students: NDArray[np.int64]
) -> list[list[NDArray[np.int64]]]:
    """For each of `AGREEMENT` and each student, the images in it.

    Args:
        targets: true classes [n].
        teacher: the teacher's answers [n].
        students: the students' answers [m, n].
    """
    right, taught, same = students == targets, teacher == targets, students == teacher
    masks = (right & taught, ~right & taught, right & ~taught, ~right & ~taught & same, ~right & ~taught & ~same)
    return [[np.flatnonzero(row) for row in mask] for mask in masks]


def numbered(sets: Sequence[Sequence[ImageSet]]) -> tuple[list[ImageSet], list[list[int]]]:
    """Sets of several traces in one list without the empty ones, and the number of each one's set, -1 if empty."""
    kept: list[ImageSet] = []
    places: list[list[int]] = []
    for row in sets:
        places.append([])
        for one in row:
            places[-1].append(len(kept) if len(one.images) else -1)
            kept += [one] if len(one.images) else []
    return kept, places


def standing_for(trace: dict[str, Any], sets: Any) -> dict[str, Any]:
    """A trace that says which set each of its places stands for."""
    return {**trace, "meta": {**trace.get("meta", {}), "sets": sets}}
