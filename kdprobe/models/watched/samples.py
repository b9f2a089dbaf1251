"""The tensors in a minibatch or in the arguments of a network, whatever holds them."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor


def tensors_in(values: Any) -> Iterator[Tensor]:
    """All tensors of nested sequences, mappings and dataclasses, in order, but those without rows of their own."""
    if isinstance(values, Tensor):
        if values.layout is torch.strided and not values.is_nested:  # sparse ones tell of neither place nor stride
            yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, Mapping):
        yield from tensors_in([*values.values()])
    elif is_dataclass(values) and not isinstance(values, type):
        yield from tensors_in([getattr(values, one.name) for one in fields(values)])


def with_each(value: Any, change: Callable[[Any], Any], is_one: Callable[[Any], bool] | None = None) -> Any:
    """The same nested sequences, mappings and dataclasses with other tensors.

    Args:
        value: what holds tensors; anything else in it stays.
        change: makes another of each tensor.
        is_one: what is given to `change` as it is, besides tensors.
    """
    if isinstance(value, Tensor) or (is_one is not None and is_one(value)):
        return change(value)
    if isinstance(value, Mapping):
        inside = {key: with_each(item, change, is_one) for key, item in value.items()}
        if isinstance(value, dict) or not isinstance(value, MutableMapping):
            return inside
        made = copy(value)  # with the attributes of its type, as a BatchEncoding of transformers has
        made.update(inside)
        return made
    if isinstance(value, tuple | list):
        items = [with_each(item, change, is_one) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if is_dataclass(value) and not isinstance(value, type):
        its = {one.name: with_each(getattr(value, one.name), change, is_one) for one in fields(value) if one.init}
        return replace(value, **its)
    return value


def copied(value: Any) -> Any:
    """The same with copies of all tensors, which a network may overwrite."""
    return with_each(value, torch.clone)


def images_in(args: tuple[Any, ...], kwargs: Mapping[str, Any], *, most: bool = False) -> int | None:
    """The number of images in a call: in a list, or rows of the first tensor, best of 3 dimensions; None without any.

    Args:
        args: arguments of the call.
        kwargs: keyword arguments of the call.
        most: count the tensor with most rows instead of the first one.
    """
    counts: list[tuple[int, bool]] = []
    for value in [*args, *kwargs.values()]:
        of_its = ((len(one), one.ndim > 2) for one in tensors_in(value) if one.ndim)
        counts += [(len(value), True)] if is_list(value) else of_its
    found = [count for count, large in counts if large] or [count for count, _ in counts]
    return max(found) if most and found else next(iter(found), None)


def is_list(value: Any) -> bool:
    """Whether these are images [c, h, w] in a list, as detectors take them."""
    images = isinstance(value, list | tuple) and bool(value)
    return images and all(isinstance(one, Tensor) and one.ndim == 3 and len(one) <= 4 for one in value)


def few_images(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], n_images: int, count: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a call with the first `count` images alone, at least two rows: one image is shown twice."""

    def few(value: Any) -> Any:
        if is_list(value):
            if len(value) != n_images:
                return value
            return type(value)(one.detach() for one in (value * 2 if n_images == 1 else value[:count]))
        if not value.ndim or len(value) != n_images:
            return value
        return value[:count].detach() if n_images > 1 else torch.cat([value, value]).detach()

    return with_each(args, few, is_list), with_each(dict(kwargs), few, is_list)
