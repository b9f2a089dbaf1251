"""Weights from elsewhere in a network of a known name: every tensor comes from the file, or the file is refused.

The network is looked for wherever it stands in the file: below keys (`state_dict`, `model`), below the beginnings that
wrappers give to names (`module.`, `backbone.`). Anything else in the file must be known to be harmless; if there is
more than one network, or something unknown besides it, `FILE#KEY` says what is meant.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.data.dataset import IMAGENET_MEAN, IMAGENET_STD
from kdprobe.data.sources.cifar import STATISTICS
from kdprobe.errors import CheckpointError, KdprobeError, ModelError
from kdprobe.files import sha256
from kdprobe.models.cifar import CIFAR_NAMES
from kdprobe.models.creation import attach, create, described_by, model_info
from kdprobe.models.foreign.embeddings import regridded, uncovered
from kdprobe.models.foreign.misfit import Place, misfit
from kdprobe.models.foreign.places import fill, find_places, only_place, shapes_of
from kdprobe.models.foreign.published import is_timms, published
from kdprobe.models.foreign.weights import Groups, chosen, read_groups
from kdprobe.models.identity import tensors_sha256

_PROBE = 1013  # a number of classes that no layer has by chance
_ASSUMED = (
    "nothing says how the input of {path} is standardised; it is done with ImageNet's {what}; if that is wrong, give "
    "mean and std (--mean, --std, or a training's teacher_facts), or describe it where it is built (kdprobe.describe)"
)


def load_foreign(
    spec: str,
    name: str,
    *,
    n_classes: int | None = None,
    image_size: int | None = None,
    default_size: int | None = None,
    args: Mapping[str, Any] | None = None,
    assumed: Sequence[str] = ("mean", "std"),
    named_by: str | Path | None = None,
) -> nn.Module:
    """A network of that name with the weights of a file.

    A warning says where nothing tells how its input is standardised, so that it is done as for ImageNet.

    Args:
        spec: FILE or FILE#KEY.
        name: name of the network.
        n_classes: number of classes; read from the file if not given; 0 for a network without classifier.
        image_size: input side, for which position embeddings of another size are resampled, as a remark then says; that
            of the file's position embeddings, where they show it, if not given.
        default_size: input side where neither shows it; that of the published weights, or 32, if not given.
        args: further arguments of the constructor.
        assumed: which of `mean` and `std` are not given otherwise, so that ImageNet's are assumed.
        named_by: as `create` takes it.

    Raises:
        CheckpointError: if the file does not hold this network and nothing else that matters.
        ModelError: for an unknown name.
    """
    path, key = split_key(spec)
    groups = groups_in(path, key)
    config = published(name) if is_timms(name) else None
    own = described_by(name, n_classes=n_classes or 1000, args=dict(args or {}), named_by=named_by)
    known = config or own
    mean, std = (known.mean, known.std) if known else (IMAGENET_MEAN, IMAGENET_STD)
    size = image_size or default_size or (config.input_size[-1] if config else own.image_size if own else 32)
    build = partial(create, name, mean=mean, std=std, named_by=named_by)
    first: tuple[nn.Module, list[Place]] | None = None
    for arguments in argument_sets(name, dict(args or {})):
        classes, model, places = _attempt(partial(build, args=arguments), groups, n_classes, size, (path, key))
        first = first or (model, places)
        if not any(place.fits for place in places) and image_size is not None:
            places = _at_given_size(model, groups)
        elif not any(place.fits for place in places):
            model, places = _at_its_size(partial(build, n_classes=classes, args=arguments), model, places, groups, path)
        if any(place.fits for place in places):
            place = only_place(places, groups, path, key)
            fill(model, place, path)
            info = model_info(model)
            cifars = STATISTICS.get(info.n_classes) if name in CIFAR_NAMES else None
            mean, std = cifars or (mean, std)
            if assumed and not (known or cifars):
                warnings.warn(_ASSUMED.format(path=path, what=" and ".join(assumed)), UserWarning, stacklevel=3)
            digest = sha256(path) if key is None else tensors_sha256(model.state_dict())
            done = f"position embeddings of {path} are resampled {'; '.join(place.changes)}" if place.changes else ""
            done += f"; {edge}" if done and (edge := uncovered(model, info.image_size)) else ""
            return attach(model, replace(info, mean=tuple(mean), std=tuple(std), sha256=digest, remark=done))
    assert first is not None
    raise CheckpointError(misfit(path, groups, *first))


def split_key(spec: str) -> tuple[Path, str | None]:
    """FILE and KEY of FILE#KEY; no KEY if a file has the whole name."""
    file, mark, key = spec.rpartition("#")
    return (Path(spec), None) if not mark or Path(spec).exists() else (Path(file), key)


