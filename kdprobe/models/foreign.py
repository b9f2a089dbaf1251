"""Weights from elsewhere in a network of a known name: every tensor comes from the file, or the file is refused.

The network is looked for wherever it stands in the file: below keys (`state_dict`, `model`), below the beginnings that
wrappers give to names (`module.`, `backbone.`). Anything else in the file must be known to be harmless; if there is
more than one network, or something unknown besides it, `FILE#KEY` says what is meant.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from kdprobe.data.dataset import IMAGENET_MEAN, IMAGENET_STD
from kdprobe.data.sources.cifar import STATISTICS
from kdprobe.errors import CheckpointError, KdprobeError, ModelError, near_matches
from kdprobe.files import sha256
from kdprobe.formats.parsing import parsing
from kdprobe.models.cifar import CIFAR_NAMES
from kdprobe.models.creation import attach, create, model_info
from kdprobe.models.identity import tensors_sha256
from kdprobe.models.misfit import CLASSIFIERS, Place, listed, misfit
from kdprobe.models.weights import Groups, chosen, read_groups, refuse_broken

#: tensors that networks compute themselves, or that tools leave beside weights
_HARMLESS = re.compile(
    r"(?:^|\.)(?:n_averaged|num_batches_tracked|total_ops|total_params|relative_position_index|attn_mask|mask_token)$"
)
#: keys of what a training keeps besides networks
_TRAINING = re.compile(
    r"(?:^|[._])(?:opt|optim\w*|sched\w*|lr|scaler|amp|rng|random|callbacks?|loops?|loss\w*|criterion|metrics?|hyper\w*|args?"
    r"|config\w*|cfg|history)(?:$|[._])"
)
_PROBE = 1013  # a number of classes that no layer has by chance
_SHOWN = 6


def load_foreign(
    spec: str,
    name: str,
    *,
    n_classes: int | None = None,
    image_size: int | None = None,
    default_size: int | None = None,
    args: Mapping[str, Any] | None = None,
    named_by: str | Path | None = None,
) -> nn.Module:
    """A network of that name with the weights of a file.

    Args:
        spec: FILE or FILE#KEY.
        name: name of the network.
        n_classes: number of classes; read from the file if not given; 0 for a network without classifier.
        image_size: input side; that of the file's position embeddings, where they show it, if not given.
        default_size: input side where neither shows it; that of the published weights, or 32, if not given.
        args: further arguments of the constructor.
        named_by: as `create` takes it.

    Raises:
        CheckpointError: if the file does not hold this network and nothing else that matters.
        ModelError: for an unknown name.
    """
    path, key = split_key(spec)
    groups = read_groups(path) if key is None else _below(read_groups(path), key, path)
    config = published(name) if timm.is_model(name.partition(".")[0]) else None
    mean, std = (config.mean, config.std) if config else (IMAGENET_MEAN, IMAGENET_STD)
    size = image_size or default_size or (config.input_size[-1] if config else 32)
    build = partial(create, name, mean=mean, std=std, named_by=named_by)
    first: tuple[nn.Module, list[Place]] | None = None
    for arguments in _argument_sets(name, dict(args or {})):
        classes, model, places = _attempt(partial(build, args=arguments), groups, n_classes, size, (path, key))
        first = first or (model, places)
        if not any(place.fits for place in places):
            model, places = _at_its_size(partial(build, n_classes=classes, args=arguments), model, places, groups, path)
        if any(place.fits for place in places):
            _check_size(model, image_size, path)
            place = _only(places, groups, path, key)
            _fill(model, place, path)
            info = model_info(model)
            if name in CIFAR_NAMES:
                mean, std = STATISTICS.get(info.n_classes, (mean, std))
            digest = sha256(path) if key is None else tensors_sha256(model.state_dict())
            return attach(model, replace(info, mean=tuple(mean), std=tuple(std), sha256=digest))
    assert first is not None
    raise CheckpointError(misfit(path, groups, *first))


def split_key(spec: str) -> tuple[Path, str | None]:
    """FILE and KEY of FILE#KEY; no KEY if a file has the whole name."""
    file, mark, key = spec.rpartition("#")
    return (Path(spec), None) if not mark or Path(spec).exists() else (Path(file), key)


