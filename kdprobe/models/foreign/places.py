"""Where a network's tensors stand in a file from elsewhere, and putting them into the network."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from kdprobe.errors import CheckpointError
from kdprobe.formats.parsing import parsing
from kdprobe.models.creation import model_info
from kdprobe.models.foreign.misfit import CLASSIFIERS, Place, listed
from kdprobe.models.foreign.weights import Groups, refuse_broken

#: tensors that networks compute themselves, or that tools leave beside weights
_HARMLESS = re.compile(
    r"(?:^|\.)(?:n_averaged|num_batches_tracked|total_ops|total_params|relative_position_index|attn_mask|mask_token)$"
)
#: keys of what a training keeps besides networks
_TRAINING = re.compile(
    r"(?:^|[._])(?:opt|optim\w*|sched\w*|lr|scaler|amp|rng|random|callbacks?|loops?|loss\w*|criterion|metrics?|hyper\w*|args?"
    r"|config\w*|cfg|history)(?:$|[._])"
)
_SHOWN = 6


#: a file's tensors, by the network's names, as the network takes them; and in words what was done to them
Adapt = Callable[[dict[str, Tensor]], tuple[dict[str, Tensor], list[str]]]


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of a network's tensors, by their names."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def find_places(
    shapes: Mapping[str, tuple[int, ...]],
    groups: Groups,
    of_any_width: Sequence[str] = (),
    *,
    adapt: Adapt = lambda tensors: (tensors, []),
) -> list[Place]:
    """The places in a file where names of the network are found, the best place first.

    Args:
        shapes: shapes of the network's tensors.
        groups: the file's tensors.
        of_any_width: names whose first dimension does not matter.
        adapt: what is done to the tensors of a place before they are compared.
    """
    found = []
    for group, tensors in groups.items():
        prefixes = {name[: match.end()] for name in tensors for match in re.finditer(r"\.", name)}
        for prefix in ("", *sorted(prefixes)):
            place = _place(shapes, group, prefix, tensors, of_any_width, adapt)
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
    adapt: Adapt,
) -> Place:
    below = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    below, changes = adapt(_respelled(below, shapes))
    compared = {name: (below[name].shape, shapes[name], int(name in of_any_width)) for name in shapes if name in below}
    return Place(
        group,
        prefix,
        below,
        missing=[name for name in shapes if name not in below and not name.endswith("num_batches_tracked")],
        surplus=[name for name in below if name not in shapes and not _HARMLESS.search(name)],
        shapes=[
            name
            for name, (found, wanted, start) in compared.items()
            if len(found) != len(wanted) or found[start:] != wanted[start:]
        ],
        beside=[name for name in tensors if not name.startswith(prefix) and not _is_known(name)],
        changes=changes,
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


def only_place(places: Sequence[Place], groups: Groups, path: Path, key: str | None) -> Place:
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


def fill(model: nn.Module, place: Place, path: Path) -> None:
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
