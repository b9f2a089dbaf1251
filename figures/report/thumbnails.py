"""Small pictures of test images: each is in the page once, as many as there is room for.

Which ones is drawn at random, and evenly from all sets of images that the page's charts stand for: of a mistake that
was made three times there is a picture before there is a hundredth one of images that everybody got right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer
from numpy import ndarray

from figures.report.behind import Behind, images_key
from figures.report.elements import Chart
from figures.report.examples import image_address
from kdprobe.results import Result

PAGE_BYTES = 10_000_000  # of a page
_NUMBER = 5  # bytes of an image's number in a set, with its comma


@dataclass(frozen=True)
class Album:
    """The pictures that a page holds of one set of test images.

    Attributes:
        key: of the test images.
        numbers: the place among the pictures of each test image that has one.
        content: what the page's script needs.
        left_out: how many pictures there was no room for.
        n_images: test images.
    """

    key: str
    numbers: dict[int, int]
    content: dict[str, Any]
    left_out: int
    n_images: int

    @property
    def words(self) -> str:
        """How many of the images can be seen, and how those were chosen."""
        n = len(self.numbers)
        if n == self.n_images:
            return f"All {n:,} images are in this page: choose a part of a chart, or a set below it."
        if not self.left_out:
            return (
                f"{n:,} of {self.n_images:,} images are in this page, drawn at random: choose a part of a chart, or a "
                "set below it."
            )
        return (
            f"{n:,} of {self.n_images:,} images are in this page, drawn at random and evenly from the sets that its "
            f"charts stand for: choose a part of a chart, or a set below it. {self.left_out:,} more would have made it "
            "larger than 10 MB."
        )


def albums(results: Sequence[Result], charts: Sequence[Chart], room: int) -> dict[str, Album]:
    """The pictures for a page, by the test images that they are of.

    Args:
        results: of all kinds; those of kind "images" hold the pictures, the first one of each set of test images.
        charts: of the page.
        room: bytes that all pictures together may take.

    Returns:
        those that have any.
    """
    found: dict[str, Result] = {}
    for result in results:
        if result.kind == "images":
            found.setdefault(images_key(result), result)
    wanted = {chart.behind.of for chart in charts if chart.behind}
    used = {key: result for key, result in found.items() if key in wanted}
    made = {key: _album(key, result, charts, room // len(used)) for key, result in used.items()}
    return {key: album for key, album in made.items() if album.numbers}


def _album(key: str, result: Result, charts: Sequence[Chart], room: int) -> Album:
    """As many pictures as fit, drawn with the result's seed."""
    shown, arrays = result.arrays["shown"], result.arrays
    sets = [one.images for chart in charts if chart.behind and chart.behind.of == key for one in chart.behind.sets]
    mentions = -(-sum(map(len, sets)) // max(1, len(arrays["targets"])))  # sets that an image is in, on average
    per_image = _NUMBER * (mentions + 2 + len(arrays["predictions"]))
    kept, taken = list[tuple[int, str]](), 0
    for place in even_order(shown, sets, result.facts["seed"]).tolist():
        address = image_address(arrays["thumbnails"][place])
        taken += len(address) + 4 + per_image
        if taken > room:
            break
        kept.append((place, address))
    kept.sort()
    index = shown[[place for place, _ in kept]].astype(np.int64)
    content = {
        "index": index.tolist(),
        "sources": [address for _, address in kept],
        "labels": arrays["targets"][index].tolist(),
        "classes": result.facts["classes"],
        "names": result.facts["names"],
        "answers": arrays["predictions"][:, index].tolist(),
    }
    numbers = {int(image): number for number, image in enumerate(index)}
    return Album(key, numbers, content, len(shown) - len(kept), len(arrays["targets"]))


def even_order(
    images: Integer[ndarray, " k"], sets: Sequence[Integer[ndarray, " _"]], seed: int
) -> Int64[ndarray, " k"]:
    """An order of images at the start of which all sets are, each as far as it goes.

    First come images that are the first of a set in a random order, then those that are the second of one, and so on.

    Args:
        images: different numbers.
        sets: numbers; those that are not among the images do not matter.
        seed: of the random order.

    Returns:
        places in `images`, each once.
    """
    drawn = np.random.default_rng(seed).permutation(len(images))
    turn = np.full(int(images.max(initial=-1)) + 1, -1)  # of each image in the random order
    turn[images[drawn]] = np.arange(len(drawn))
    round_ = np.full(len(images), len(images))
    for one in sets:
        turns = np.sort(turn[one[one < len(turn)]])
        turns = turns[turns >= 0]
        round_[turns] = np.minimum(round_[turns], np.arange(len(turns)))
    return drawn[np.argsort(round_, kind="stable")]


def behind_spec(behind: Behind, album: Album) -> dict[str, Any]:
    """What the page's script needs of the images behind a chart."""
    return {
        "of": album.key,
        "linked": behind.linked,
        "sets": [[one.group, one.label, len(one.images), list(_numbers(one.images, album))] for one in behind.sets],
    }


def _numbers(images: Any, album: Album) -> Iterator[int]:
    return (album.numbers[image] for image in images.tolist() if image in album.numbers)
