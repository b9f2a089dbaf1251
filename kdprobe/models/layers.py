"""Choosing layers: by name, by glob, by group, or as modules."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from kdprobe.errors import CaptureError, near_matches

_GROUPS = ("stages", "leaves", "all")
Layers = str | nn.Module | Sequence[str | nn.Module]


@dataclass(frozen=True)
class Selection:
    """Chosen layers.

    Attributes:
        names: in the order of `named_modules`; a chosen single call keeps its `#number`.
        needed: those that must run and give one row per image: stages, and layers chosen by name.
        wide: the names that each glob and group chose.
    """

    names: tuple[str, ...]
    needed: frozenset[str]
    wide: dict[str, tuple[str, ...]]


def as_choices(model: nn.Module, layers: Layers) -> list[str]:
    """Layers as words; modules as their names.

    Raises:
        CaptureError: for a module that is not part of the network, and for anything that is neither text nor module.
    """
    names: dict[int, str] = {id(module): name for name, module in model.named_modules() if name}
    choices = []
    for one in [layers] if isinstance(layers, str | nn.Module) else layers:
        if isinstance(one, nn.Module) and id(one) not in names:
            raise CaptureError(f"the {type(one).__name__} given as a layer is not part of {type(model).__name__}")
        if not isinstance(one, str | nn.Module):
            raise CaptureError(f"a layer is a name or a module of the network, but is {type(one).__name__}")
        choices.append(names[id(one)] if isinstance(one, nn.Module) else one)
    return choices


def select(model: nn.Module, choices: Sequence[str], stages: Sequence[str] | None) -> Selection:
    """Resolve choices to module names.

    Args:
        model: the network, unwrapped.
        choices: names, globs and groups; `!` in front leaves out.
        stages: the layers that `stages` stands for; None while they are not known.

    Raises:
        CaptureError: if a name or glob matches nothing, with near matches, or if nothing remains.
    """
    names = [name for name, _ in model.named_modules() if name]
    every = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    chosen: dict[str, bool] = {}
    wide: dict[str, tuple[str, ...]] = {}
    for choice in choices:
        found = _matching(choice.removeprefix("!"), names, every, model, stages)
        if choice.startswith("!"):
            for name in found:
                chosen.pop(name, None)
        else:
            needed = choice == "stages" or choice in found
            chosen.update({name: needed or chosen.get(name, False) for name in found})
            if not needed:
                wide[choice] = tuple(found)
    if not chosen and (stages is not None or "stages" not in choices):
        raise CaptureError(f"no layer is chosen by {list(choices)}{near_matches('', names)}")
    position = {name: index for index, name in enumerate(every)}
    ordered = tuple(sorted(chosen, key=lambda name: (position[module_name(name)], name)))
    return Selection(ordered, frozenset(name for name, needed in chosen.items() if needed), wide)


def _matching(
    choice: str, names: list[str], every: list[str], model: nn.Module, stages: Sequence[str] | None
) -> list[str]:
    if choice == "stages":
        return list(stages or ())
    if choice == "leaves":
        return [name for name in names if is_leaf(model.get_submodule(name))]
    if choice == "all":
        return names
    if choice in every or module_name(choice) in every:
        return [choice]
    found = [name for name in names if fnmatchcase(name, choice)] if _is_glob(choice) else []
    if not found:
        raise CaptureError(f"no layer {choice!r} in {type(model).__name__}{near_matches(choice, [*names, *_GROUPS])}")
    return found


def is_leaf(module: nn.Module) -> bool:
    """Whether it has no children and does more than pass its input on, as identities and inactive dropouts do."""
    hands_on = isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd) or type(module).__name__ == "DropPath"
    return not hands_on and not any(module.children())


def _is_glob(choice: str) -> bool:
    return any(sign in choice for sign in "*?[")


def module_name(layer: str) -> str:
    """A layer's name without the number of a call."""
    return re.sub(r"#\d{1,9}$", "", layer)


def call_number(layer: str) -> int | None:
    """The number of a call that a layer's name ends with."""
    call = re.search(r"#(\d{1,9})$", layer)
    return int(call[1]) if call else None


def other_names(model: nn.Module) -> dict[str, str]:
    """For modules with several names: each further name, with the first one."""
    first: dict[int, str] = {}
    return {
        name: one
        for name, module in model.named_modules(remove_duplicate=False)
        if (one := first.setdefault(id(module), name)) != name
    }
