"""A row for each test image, with all that results say of it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kdprobe.errors import ResultError
from kdprobe.results import Result

#: kinds of results with something to say of single images
PER_IMAGE = ("images", "evaluation", "fidelity", "knowledge")


def image_table(results: Sequence[Result]) -> pd.DataFrame:
    """What results say of each test image.

    Args:
        results: of the kinds `images`, `evaluation`, `fidelity` and `knowledge`, of the same images.

    Returns:
        a row for each image: `index` or `path`, `label`; of each network `prediction: NAME`, `confidence: NAME`,
        `margin: NAME`, `x: NAME` and `y: NAME`, as far as they are known; of each pair of layers that was decomposed
        `general share of LAYER of NAME, beside LAYER of OTHER` and `specific share of ...`, as
        `analyses.knowledge.decomposition.Side.by_sample` has them, with the mean over the samples of an image, and
        NaN for an image that was not among them.

    Raises:
        ResultError: if there is nothing of single images, the results are of different images or call different
            networks the same, or two decompositions say different things of the same networks and layers.

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
            "none of these results tells the answers for each image; give one of kdprobe images, evaluate or fidelity, "
            "beside which the shares of a decomposition stand"
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
    _require_names_of_one_network(whole)
    for result in whole:
        for name, value in _of_networks(result, classes).items():
            columns.setdefault(name, value)
    called, shares = _names_by_checkpoint(whole), dict[str, np.ndarray]()
    for result in told:
        if "index" in result.arrays and result.facts["data"] == first.facts["data"]:
            for name, share in _shares(result, targets, called).items():
                if not np.array_equal(shares.setdefault(name, share), share, equal_nan=True):
                    raise ResultError(f"two results say different things in the column {name!r}; give one of them")
    return pd.DataFrame(columns | shares)


def _require_names_of_one_network(results: Sequence[Result]) -> None:
    """Refuse results that call different networks the same, as their sha256 or, without these, their answers say."""
    known: dict[str, tuple[str | None, np.ndarray]] = {}
    for result in results:
        hashes = [model.get("sha256") for model in result.provenance.get("models", ())]
        for place, name in enumerate(result.facts["names"]):
            own = (hashes[place] if place < len(hashes) else None), result.arrays["predictions"][place]
            before = known.setdefault(name, own)
            both = own[0] and before[0]
            if own[0] != before[0] if both else not np.array_equal(own[1], before[1]):
                raise ResultError(
                    f"two results call different networks {name!r}; give results of one command that names both, which "
                    "tells them apart"
                )


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


def _names_by_checkpoint(results: Sequence[Result]) -> dict[str, str]:
    """What networks are called in results of all images, by their sha256."""
    rows = (zip(result.provenance.get("models", ()), result.facts["names"], strict=False) for result in results)
    return {model["sha256"]: name for row in rows for model, name in row if model.get("sha256")}


def _shares(result: Result, targets: np.ndarray, called: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The general and the specific share of each image, by pair of layers and network; NaN where none is known."""
    arrays, facts, index = result.arrays, result.facts, result.arrays["index"]
    if index.max() >= len(targets) or not np.array_equal(arrays["labels"], targets[index]):
        raise ResultError(
            f"the decomposition of {facts['teacher']} and {facts['student']} is of other images of {facts['data']}, or "
            "of the same in another order; give that of its test images"
        )
    networks = ("teacher", "student")
    names = [called.get(result.provenance.get(who, {}).get("sha256"), facts[who]) for who in networks]
    counts, found = np.bincount(index, minlength=len(targets)), dict[str, np.ndarray]()
    for pair, layers in enumerate(zip(facts["teacher_layers"], facts["student_layers"], strict=True)):
        sides = [f"{layer} of {name}" for layer, name in zip(layers, names, strict=True)]
        for who, side, other in zip(networks, sides, reversed(sides), strict=True):
            for part in ("general", "specific"):
                sums = np.bincount(index, arrays[f"{who}_{part}_by_sample"][pair], len(targets))
                share = np.divide(sums, counts, out=np.full(len(targets), np.nan), where=counts > 0)
                found[f"{part} share of {side}, beside {other}"] = share
    return found