def groups_in(path: Path, key: str | None) -> Groups:
    """The tensors that FILE, or FILE#KEY, means; those of an empty KEY are the outermost.

    Raises:
        CheckpointError: as `read_groups` and `chosen`.
    """
    groups = read_groups(path)
    if key is None:
        return groups
    return chosen(groups, key, path) if key else {"": groups.get("", {})}


def argument_sets(name: str, args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the constructor is tried with: CIFAR networks of the literature have either kind of shortcut."""
    yield args
    if name in CIFAR_NAMES and "shortcut" not in args:
        yield {**args, "shortcut": "A"}


def _attempt(
    build: "partial[nn.Module]", groups: Groups, n_classes: int | None, size: int, named: tuple[Path, str | None]
) -> tuple[int, nn.Module, list[Place]]:
    """The number of classes, a network with that many, and where in the file it may be, the best place first."""
    if n_classes is None:
        shapes = probe(build, size)
        names = [name for name, shape in shapes.items() if shape and shape[0] == _PROBE]
        places = find_places(shapes, groups, names)
        if [place.fits for place in places[:2]] == [True, True]:
            only_place(places, groups, *named)  # which refuses several networks
        held = [place.tensors[name] for place in places[:1] for name in names[:1] if name in place.tensors]
        n_classes = next((tensor.shape[0] for tensor in held if tensor.ndim and len(tensor)), 1000)
    model = build(n_classes=n_classes, image_size=size)
    return n_classes, model, find_places(shapes_of(model), groups)


def probe(build: "partial[nn.Module]", size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a network with a classifier that stands out; without values, if it can be built that way."""
    try:
        with torch.device("meta"):
            model = build(n_classes=_PROBE, image_size=size)
    except Exception as error:
        if isinstance(error, KdprobeError) and not isinstance(error, ModelError):
            raise
        model = build(n_classes=_PROBE, image_size=size)
    return shapes_of(model)


def _at_its_size(
    build: "partial[nn.Module]", model: nn.Module, places: list[Place], groups: Groups, path: Path
) -> tuple[nn.Module, list[Place]]:
    """The network at the image size that the file's position embeddings are of, if that fits; else as it was.

    Raises:
        CheckpointError: if it fits, but the embeddings may be of images that are not square as well.
    """
    for size, patches in _sizes(model, places).items():
        try:
            other = build(image_size=size)
        except ModelError:
            continue
        shown = find_places(shapes_of(other), groups)
        if any(place.fits for place in shown):
            if any(patches % side == 0 for side in range(2, isqrt(patches))):
                raise CheckpointError(
                    f"{path} was not trained at {model_info(model).image_size} px: its position embeddings are for "
                    f"{patches} patches; if its images were square, give image_size={size} (--image-size {size}); "
                    "networks for other images cannot be used here"
                )
            return other, shown
    return model, places


def _sizes(model: nn.Module, places: list[Place]) -> dict[int, int]:
    """Image sizes at which a network's position embeddings might have the shapes that the best place's have.

    Of each the number of patches where they stand in one row, whose rows and columns no shape shows; else 0.
    """
    if not places or places[0].missing or places[0].surplus:
        return {}
    state, size, found = model.state_dict(), model_info(model).image_size, dict[int, int]()
    for name in places[0].shapes:
        ours, theirs = tuple(state[name].shape), tuple(places[0].tensors[name].shape)
        pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if a != b]
        if len(ours) != len(theirs) or len(set(pairs)) != 1 or "pos" not in name:
            continue
        one, other = pairs[0]
        sides = [(one, other, 0)] if len(pairs) == 2 else []
        for n in range(min(one, other, 9)):
            if _squares(one - n, other - n):
                sides.append((isqrt(one - n), isqrt(other - n), other - n))
        for a, b, patches in sides:
            if a and b and size * b % a == 0:
                found.setdefault(size * b // a, patches)
    return found


def _at_given_size(model: nn.Module, groups: Groups) -> list[Place]:
    """Where the network is if position embeddings of another image size are resampled."""

    def adapt(below: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        tensors, grids = regridded(below, model)
        return tensors, list(dict.fromkeys(grids.values()))

    return find_places(shapes_of(model), groups, adapt=adapt)


def _squares(*numbers: int) -> bool:
    return all(isqrt(number) ** 2 == number for number in numbers)
