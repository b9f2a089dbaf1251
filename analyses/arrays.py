"""Features that people pass as arrays or tensors."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdprobe.errors import AnalysisError

_KNOWN = (np.float16, np.float32, np.float64, np.int64, np.int32, np.int16, np.int8, np.uint8)
_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


def as_tensor(values: Any, *, name: str, least: int) -> Tensor:
    """Features as a tensor of a floating type; arrays become one, numbers that torch has no type for float64.

    Args:
        values: a tensor or an array of numbers.
        name: for messages.
        least: number of dimensions that it must have.

    Raises:
        AnalysisError: for something else.
    """
    values = _of_array(values)
    if not isinstance(values, Tensor):
        raise AnalysisError(f"{name} must be a tensor or an array of numbers, but is of type {type(values).__name__}")
    if values.ndim < least:
        raise AnalysisError(f"{name} must have at least {least} dimensions, but has the shape {list(values.shape)}")
    if not values.numel():
        raise AnalysisError(f"{name} must not be empty, but has the shape {list(values.shape)}")
    if values.is_complex():
        raise AnalysisError(f"{name} must be of real numbers, but is of type {values.dtype}")
    return values if values.is_floating_point() else values.double()


def takes_arrays(function: Callable[_Given, _Found]) -> Callable[_Given, _Found]:
    """Let a function of tensors, such as logits or classes, take arrays of numbers in their place."""

    @wraps(function)
    def taking(*given: _Given.args, **named: _Given.kwargs) -> _Found:
        tensors = {name: _of_array(value) for name, value in named.items()}
        return function(*map(_of_array, given), **tensors)

    return taking


def _of_array(values: Any) -> Any:
    """A tensor instead of an array of numbers, of its type or, where torch has none, int64 or float64."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        return values
    native = values.dtype.newbyteorder("=")
    wide = np.float64 if native.kind == "f" else np.int64
    known = native if native.kind == "b" or native in _KNOWN else wide
    return torch.from_numpy(np.require(values, known, ["C", "W"]))


def fetched(*tensors: Tensor) -> list[NDArray[np.float64]]:
    """Tensors on one device as float64 arrays of the same shapes, for one wait."""
    flat = torch.cat([tensor.flatten().to(torch.float64) for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])[:-1]
    return [part.reshape(tensor.shape) for part, tensor in zip(np.split(flat, ends), tensors, strict=True)]
