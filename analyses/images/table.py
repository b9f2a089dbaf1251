"""A row for each test image, with all that results say of it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kdprobe.errors import ResultError
from kdprobe.results import Result

#: kinds of results with something to say of single images
PER_IMAGE = ("images", "evaluation", "fidelity", "examples")


def image_table(results: Sequence[Result]) -> pd.DataFrame:
    """What results say of each test image.

    Args:
        results: of the kinds `images`, `evaluation`, `fidelity` and `examples`, of the same images.

    Returns:
        a row for each image: `index` or `path`, `label`; of each network `prediction: NAME`, `confidence: NAME`,
        `margin: NAME`, `x: NAME` and `y: NAME`, as far as they are known; `specific to LAYER of NAME`, the squared
        length of its specific part, for the images that are examples of it.

    Raises:
        ResultError: if there is nothing of single images, or the results are of different images.

    Example:
        >>> from pathlib import Path
        >>> from analyses.evaluation import evaluate, judge
        >>> from analyses.images import image_table
        >>> from kdprobe.models import create, save
        >>> save(create("resnet8", n_classes=10, image_size=8), Path("student.safetensors"))
        >>> table = image_table([evaluate(judge("student.safetensors", "digits"))])
        >>> len(table), list(table.columns[:3])
        (359, ['index', 'label', 'prediction: student'])
    """
    told = [result for result in results if result.kind in PER_IMAGE]
    whole = [result for result in told if "targets" in result.arrays]
    if not whole:
        raise ResultError(
            "none of these results tells of single images; give one of kdprobe images, evaluate or fidelity"
        )
    first = whole[0]
    for other in whole[1:]:
        same = np.array_equal(first.arrays["targets"], other.arrays["targets"])
        if other.facts["data"] != first.facts["data"] or not same:
            raise ResultError(
                f"the results are of different images: {first.facts['data']} ({len(first.arrays['targets'])}) and "
                f"{other.facts['data']} ({len(other.arrays['targets'])}); give those of one test set at a time"
            )
    targets, classes = first.arrays["targets"], np.array(first.facts["classes"], dtype=object)
    columns: dict[str, object] = {"index": np.arange(len(targets))}
    paths = next((result.facts["paths"] for result in whole if "paths" in result.facts), None)
    columns |= {} if paths is None else {"path": paths}
    columns["label"] = classes[targets]
    for result in whole:
        for name, value in _of_networks(result, classes).items():
            columns.setdefault(name, value)
    for result in told:
        if result.kind == "examples" and result.facts["data"] == first.facts["data"]:
            columns |= _specific(result, len(targets))
    return pd.DataFrame(columns)


def _of_networks(result: Result, classes: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of each network."""
    arrays: dict[str, np.ndarray] = result.arrays
    found: dict[str, np.ndarray] = {}
    if result.kind == "fidelity":
        found[f"prediction: {result.facts['teacher']}"] = classes[arrays["teacher_predictions"]]
    for place, name in enumerate(result.facts["names"]):
        found[f"prediction: {name}"] = classes[arrays["predictions"][place]]
        for column, key in (("confidence", "confidences"), ("margin", "margins")):
            if key in arrays:
                found[f"{column}: {name}"] = arrays[key][place]
        if "coordinates" in arrays:
            found |= {f"{axis}: {name}": arrays["coordinates"][place, :, k] for k, axis in enumerate("xy")}
    return found


def _specific(result: Result, n_images: int) -> dict[str, np.ndarray]:
    """The specific parts of the images that are examples, NaN for all others."""
    facts, arrays, found = result.facts, result.arrays, dict[str, np.ndarray]()
    networks = ("teacher", "student")
    for row, who in enumerate(networks):
        name = f"specific to {facts[f'{who}_layer']} of {facts[who]}"
        if who == "student":
            name = f"{name}, beside {facts['teacher']}"
        values = found.setdefault(name, np.full(n_images, np.nan))
        values[arrays["index"][row]] = arrays["specific"][row]
        values[arrays["index"][1 - row]] = arrays["other"][1 - row]
    return found
