"""One forward pass of a few images, watched: what each module's output means, and where the network can be cut.

Every operation is seen by a `TorchFunctionMode`, which carries the meaning of axes along (`kdprobe.models.axes`) and
notes which operation needs what earlier ones made. A module's output is a *cut* if nothing behind it needs anything
that was made before it, other than through it: the rest of the network can be run from it alone.
"""

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from kdprobe.models.axes import BATCH, CHANNEL, COLUMN, ROW, UNKNOWN, Meaning, fresh, merged, unknown
from kdprobe.models.operation import Operation, role_of
from kdprobe.models.rules import derive

_MARK, _ROLE = "_kdprobe_meaning", "_kdprobe_role"
_state = threading.local()
_NO_DATA = ("_like", "new_", "size", "requires_grad")  # results that do not depend on the values of their arguments


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        name: the module's dotted name.
        number: which call of this module it is, from 1.
        shape: of the output that counts.
        meaning: of this output, None if nothing is known.
        entered: of the first input.
        composite: whether it is made of several layers.
        kind: its class.
    """

    name: str
    number: int
    shape: tuple[int, ...]
    meaning: Meaning | None
    entered: Meaning | None
    composite: bool
    kind: str


@dataclass(frozen=True)
class Trace:
    """What was seen.

    Attributes:
        calls: of modules, in the order in which they ended.
        bridged: for each operation, whether a later one needs what an earlier one made.
        failure: why nothing was seen.
    """

    calls: tuple[Call, ...]
    bridged: tuple[bool, ...]
    failure: str = ""

    def is_cut(self, call: Call) -> bool:
        """Whether all that runs behind it needs of the images only its output."""
        return call.meaning is not None and not self.bridged[call.meaning.born]

    def call(self, name: str, number: int) -> Call | None:
        """The call of this number of a module, None if it did not run as often."""
        return next((call for call in self.calls if call.name == name and call.number == number), None)


def trace(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Trace:
    """Run a network once without gradients, in evaluation mode, and note what its modules give.

    Args:
        model: the network; its modes are put back.
        args: of its call, with at least two rows per tensor, so that the axis of the images can be told.
        kwargs: of its call.
    """
    watch = _Watch(model)
    modes = [(module, module.training) for module in model.modules()]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        devices = {value.device.index for value in tensors_in([args, kwargs]) if value.device.type == "cuda"}
        stack.enter_context(torch.random.fork_rng(devices=sorted(devices)))  # a random network draws as without it
        stack.enter_context(warnings.catch_warnings(action="ignore"))  # the pass itself will warn
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_hook(watch.hook(name, module), with_kwargs=True).remove)
        n_images = max((len(value) for value in tensors_in([args, kwargs]) if value.ndim), default=0)
        for value in tensors_in([args, kwargs]):
            if value.ndim and len(value) == n_images:
                watch.enter(value)
        model.eval()
        _state.active = True
        try:
            with watch:
                model(*args, **kwargs)
        finally:
            _state.active = False
            for module, training in modes:
                module.training = training
    return watch.trace()


def is_watching() -> bool:
    """Whether this thread is inside a watched pass, which hooks of others need not look at."""
    return bool(getattr(_state, "active", False))


def few_images(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], n_images: int, count: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a call with the first `count` images alone, at least two rows: one image is shown twice."""

    def few(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.ndim or len(value) != n_images:
            return value
        return value[:count].detach().clone() if n_images > 1 else torch.cat([value, value]).detach()

    return tree_map(few, args), tree_map(few, dict(kwargs))


class _Watch(TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        self._roles = {id(value): role_of(name) for name, value in named}
        self._calls: list[Call] = []
        self._number: dict[str, int] = {}
        self._edges: list[tuple[int, int]] = []
        self._by_place: dict[tuple[Any, ...], Meaning | None] = {}
        self._now = 0
        self.n_images = 0

    def enter(self, value: Tensor) -> None:
        """Images, or other data, [B, ...]."""
        shape = value.shape
        self.n_images = len(value)
        rest = (CHANNEL, ROW, COLUMN) if value.ndim == 4 else (CHANNEL,) if value.ndim == 2 else ()
        labels = (BATCH, *(rest or (UNKNOWN,) * (value.ndim - 1)))
        self._mark(value, Meaning(tuple(fresh(one, n) for one, n in zip(labels, shape, strict=True))))

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = _name(function)
        operation = Operation(name, args, kwargs, tuple(self._entering(args, kwargs)), self._role)
        out = function(*args, **kwargs)  # in place, it changes what entered; its meaning was read before
        made = [one for one in tensors_in(out) if one.dtype != torch.bool]
        if not made or any(part in name for part in _NO_DATA):
            return out
        if operation.entered:
            self._now += 1
            self._edges += [(meaning.born, self._now) for _, meaning, _ in operation.entered]
            for one, meaning in zip(made, derive(operation, made), strict=True):
                self._mark(one, meaning._replace(born=self._now))
        else:
            role = next((role for value in tensors_in([args, kwargs]) if (role := self._role(value))), None)
            for one in made:
                setattr(one, _ROLE, role or "other")
                self._mark(one, None)
        return out

    def hook(self, name: str, module: nn.Module) -> Any:
        """For the module of this name."""
        composite = sum(1 for _ in module.modules()) > 1 and not _is_norm(module)

        def keep(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            tensors = [one for one in tensors_in(output) if one.is_floating_point()]
            known = [(value, meaning) for value in tensors_in([args, kwargs]) if (meaning := self._meaning(value))]
            self._see(known, tensors)
            self._number[name] = number = self._number.get(name, 0) + 1
            found = next((one for one in tensors if one.ndim and len(one) == self.n_images), next(iter(tensors), None))
            if found is not None:
                entered = known[0][1] if known else None
                kind = type(module).__name__
                self._calls.append(
                    Call(name, number, tuple(found.shape), self._meaning(found), entered, composite, kind)
                )

        return keep

    def _see(self, entered: list[tuple[Tensor, Meaning]], made: list[Tensor]) -> None:
        """What was made where the mode does not see it: in a scripted module or an `autograd.Function`."""
        for one in made:
            if not entered or self._meaning(one) is not None or self._role(one) is not None:
                continue
            self._now += 1
            self._edges += [(meaning.born, self._now) for _, meaning in entered]
            axes = [meaning.axes for value, meaning in entered if value.shape == one.shape]
            self._mark(one, Meaning(merged(axes, one.shape) if axes else unknown(one.shape), born=self._now))

    def _mark(self, value: Tensor, meaning: Meaning | None) -> None:
        setattr(value, _MARK, meaning)
        if (place := _place(value)) is not None:
            self._by_place[place] = meaning

    def _meaning(self, value: Tensor) -> Meaning | None:
        """Of a tensor, or of one that an `autograd.Function` has wrapped anew, as reentrant checkpoints do."""
        if hasattr(value, _MARK) or id(value) in self._roles:
            found = getattr(value, _MARK, None)
            return found if isinstance(found, Meaning) else None
        return self._by_place.get(_place(value) or ())

    def _entering(self, args: Any, kwargs: Any) -> Iterator[tuple[Tensor, Meaning, tuple[int, ...]]]:
        for value in tensors_in([args, kwargs]):
            meaning = self._meaning(value)
            if meaning is not None:
                yield value, meaning, tuple(value.shape)

    def _role(self, value: Tensor) -> str | None:
        return self._roles.get(id(value)) or getattr(value, _ROLE, None)

    def trace(self) -> Trace:
        """What was seen."""
        change = [0] * (self._now + 2)
        for first, last in self._edges:
            if last > first + 1:
                change[first + 1] += 1
                change[last] -= 1
        return Trace(tuple(self._calls), tuple(total > 0 for total in accumulate(change)))


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower() and hasattr(module, "weight")


def _name(function: Any) -> str:
    name = str(getattr(function, "__name__", ""))
    if name == "__get__":
        name = str(getattr(getattr(function, "__self__", None), "__name__", name))
    return name if name.startswith("__") else name.removeprefix("_").rstrip("_")


def _place(value: Tensor) -> tuple[Any, ...] | None:
    """Where the values of a tensor lie; None for one without values."""
    return (value.data_ptr(), value.shape, value.stride()) if value.data_ptr() else None


def tensors_in(values: Any) -> Iterator[Tensor]:
    """All tensors of nested sequences and mappings, in order."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from tensors_in(value)
    elif isinstance(values, tuple | list):
        for value in values:
            yield from tensors_in(value)
