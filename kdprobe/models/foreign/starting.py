"""The beginning of a training from somebody's weights: all of a network but, where classes differ, its classifier."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from kdprobe.errors import CheckpointError
from kdprobe.files import sha256
from kdprobe.models.checkpoint import LAST, read_info, read_tensors
from kdprobe.models.creation import ModelInfo, model_info, relabel
from kdprobe.models.foreign.embeddings import regridded
from kdprobe.models.foreign.loading import argument_sets, groups_in, probe, split_key
from kdprobe.models.foreign.misfit import CLASSIFIERS, Place, classifiers_of, misfit
from kdprobe.models.foreign.places import fill, find_places, only_place, shapes_of
from kdprobe.models.foreign.published import is_timms, published
from kdprobe.models.foreign.weights import is_safetensors


@dataclass(frozen=True)
class Started:
    """A network that starts from weights.

    Attributes:
        model: the network, in training mode, with its `ModelInfo`.
        sha256: sha256 of the weights file; None of a network that does not start from one.
        note: a sentence about what was taken.
    """

    model: nn.Module
    sha256: str | None = None
    note: str = ""


def start_from(
    spec: str, build: "partial[nn.Module]", *, args: Mapping[str, Any] | None = None, classes: Sequence[str] = ()
) -> Started:
    """Build a network and give it the tensors of a weights file.

    Every tensor outside the classifier comes from the file, or the file is refused. The classifier comes from it too if
    it has as many classes, and the same ones where the file names them; else it is new. Position embeddings of another
    image size are resampled. A CIFAR ResNet gets the kind of shortcuts that the file has, unless `args` says which.

    Args:
        spec: FILE or FILE#KEY, in safetensors or torch's format; or a run folder, for its last epoch.
        build: `create` with everything but `args`.
        args: further arguments of the network's constructor.
        classes: names of the classes that are to be learnt.

    Raises:
        CheckpointError: if the file is missing or damaged, would run code, is of another network, or holds several.
        ModelError: as `create`.
    """
    path, key = split_key(spec)
    path = path / LAST if path.is_dir() else path
    groups, info = groups_in(path, key), _info(path)
    differ = bool(info and info.classes and classes and tuple(info.classes) != tuple(classes))
    first: tuple[nn.Module, list[Place]] | None = None
    for arguments in argument_sets(build.args[0], dict(args or {})):
        one = partial(build, args=arguments)
        model = one()
        adapt = partial(_adapted, model=model, head=_head_names(model, one), new=differ)
        places = [_without_classifiers(place) for place in find_places(shapes_of(model), groups, adapt=adapt)]
        first = first or (model, places)
        if any(place.fits for place in places):
            place = only_place(places, groups, path, key)
            fill(model, place, path)
            return Started(_normalising(model, info), sha256(path), f"starts from {spec}: {'; '.join(place.changes)}")
    assert first is not None
    raise CheckpointError(misfit(path, groups, *first))


def _info(path: Path) -> ModelInfo | None:
    """What one of our checkpoints says of its network, once it is known to be whole; None of other files."""
    if not path.is_file() or not is_safetensors(path):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            ours = "kdprobe" in (file.metadata() or {})
    except Exception:  # whatever a damaged header makes safetensors raise; reading the tensors says it
        return None
    if not ours:
        return None
    read_tensors(path)
    return read_info(path)


def _head_names(model: nn.Module, build: "partial[nn.Module]") -> set[str]:
    """Names of a classifier's tensors: those whose shapes depend on the number of classes, and its neighbours."""
    with torch.random.fork_rng(devices=[]):
        other = probe(build, model_info(model).image_size)
    state, layers = model.state_dict(), classifiers_of(model)
    changed = {name for name, shape in other.items() if name not in state or tuple(state[name].shape) != shape}
    return changed | {name for name in state if name.rpartition(".")[0] in layers}


def _adapted(
    below: dict[str, Tensor], *, model: nn.Module, head: Collection[str], new: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """A file's tensors as the network takes them, with its own new classifier where theirs is of no use; what was done.

    Args:
        below: the file's tensors, by the network's names.
        model: the network.
        head: names of its classifier's tensors, also of one that it has not got.
        new: whether its classifier is to be new in any case.
    """
    state = model.state_dict()
    if not any(name in state and name not in head for name in below):
        return below, []
    below, grids = regridded(below, model)
    ours = [name for name in state if name in head]
    said = [f"position embeddings resampled {grid}" for grid in dict.fromkeys(grids.values())]
    n_classes = model_info(model).n_classes
    if not new and ours and all(name in below and below[name].shape == state[name].shape for name in ours):
        return below, [f"all of it, with its classifier of {n_classes} classes", *said]
    parents = {name.rpartition(".")[0] for name in head} | set(CLASSIFIERS)
    old = [name for name in below if name in head or (name not in state and name.rpartition(".")[0] in parents)]
    kept = {name: tensor for name, tensor in below.items() if name not in old}
    what = "all but its classifier" if old else "all of it, which has no classifier"
    head_said = [f"a new classifier of {n_classes} classes"] if ours else []
    return {**kept, **{name: state[name] for name in ours}}, [what, *head_said, *said]


def _without_classifiers(place: Place) -> Place:
    """The same place; a classifier beside it is left out like one in it."""
    beside = [name for name in place.beside if name.rpartition(".")[0] not in CLASSIFIERS]
    return replace(place, beside=beside)


def _normalising(model: nn.Module, info: ModelInfo | None) -> nn.Module:
    """The network with the mean and std that its weights were trained with, where these are known."""
    name = model_info(model).name
    known: Any = info or (published(name) if is_timms(name) else None)
    return model if known is None else relabel(model, mean=tuple(known.mean), std=tuple(known.std))
