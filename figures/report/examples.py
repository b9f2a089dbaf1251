"""Test images with the largest specific part: what only the teacher, and what only the student sees."""

import io
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from figures.checks import naming, require
from figures.report.chart import Gallery, Panel, Picture, Table
from kdprobe.results import Result

_SIDE = 112  # pixels up to which images are kept as they are


def panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """One panel for all choices of images.

    Args:
        results: short file names and results of kind "examples".
    """
    galleries = []
    for name, result in results:
        with naming(name):
            galleries.append(_gallery(name, result))
    note = "The test images of which most is specific to one network. Below each: its class, and its specific part in "
    note += "this network | in the other one, in mean squared lengths of a feature."
    return [Panel("", note, galleries, choose="Pair")]


def _gallery(name: str, result: Result) -> Gallery:
    facts = result.facts
    stated = ("teacher", "student", "teacher_layer", "student_layer", "classes", "data")
    require(result, {"images": 5, "index": 2, "labels": 2, "specific": 2, "other": 2}, stated)
    rows = []
    numbers = []
    for row, who in enumerate(("teacher", "student")):
        network = f"{who} {facts[who]}, {facts[f'{who}_layer']}"
        told = list(_told(result, row))
        rows.append((f"largest specific part in the {network}", [_picture(who, *one) for one in told]))
        numbers += [[network, *one[1:]] for one in told]
    return Gallery(
        f"{facts['teacher']} → {facts['student']} ({name})",
        f"Test images of {facts['data']}.",
        rows,
        Table(["network", "image", "class", "specific here", "in the other"], numbers),
    )


def _told(result: Result, row: int) -> Iterator[tuple[NDArray[np.uint8], str, str, str, str]]:
    """Pixels, place among the test images, class and both shares of each image."""
    arrays = result.arrays
    for number, pixels in enumerate(arrays["images"][row]):
        label = str(result.facts["classes"][int(arrays["labels"][row, number])])
        shares = (f"{float(arrays[key][row, number]):.2f}" for key in ("specific", "other"))
        yield pixels, str(int(arrays["index"][row, number])), label, *shares


def _picture(who: str, pixels: NDArray[np.uint8], index: str, label: str, specific: str, other: str) -> Picture:
    alt = f"Test image {index} of class {label}: specific part {specific} in the {who}, {other} in the other network."
    return Picture(_address(pixels), alt, [label, f"{specific} | {other}"])


def _address(pixels: NDArray[np.uint8]) -> str:
    """An image [h, w, 3] as it is where it is small, otherwise shrunk and compressed, so that pages stay small."""
    image = Image.fromarray(pixels)
    small = max(image.size) <= _SIDE
    if not small:
        image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    options: dict[str, Any] = {"optimize": True} if small else {"quality": 88}
    image.save(buffer, format="PNG" if small else "JPEG", **options)
    return f"data:image/{'png' if small else 'jpeg'};base64,{b64encode(buffer.getvalue()).decode()}"
