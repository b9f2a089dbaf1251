"""What people pass: minibatches of images in whatever form, and arrays in place of tensors.

A loader gives minibatches. A Dataset is made into minibatches; one tensor of images, an array or a path, which could be
looped over too, is refused. A minibatch is a `kdprobe.data.Batch`, a tensor, a tuple or list that begins with one, or a
mapping with one under a usual name; anything else is fed by a function `forward(model, batch)` of the user's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from kdprobe.data import Batch, DataSet, Split, evaluation_batches
from kdprobe.errors import AnalysisError
from kdprobe.models.creation import model_info
from kdprobe.models.facts import in_precision_of

Forward = Callable[[nn.Module, Any], Any]
Minibatches = Iterable[Any] | Dataset[Any] | Split
#: names of images in mappings, as timm, transformers, datasets, MONAI and others have them; the first one counts
KEYS = ("images", "image", "pixel_values", "imgs", "img", "inputs", "input", "x")
SIZE = 64  # of the minibatches of a Dataset


def as_minibatches(loader: Any, *, name: str = "loader") -> Iterable[Any]:
    """Something that gives minibatches.

    Args:
        loader: a DataLoader or another iterable of minibatches; or a Dataset, or a `kdprobe.data.Split`, whose samples
            become minibatches of 64 in their order.
        name: of the argument, for messages.

    Raises:
        AnalysisError: for what gives no minibatches.
    """
    if isinstance(loader, Split):
        return evaluation_batches(loader, batch_size=SIZE)
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        return DataLoader(loader, batch_size=SIZE)
    stacked = isinstance(loader, Tensor) and loader.ndim == 5  # minibatches of images, of equal size
    if isinstance(loader, Tensor | np.ndarray) and not stacked:
        raise AnalysisError(
            f"{name} must give minibatches of images, but is one {type(loader).__name__} of shape "
            f"{list(loader.shape)}; give a DataLoader or a list of tensors"
        )
    if isinstance(loader, DataSet):
        raise AnalysisError(f"{name} must give minibatches, but is a DataSet; give its .test or its .train")
    wrong = isinstance(loader, str | bytes | PathLike | Mapping | IterableDataset | nn.Module | Batch)
    if wrong or not isinstance(loader, Iterable):
        raise AnalysisError(
            f"{name} must give minibatches of images, as a DataLoader does, but is of type {type(loader).__name__}"
        )
    return loader


def images_of(batch: Any) -> Tensor:
    """The images [B, ...] of a minibatch.

    Raises:
        AnalysisError: if it is not clear where they are.
    """
    if isinstance(batch, Mapping):
        return _in_mapping(batch)
    images = batch.images if isinstance(batch, Batch) else batch
    images = images[0] if isinstance(images, tuple | list) and images else images
    if isinstance(images, Mapping):
        return _in_mapping(images)
    if not isinstance(images, Tensor):
        raise AnalysisError(
            f"a minibatch must be a tensor or begin with one, but is {type(batch).__name__}; give forward=, a function "
            "of model and minibatch"
        )
    if not images.ndim:
        raise AnalysisError("a minibatch must be a tensor of images, but is a single number")
    return images


def n_samples(batch: Any, forward: Forward | None = None) -> int | None:
    """How many samples a minibatch has; None where only `forward` could know."""
    if forward is None:
        return len(images_of(batch))
    return max((len(tensor) for tensor in _tensors(batch) if tensor.ndim), default=None)


def feed(model: nn.Module, batch: Any, device: torch.device, forward: Forward | None = None) -> None:
    """Run a network on a minibatch.

    Args:
        model: on the device.
        batch: see the module. Images of a `Batch` are normalised for the network; others are taken as they are, those
            of uint8 as 0 to 1; each network gets them in its own precision.
        device: where the minibatch goes.
        forward: runs the network on a minibatch of another form, which was moved to the device.
    """
    if forward is not None:
        forward(model, _moved(batch, device))
        return
    images = images_of(batch).to(device)
    if images.dtype == torch.uint8:
        images = images.float() / 255
    images = model_info(model).normalise(images) if isinstance(batch, Batch) else images
    model(in_precision_of(model, images))


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


def _in_mapping(batch: Mapping[Any, Any]) -> Tensor:
    found: Tensor | None = next((batch[key] for key in KEYS if isinstance(batch.get(key), Tensor)), None)
    if found is None:
        names = ", ".join(repr(key) for key in list(batch)[:12])
        raise AnalysisError(
            f"a minibatch must be a tensor or begin with one, but is {type(batch).__name__} of {names}, without a "
            f"tensor under a known name ({', '.join(KEYS)}); give forward=, a function of model and minibatch"
        )
    return found


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a minibatch of any form."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from (tensor for item in value.values() for tensor in _tensors(item))
    elif isinstance(value, tuple | list):
        yield from (tensor for item in value for tensor in _tensors(item))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (tensor for one in fields(value) for tensor in _tensors(getattr(value, one.name)))


def _moved(value: Any, device: torch.device) -> Any:
    """The same with all tensors in it on the device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        move = getattr(value, "to", None)  # of a BatchEncoding of transformers
        return move(device) if callable(move) else {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [_moved(item, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{one.name: _moved(getattr(value, one.name), device) for one in fields(value) if one.init}
        )
    return value
