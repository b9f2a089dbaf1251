"""What people pass: minibatches of images in whatever form.

A loader gives minibatches. A Dataset is made into minibatches; one tensor of images, an array or a path, which could be
looped over too, is refused. A minibatch is a `kdprobe.data.Batch`, a tensor, a tuple or list that begins with one, or a
mapping with one under a usual name, of which a network is given all tensors that its `forward` names; anything else is
fed by a function `forward(model, batch)` of the user's.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from kdprobe.data import Batch, DataSet, Split, evaluation_batches
from kdprobe.devices import sent
from kdprobe.errors import AnalysisError
from kdprobe.models.creation import described, model_info, unwrap
from kdprobe.models.facts import in_precision_of
from kdprobe.models.watched.samples import copied, tensors_in, with_each

Forward = Callable[[nn.Module, Any], Any]
Minibatches = Iterable[Any] | Dataset[Any] | Split
#: names of images in mappings, as timm, transformers, datasets, MONAI and others have them; the first one counts
KEYS = ("images", "image", "pixel_values", "imgs", "img", "inputs", "input", "x")
#: names of classes, which no network is given: some would compute a loss from them
LABELS = ("labels", "label", "targets", "target")
SIZE = 64  # of the minibatches of a Dataset


def fixed_order(n: int) -> Tensor:
    """A random order of n samples [n], the same each time.

    Folders of images are sorted by class, and minibatches of one or two classes do not show what networks have in
    common over all of them.
    """
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))


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
    if isinstance(images, tuple | list) and images:
        _refuse_labels_first(images)
        images = images[0]
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


def _refuse_labels_first(parts: Sequence[Any]) -> None:
    first, *others = parts
    labels = isinstance(first, Tensor) and first.ndim == 1 and not first.is_floating_point()
    images = next((one for one in others if isinstance(one, Tensor) and one.ndim > 2), None)
    if labels and images is not None:
        raise AnalysisError(
            f"a minibatch must begin with its images, but has {first.dtype} of shape {list(first.shape)} before "
            f"{images.dtype} of shape {list(images.shape)}; give them the other way round, or forward="
        )


def n_samples(batch: Any, forward: Forward | None = None) -> int | None:
    """How many samples a minibatch has; None where only `forward` could know."""
    if forward is None:
        return len(images_of(batch))
    rows = [(len(tensor), tensor.ndim == 4) for tensor in tensors_in(batch) if tensor.ndim]
    return next((count for count, images in rows if images), max((count for count, _ in rows), default=None))


def arguments_of(model: nn.Module, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments and keyword arguments with which a network is called for a minibatch.

    Images of a `Batch` are normalised for the network, and resized to the input size that its description says; others
    are taken as they are, those of uint8 as 0 to 1; each network gets them in its own precision. Of a mapping it gets
    whatever its `forward` names, apart from classes.

    Raises:
        AnalysisError: if it is not clear where the images are.
    """
    images = images_of(batch)
    if isinstance(batch, Batch):
        info = model_info(model)
        ready = info.prepare if described(model) else info.normalise  # timm's own size is that of published weights
        return (in_precision_of(model, ready(images)),), {}
    inside = batch[0] if isinstance(batch, tuple | list) else batch
    parameters = _parameters(model) if isinstance(inside, Mapping) else []
    named = {key: _ready(model, inside[key]) for key in parameters if isinstance(inside.get(key), Tensor)}
    if any(inside[key] is images for key in named):
        return (), named
    if parameters and parameters[0] in named:
        raise AnalysisError(
            f"{type(unwrap(model)).__name__} takes {', '.join(parameters)}, but it is not clear which of these are the "
            "images of a minibatch; give forward=, a function of model and minibatch"
        )
    return (_ready(model, images),), named


def feed(model: nn.Module, batch: Any, forward: Forward | None = None) -> Any:
    """The output of a network for a minibatch, of a form that the module describes, on the network's device.

    The network gets a copy, as some overwrite their images.
    """
    batch = copied(batch)
    if forward is not None:
        return forward(model, batch)
    args, kwargs = arguments_of(model, batch)
    return model(*args, **kwargs)


def _ready(model: nn.Module, values: Tensor) -> Tensor:
    whole = values.dtype == torch.uint8 and values.ndim == 4
    return in_precision_of(model, values.float() / 255 if whole else values)


def _parameters(model: nn.Module) -> list[str]:
    """What a network's `forward` names, apart from classes; nothing where Python cannot tell."""
    try:
        given = inspect.signature(unwrap(model).forward).parameters.values()
    except (TypeError, ValueError):
        return []
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one.name for one in given if one.kind in by_name and one.name not in LABELS]


def moved(value: Any, device: torch.device) -> Any:
    """A minibatch with all tensors in it on the device; on a CUDA device without waiting for it."""
    move = getattr(value, "to", None) if isinstance(value, Mapping) else None  # of a BatchEncoding of transformers
    return move(device) if callable(move) else with_each(value, lambda tensor: sent(tensor, device))


def _in_mapping(batch: Mapping[Any, Any]) -> Tensor:
    found: Tensor | None = next((batch[key] for key in KEYS if isinstance(batch.get(key), Tensor)), None)
    if found is None:
        names = ", ".join(repr(key) for key in list(batch)[:12])
        raise AnalysisError(
            f"a minibatch must be a tensor or begin with one, but is {type(batch).__name__} of {names}, without a "
            f"tensor under a known name ({', '.join(KEYS)}); give forward=, a function of model and minibatch"
        )
    return found
