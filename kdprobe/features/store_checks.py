"""What a feature file holds, and what is wrong with one, in words, where it is read."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import h5py
import numpy as np

from kdprobe.errors import CaptureError
from kdprobe.features.reducers import reducer
from kdprobe.formats.jsons import parse_json
from kdprobe.models.layout import Layout, LayoutKind

#: what HDF5 says inside its own account of an error, and how it is told
_HDF5 = {
    r"error message = '([^']+)'": "{}",
    r"file signature not found": "it is not an HDF5 file",
    r"truncated file": "its end is missing; copy it again or dump again",
    r"can't locate attribute: '([^']+)'": "the attribute {} is missing",
    r"object '([^']+)' doesn't exist": "{} is missing",
}
_DIMENSIONS = {"NCHW": 4, "NHWC": 4, "tokens": 3, "vector": 2}


def hdf5_reason(error: Exception, *, otherwise: str) -> str:
    """Why HDF5 could not read or write a file, without its own account of it; `otherwise` where that names nothing."""
    if number := getattr(error, "errno", None):
        return os.strerror(number)
    found = ((re.search(pattern, str(error)), words) for pattern, words in _HDF5.items())
    known = (words.format(*match.groups()) for match, words in found if match)
    return next(known, otherwise)


def text(value: Any) -> str:
    """A text attribute."""
    if not isinstance(value, str):
        raise TypeError(f"{_shown(value)} is not text")
    return value


def count(value: Any, *, least: int = 0, most: int = 2**53) -> int:
    """A whole number from `least` to `most`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{_shown(value)} is not a whole number")
    if not least <= value <= most:
        raise ValueError(f"{value} is not from {least} to {most}")
    return int(value)


def names(value: Any) -> list[str]:
    """Distinct names, stored as JSON."""
    found = parse_json(text(value))
    if not isinstance(found, list) or not all(isinstance(name, str) and name for name in found):
        raise ValueError(f"{_shown(value)} is not a list of names")
    if len(set(found)) < len(found):
        raise ValueError(f"{_shown(value)} has a name twice")
    return found


def mapping(value: Any) -> dict[str, Any]:
    """A mapping, stored as JSON."""
    found = parse_json(text(value))
    if not isinstance(found, dict):
        raise TypeError(f"{_shown(value)} is not a mapping")
    return found


def dataset(group: Any, name: str) -> Any:
    """A dataset in a group; not a group, and not a link to another place."""
    if not isinstance(group, h5py.Group):
        raise TypeError("it is not a group")
    found = group[name]
    if not isinstance(found, h5py.Dataset) or group.get(name, getlink=True).__class__ is not h5py.HardLink:
        raise ValueError("it is not a dataset")
    return found


def reduction(value: Any) -> str:
    """What is stored of each layer's output."""
    try:
        reducer(text(value))
    except CaptureError as error:
        raise ValueError(error) from error
    return text(value)


def column(group: Any, name: str, n_rows: int) -> Any:
    """The first rows of a column of whole numbers, none below zero."""
    found = dataset(group, name)
    if found.ndim != 1 or found.dtype.kind not in "iu" or len(found) < n_rows:
        raise ValueError(f"{name} holds {found.dtype} {list(found.shape)}, not {n_rows} whole numbers")
    values = found[:n_rows].astype(np.int64)
    if values.size and values.min() < 0:
        raise ValueError(f"{name} holds {values.min()}, which is below 0")
    return values


def features(found: Any, n_rows: int) -> Any:
    """Features of `n_rows` samples: floating-point numbers [n, ...] in either byte order."""
    if found.dtype.kind != "f" or found.dtype.itemsize > 8 or found.ndim < 2 or len(found) < n_rows:
        raise ValueError(f"it holds {found.dtype} {list(found.shape)}, not features of {n_rows} samples")
    if 0 in found.shape[1:]:
        raise ValueError(f"it holds features without values, of shape {list(found.shape[1:])}")
    return found


def grams(found: Any, n_rows: int, batch_size: int) -> Any:
    """Gram matrices of `n_rows` minibatches."""
    if found.dtype != np.float64 or found.shape[1:] != (batch_size, batch_size) or len(found) < n_rows:
        raise ValueError(f"it holds {found.dtype} {list(found.shape)}, not {n_rows} Gram matrices of {batch_size}")
    return found


def layout(found: Any, *, of_samples: bool) -> Layout:
    """What the dimensions of a dataset mean.

    Args:
        found: the dataset.
        of_samples: whether its rows are features, not Gram matrices.
    """
    kind = attribute(found, LAYER_PATH, "layout")
    if of_samples and found.ndim != _DIMENSIONS.get(kind, found.ndim):
        raise ValueError(f"features of shape {list(found.shape)} cannot have the layout {kind}")
    most = max(0, found.shape[1] - 1) if of_samples and kind == "tokens" else 2**53
    n_prefix = count(attribute(found, LAYER_PATH, "n_prefix"), most=most)
    place = count(attribute(found, LAYER_PATH, "class_token"), least=-1, most=n_prefix - 1)
    return Layout(kind, n_prefix, place if place >= 0 else None)


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{_shown(value)} is not true or false")
    return bool(value)