def published(name: str) -> Any:
    """What timm says of a network's published weights; None where it has none.

    Raises:
        ModelError: for an unknown tag.
    """
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ModelError(
            f"no timm model {name!r}{near_matches(name, timm.list_pretrained(name.partition('.')[0] + '.*'))}"
        ) from error


def _below(groups: Groups, key: str, path: Path) -> Groups:
    """What FILE#KEY means; without a key, the outermost tensors."""
    return chosen(groups, key, path) if key else {"": groups.get("", {})}


def _argument_sets(name: str, args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the constructor is tried with: CIFAR networks of the literature have either kind of shortcut."""
    yield args
    if name in CIFAR_NAMES and "shortcut" not in args:
        yield {**args, "shortcut": "A"}


def _attempt(
    build: "partial[nn.Module]", groups: Groups, n_classes: int | None, size: int, named: tuple[Path, str | None]
) -> tuple[int, nn.Module, list[Place]]:
    """The number of classes, a network with that many, and where in the file it may be, the best place first."""
    if n_classes is None:
        probe = _probe(build, size)
        names = [name for name, shape in probe.items() if shape and shape[0] == _PROBE]
        places = _places(probe, groups, names)
        if [place.fits for place in places[:2]] == [True, True]:
            _only(places, groups, *named)  # which refuses several networks
        held = [place.tensors[name] for place in places[:1] for name in names[:1] if name in place.tensors]
        n_classes = next((tensor.shape[0] for tensor in held if tensor.ndim and len(tensor)), 1000)
    model = build(n_classes=n_classes, image_size=size)
    return n_classes, model, _places({name: tuple(t.shape) for name, t in model.state_dict().items()}, groups)


def _probe(build: "partial[nn.Module]", size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a network with a classifier that stands out; without values, if it can be built that way."""
    try:
        with torch.device("meta"):
            model = build(n_classes=_PROBE, image_size=size)
    except Exception as error:
        if isinstance(error, KdprobeError) and not isinstance(error, ModelError):
            raise
        model = build(n_classes=_PROBE, image_size=size)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _places(shapes: Mapping[str, tuple[int, ...]], groups: Groups, of_any_width: Sequence[str] = ()) -> list[Place]:
    """The places in a file where names of the network are found, the best place first.

    Args:
        shapes: shapes of the network's tensors.
        groups: the file's tensors.
        of_any_width: names whose first dimension does not matter.
    """
    found = []
    for group, tensors in groups.items():
        prefixes = {name[: match.end()] for name in tensors for match in re.finditer(r"\.", name)}
        for prefix in ("", *sorted(prefixes)):
            place = _place(shapes, group, prefix, tensors, of_any_width)
            if any(name in shapes for name in place.tensors):
                found.append(place)
    found.sort(
        key=lambda place: (not place.fits, len(place.missing) + len(place.surplus), len(place.shapes), place.key)
    )
    return found


def _place(
    shapes: Mapping[str, tuple[int, ...]],
    group: str,
    prefix: str,
    tensors: dict[str, Tensor],
    of_any_width: Sequence[str],
) -> Place:
    below = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    below = _respelled(below, shapes)

    def fits(name: str) -> bool:
        start = 1 if name in of_any_width else 0
        return below[name].shape[start:] == shapes[name][start:] and below[name].ndim == len(shapes[name])

    return Place(
        group,
        prefix,
        below,
        missing=[name for name in shapes if name not in below and not name.endswith("num_batches_tracked")],
        surplus=[name for name in below if name not in shapes and not _HARMLESS.search(name)],
        shapes=[name for name in shapes if name in below and not fits(name)],
        beside=[name for name in tensors if not name.startswith(prefix) and not _is_known(name)],
    )


def _respelled(below: dict[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """With the network's names for what the literature also calls otherwise: projecting shortcuts, the classifier."""
    if any(".downsample." in name for name in shapes) and not any(".downsample." in name for name in below):
        below = {name.replace(".shortcut.", ".downsample."): tensor for name, tensor in below.items()}
    missing = [name for name in shapes if name not in below and not name.endswith("num_batches_tracked")]
    surplus = [name for name in below if name not in shapes and not _HARMLESS.search(name)]
    ours, theirs = ({name.rpartition(".")[0] for name in names} for names in (missing, surplus))
    if len(ours) != 1 or len(theirs) != 1 or not theirs <= set(CLASSIFIERS) or not ours <= set(CLASSIFIERS):
        return below
    one, other = ours.pop(), theirs.pop()
    renamed = {f"{one}.{name.removeprefix(f'{other}.')}": below[name] for name in surplus}
    return {**{name: tensor for name, tensor in below.items() if name not in surplus}, **renamed}


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
        shown = _places({name: tuple(tensor.shape) for name, tensor in other.state_dict().items()}, groups)
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


def _check_size(model: nn.Module, image_size: int | None, path: Path) -> None:
    """Refuse another image size than the one that the file's position embeddings are of."""
    size = model_info(model).image_size
    if image_size not in (None, size):
        raise CheckpointError(
            f"{path} was trained at {size} px, as its position embeddings show, but image_size is {image_size}; give "
            f"image_size={size} (--image-size {size})"
        )


def _squares(*numbers: int) -> bool:
    return all(isqrt(number) ** 2 == number for number in numbers)


def _only(places: Sequence[Place], groups: Groups, path: Path, key: str | None) -> Place:
    """The one place that fits.

    Raises:
        CheckpointError: if there are several, or unknown tensors beside it.
    """
    fitting = [place for place in places if place.fits]
    others = [
        group for group, tensors in groups.items() if group != fitting[0].group and not _is_harmless(group, tensors)
    ]
    choices = [f"{path}#{'.'.join(filter(None, (key, place.key)))}" for place in fitting]
    if len(fitting) > 1:
        raise CheckpointError(
            f"{path} holds {len(fitting)} networks of this form; say which one is meant: "
            f"{' or '.join(choices[:_SHOWN])}"
        )
    if unknown := [*others, *fitting[0].beside]:
        where = f", whose tensors' names begin with {fitting[0].prefix!r}" if fitting[0].prefix else ""
        raise CheckpointError(
            f"{path} holds other tensors, {listed(unknown)}, besides the network{where}; {choices[0]} takes the "
            "network alone"
        )
    return fitting[0]


def _is_known(name: str) -> bool:
    """Whether a tensor is harmless by its name, or stands below that of a training's own part, such as its loss."""
    return bool(_HARMLESS.search(name) or _TRAINING.search(name.partition(".")[0].lower()))


def _is_harmless(group: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a mapping beside the network's is a training's own, or holds single numbers."""
    return bool(_TRAINING.search(group.lower())) or all(
        tensor.numel() <= 1 or _is_known(name) for name, tensor in tensors.items()
    )


def _fill(model: nn.Module, place: Place, path: Path) -> None:
    """Give the network its tensors; counters of batches, which evaluation does not need, may be missing."""
    state = model.state_dict()
    tensors = {name: place.tensors.get(name, old) for name, old in state.items()}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            what = "no values" if tensor.is_meta else "quantised" if tensor.is_quantized else "sparse"
            raise CheckpointError(f"{path} cannot be used: its {name!r} is {what}; save dense tensors with values")
        if tensor.is_floating_point() != state[name].is_floating_point() or tensor.is_complex():
            raise CheckpointError(f"{path} cannot be used: its {name!r} is of type {tensor.dtype}")
    refuse_broken(tensors, state, path)
    with parsing(path, CheckpointError, expected=f"weights of {model_info(model).name}"):
        model.load_state_dict(tensors)
