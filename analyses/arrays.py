"""Features that people pass as arrays or tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdprobe.errors import AnalysisError


def as_tensor(values: Any, *, name: str, least: int) -> Tensor:
    """Features as a tensor of a floating type; arrays become one, whole numbers float64.

    Args:
        values: a tensor or an array of numbers.
        name: for messages.
        least: number of dimensions that it must have.

    Raises:
        AnalysisError: for something else.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        values = torch.from_numpy(np.ascontiguousarray(values))
    if not isinstance(values, Tensor):
        raise AnalysisError(f"{name} must be a tensor or an array of numbers, but is of type {type(values).__name__}")
    if values.ndim < least:
        raise AnalysisError(f"{name} must have at least {least} dimensions, but has the shape {list(values.shape)}")
    if not values.numel():
        raise AnalysisError(f"{name} must not be empty, but has the shape {list(values.shape)}")
    if values.is_complex():
        raise AnalysisError(f"{name} must be of real numbers, but is of type {values.dtype}")
    return values if values.is_floating_point() else values.double()