def parts(value: Any) -> list[str]:
    """Names of files in the same folder."""
    found = names(value)
    for name in found:
        if name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise ValueError(f"{name!r} is not a file name")
    return found


def _shown(value: Any) -> str:
    return " ".join(repr(value).split())[:80]


@dataclass(frozen=True)
class Attribute:
    """An attribute of a group or a data set.

    Attributes:
        of: how it is stored, one of `TYPES`.
        about: what it says.
        words: what it may be, where that is a choice.
        missing: what it means that it is not there; None where it always is.
    """

    of: str
    about: str
    words: tuple[str, ...] = ()
    missing: str | int | None = None


@dataclass(frozen=True)
class StoredRows:
    """What a data set holds.

    Attributes:
        types: it is of one of these.
        dims: names of its dimensions, of n samples in k minibatches of b.
        about: what it is.
        content: of the file, where the data set depends on it; empty where it does not.
    """

    types: tuple[str, ...]
    dims: str
    about: str
    content: str = ""


@dataclass(frozen=True)
class StoredPlace:
    """A group or a data set of a feature file.

    Attributes:
        rows: what a data set holds, one for each content where it depends on that; none of a group.
        attributes: by name.
    """

    rows: tuple[StoredRows, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


def attribute(holder: Any, place: str, name: str) -> Any:
    """The value of an attribute.

    Args:
        holder: the group or data set.
        place: which one of `LAYOUT` it is.
        name: of the attribute.

    Raises:
        KeyError: if it is not there, and always is.
        TypeError: for another type.
        ValueError: for a value that means nothing.
    """
    known = LAYOUT[place].attributes[name]
    value = TYPES[known.of](holder.attrs[name] if known.missing is None else holder.attrs.get(name, known.missing))
    if known.words and value not in known.words:
        raise ValueError(f"the {name} {value!r} is none of {', '.join(known.words)}")
    return value


#: how attributes are stored, and what reads them
TYPES: dict[str, Callable[[Any], Any]] = {
    "text": text,
    "whole number": lambda value: count(value, least=-1),
    "whole number above 0": lambda value: count(value, least=1),
    "true or false": flag,
    "name of a reduction": reduction,
    "JSON list of names": names,
    "JSON list of file names": parts,
    "JSON mapping": mapping,
}
ROLE_PATH, LAYER_PATH, CHECKSUMS_PATH = "/<role>", "/<role>/<layer>", "/checksums/<role>/<layer>"
OF_NETWORK = ("model", "sha256", "preprocessing", "images", "remark")

#: the file, version 1: every group with attributes and every data set; <role> is teacher or student
LAYOUT = {
    "/": StoredPlace(
        attributes={
            "format": Attribute("text", "which kind of file this is", ("kdprobe-features",)),
            "version": Attribute("whole number above 0", "of the format: 1"),
            "content": Attribute("text", "what is stored of each layer", ("features", "grams")),
            "data": Attribute("text", "the data SPEC"),
            "batch_size": Attribute("whole number above 0", "b, samples of each minibatch but the last"),
            "reduce": Attribute("name of a reduction", "what is stored of each output, such as `gap`", missing="whole"),
            "kdprobe": Attribute("text", "the version that wrote it"),
            "parts": Attribute("JSON list of file names", "the files that this one joins, if it does", missing="[]"),
        },
    ),
    "/samples/index": StoredPlace(
        (StoredRows(("int64",), "n", "place of each sample in the split, in the order of the dump"),)
    ),
    "/samples/label": StoredPlace((StoredRows(("int64",), "n", "class of each sample, 0 where the images have none"),)),
    "/samples/valid": StoredPlace(
        (StoredRows(("int64",), "", "how many samples are complete; no row after it must be read"),)
    ),
    ROLE_PATH: StoredPlace(
        attributes={
            "model": Attribute("text", "its name"),
            "sha256": Attribute("text", "of its checkpoint, empty if it has none"),
            "preprocessing": Attribute(
                "JSON mapping",
                "`image_size`, `mean`, `std`, and of image files `crop_pct`, `interpolation`, `crop_mode`",
            ),
            "images": Attribute("text", "sha256 of the images that it saw, empty if not known", missing=""),
            "remark": Attribute("text", "what must be known of its weights, usually nothing", missing=""),
            "layers": Attribute("JSON list of names", "its layers in the order of execution"),
        },
    ),
    LAYER_PATH: StoredPlace(
        (
            StoredRows(("float32", "float16"), "n ...", "features as the layer gave them, or reduced", "features"),
            StoredRows(
                ("float64",),
                "k b b",
                "products of the centred features within each minibatch, zero outside of a short last one",
                "grams",
            ),
        ),
        {
            "layout": Attribute("text", "what the dimensions of a feature mean", get_args(LayoutKind)),
            "n_prefix": Attribute("whole number", "how many tokens are in front of those of places"),
            "class_token": Attribute("whole number", "its place among these, -1 without one", missing=-1),
            "stage": Attribute("true or false", "whether the layer ends a stage"),
        },
    ),
    CHECKSUMS_PATH: StoredPlace(
        (
            StoredRows(("uint32",), "n", "CRC-32 of the bytes of each row of that layer", "features"),
            StoredRows(("uint32",), "k", "the same", "grams"),
        )
    ),
}
