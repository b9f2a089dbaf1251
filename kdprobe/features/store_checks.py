"""What a feature file must hold, checked where it is read; errors say what is wrong."""

import os
import re
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
    kind = text(found.attrs["layout"])
    if kind not in get_args(LayoutKind):
        raise ValueError(f"the layout {kind!r} is none of {', '.join(get_args(LayoutKind))}")
    if of_samples and found.ndim != _DIMENSIONS.get(kind, found.ndim):
        raise ValueError(f"features of shape {list(found.shape)} cannot have the layout {kind}")
    most = max(0, found.shape[1] - 1) if of_samples and kind == "tokens" else 2**53
    n_prefix = count(found.attrs["n_prefix"], most=most)
    place = count(found.attrs.get("class_token", -1), least=-1, most=n_prefix - 1)  # dumps of 0.1.0 do not say
    return Layout(kind, n_prefix, place if place >= 0 else None)  # type: ignore[arg-type]


def stage(found: Any) -> bool:
    """Whether a layer ends a stage."""
    value = found.attrs["stage"]
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"the attribute stage is {_shown(value)}, not true or false")
    return bool(value)


def parts(value: Any) -> list[str]:
    """Names of files in the same folder."""
    found = [] if value is None else names(value)
    for name in found:
        if name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise ValueError(f"{name!r} is not a file name")
    return found


def _shown(value: Any) -> str:
    return " ".join(repr(value).split())[:80]
