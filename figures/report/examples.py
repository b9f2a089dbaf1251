"""Test images with the largest specific part: what only the teacher, and what only the student sees."""

import io
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from figures.report.elements import Gallery, Panel, Picture, Results, Table, one_at_a_time
from kdprobe.results import Result

_SIDE = 112  # pixels up to which images are not shrunk
_COMPRESSION: dict[str, dict[str, Any]] = {
    "PNG": {"optimize": True},
    "JPEG": {"quality": 90, "subsampling": 0, "optimize": True},
}


def examples_panels(results: Results) -> list[Panel]:
    """One panel for all results of kind "examples"."""
    note = (
        "The test images with the largest part that is specific to one network. Below each: its class, and its "
        "specific part in this network | in the other one, as the mean squared length of a feature."
    )
    return one_at_a_time(results, _gallery, choose="Pair", note=note)


class _Example(NamedTuple):
    pixels: NDArray[np.uint8]
    place: str
    label: str
    specific: str
    other: str


def _gallery(name: str, result: Result) -> Gallery:
    facts = result.facts
    rows, numbers = [], []
    for row, who in enumerate(("teacher", "student")):
        network, examples = f"{who} {facts[who]}, {facts[f'{who}_layer']}", list(_examples(result, row))
        rows.append((f"largest specific part in the {network}", [_picture(who, example) for example in examples]))
        numbers += [[network, *example[1:]] for example in examples]
    return Gallery(
        f"{facts['teacher']} → {facts['student']} ({name})",
        f"Test images of {facts['data']}.",
        rows,
        Table(["network", "image", "class", "specific here", "in the other"], numbers),
    )


def _examples(result: Result, row: int) -> Iterator[_Example]:
    arrays = result.arrays
    for number, pixels in enumerate(arrays["images"][row]):
        label = str(result.facts["classes"][int(arrays["labels"][row, number])])
        shares = (f"{float(arrays[key][row, number]):.2f}" for key in ("specific", "other"))
        yield _Example(pixels, str(int(arrays["index"][row, number])), label, *shares)


def _picture(who: str, example: _Example) -> Picture:
    specific, other = example.specific, example.other
    alt = f"Test image {example.place} of class {example.label}: specific part {specific} in the {who}, "
    alt += f"{other} in the other network."
    return Picture(image_address(example.pixels), alt, [example.label, f"{specific} | {other}"])


def image_address(pixels: NDArray[np.uint8]) -> str:
    """An image [h, w, 3], shrunk where it is large; exact, or as JPEG where that is smaller."""
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    addresses = []
    for kind, options in _COMPRESSION.items():
        buffer = io.BytesIO()
        image.save(buffer, format=kind, **options)
        addresses.append(f"data:image/{kind.lower()};base64,{b64encode(buffer.getvalue()).decode()}")
    return min(addresses, key=len)
