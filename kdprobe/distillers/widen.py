"""Losses in at least float32, whatever the precision around them.

Autocast would run the Gram matrices of relational losses in bfloat16, and half-precision logits
carry two or three digits; losses are cheap, so none of them is worth that.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def widened(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a loss so that half-precision tensors reach it as float32, with autocast off."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        first = next(_tensors([*args, *kwargs.values()]))
        with torch.autocast(first.device.type, enabled=False):
            return function(*map(_widen, args), **{key: _widen(value) for key, value in kwargs.items()})

    return wrapper


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _widen(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    if isinstance(value, list | tuple):
        return type(value)(map(_widen, value))
    return value
