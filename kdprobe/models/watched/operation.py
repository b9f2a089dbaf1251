"""An operation of torch, as a watched forward pass sees it, and what its rules share."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from kdprobe.models.watched.axes import PREFIX, TOKEN, UNKNOWN, Axes, Meaning, fresh, label, size, unknown


class Operation(NamedTuple):
    """A call of a function of torch.

    Attributes:
        name: name of the function or method.
        args: arguments as given.
        kwargs: keyword arguments as given.
        entered: tensors that depend on the images, with their meaning and their shape before the operation.
        role: tells the kind of token that a tensor is which does not depend on the images; None if it is none.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    entered: tuple[tuple[Tensor, Meaning, tuple[int, ...]], ...]
    role: Callable[[Tensor], str | None]

    def option(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by place or name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)


def role_of(name: str) -> str:
    """The kind of a token whose parameter has this name: class, distillation, register or other."""
    last = name.rpartition(".")[2].lower()
    kinds = (("class", r"cls|class"), ("distillation", "dist"), ("register", "reg(?!r?ess)|storage"))
    return next((kind for kind, pattern in kinds if re.search(pattern, last)), "other")


def with_prefix(axes: Axes, candidates: Sequence[Meaning]) -> Meaning:
    """The prefix comes with the axis that has it; two that differ contradict each other."""
    of = [m for m in candidates if any(label(axis) in (TOKEN, PREFIX) and axis in m.axes for axis in axes)]
    others = [m for m in candidates if m not in of and any(label(axis) == TOKEN for axis in m.axes)]
    kept = of[0] if of else Meaning(axes)
    if any(m.prefix != kept.prefix for m in others if any(size(a) in map(size, m.axes) for a in axes)):
        axes = tuple(fresh(UNKNOWN, size(axis)) if label(axis) == TOKEN else axis for axis in axes)
    return Meaning(axes, kept.prefix, kept.patches)


def first(operation: Operation) -> tuple[Meaning, tuple[int, ...]]:
    """Meaning and shape of the first tensor that depends on the images."""
    return operation.entered[0][1], operation.entered[0][2]


def is_first(operation: Operation) -> bool:
    """Whether the first argument is one that depends on the images."""
    return bool(operation.args) and operation.args[0] is operation.entered[0][0]


def is_in_place(function: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a function of torch writes its result into its first argument."""
    name = str(getattr(function, "__name__", ""))
    if name.startswith("__"):
        return name.startswith("__i") and name not in ("__index__", "__int__", "__invert__", "__iter__")
    return name.endswith("_") or bool(kwargs.get("inplace"))


def nothing(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """Nothing is known of the results."""
    return [Meaning(unknown(one.shape)) for one in made]


def kept(meaning: Meaning, axes: Axes) -> Meaning:
    """With these axes; without the prefix where they have none."""
    if any(label(axis) in (TOKEN, PREFIX) or any(a.label == TOKEN for a in axis) for axis in axes):
        return meaning._replace(axes=axes)
    return meaning._replace(axes=axes, prefix=(), patches=())
