"""A watched forward pass of a few images: what each module's output means, and where the network can be cut.

A `TorchFunctionMode` sees every operation, carries the meaning of axes along (`kdprobe.models.watched.axes`) and notes
which operation uses the results of which earlier one. A module's output is a *cut* if nothing after it uses anything
from before it except through it: the rest of the network can be run from it alone.
"""

import threading
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from kdprobe.models.watched.axes import BATCH, CHANNEL, COLUMN, ROW, UNKNOWN, Meaning, fresh, merged, unknown
from kdprobe.models.watched.lineage import counting, origin
from kdprobe.models.watched.operation import Operation, is_in_place, role_of
from kdprobe.models.watched.rules import derive
from kdprobe.models.watched.samples import copied, images_in, is_list, tensors_in

_MARK, _ROLE = "_kdprobe_meaning", "_kdprobe_role"
_state = threading.local()
_OF_MODULES = frozenset(vars(nn.Module()))
_NO_DATA = ("_like", "new_", "size", "requires_grad")  # results that do not depend on the values of their arguments


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        name: the module's dotted name.
        number: the number of this call of the module, from 1.
        shape: shape of the output that counts.
        meaning: meaning of that output; None if nothing is known.
        entered: meaning of the first input.
        composite: whether the module is made of several layers.
        kind: the module's class.
        place: place of that output among the floating tensors of an output of several.
        rivals: shapes of several tensors between which nothing decides.
        overwritten: whether a later operation changes that output in place.
    """

    name: str
    number: int
    shape: tuple[int, ...]
    meaning: Meaning | None
    entered: Meaning | None
    composite: bool
    kind: str
    place: int = 0
    rivals: tuple[tuple[int, ...], ...] = ()
    overwritten: bool = False

    @property
    def label(self) -> str:
        """Its name as the call of a layer that has several."""
        return f"{self.name}#{self.number}"

    @property
    def moves_alone(self) -> bool:
        """Whether it only moves, pads, cuts or resizes its input."""
        return self.meaning is not None and self.entered is not None and self.meaning.worked <= self.entered.worked


@dataclass(frozen=True)
class Trace:
    """What was seen.

    Attributes:
        calls: calls of modules, in the order in which they ended.
        bridged: for each operation, whether a later one uses what an earlier one made.
        failure: why nothing was seen.
        n_images: number of images shown.
        heads: layers whose values are the network's output, so that their maps are logits of places.
        output: what the network gave.
    """

    calls: tuple[Call, ...]
    bridged: tuple[bool, ...]
    failure: str = ""
    n_images: int = 0
    heads: frozenset[int] = frozenset()
    output: Any = None

    def is_cut(self, call: Call) -> bool:
        """Whether everything that runs after it depends on the images through its output alone."""
        return call.meaning is not None and not self.bridged[call.meaning.born]

    def is_head(self, call: Call) -> bool:
        """Whether its output is the network's own, before a mean or a resize."""
        return call.meaning is not None and bool(call.meaning.heads & self.heads)

    def call(self, name: str, number: int) -> Call | None:
        """A module's call with this number; None if it did not run that often."""
        return self._by_number.get((name, number))

    @cached_property
    def _by_number(self) -> dict[tuple[str, int], Call]:
        return {(call.name, call.number): call for call in self.calls}

    def has_images_first(self, name: str, number: int, shape: tuple[int, ...], n_images: int) -> bool:
        """Whether the first dimension of an output, which has the size of the number of images, is that of the images.

        If the call was not seen, a shape that looks like [positions, images, d] does not count.
        """
        call = self.call(name, number)
        if call is not None and call.shape[:1] != (self.n_images,):
            return False
        if call is not None and (self.n_images != n_images or n_images == 1):
            return True
        labels = call.meaning.labels if call is not None and call.meaning is not None else ()
        if BATCH in labels:
            return labels[0] == BATCH
        return n_images == 1 or len(shape) != 3 or shape[1] != n_images


def trace(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], call: Any = None) -> Trace:
    """Run a network once without gradients, in evaluation mode, and note what its modules give.

    It gets copies of its arguments, as some networks overwrite them.

    Args:
        model: the network; its modes, buffers and attributes are put back.
        args: arguments of its call, with at least two rows per tensor, so that the axis of the images is recognised.
        kwargs: keyword arguments of its call.
        call: what is called with them and runs the network; the network itself if not given.
    """
    watch, (args, kwargs) = _Watch(model), copied((args, dict(kwargs)))
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        devices = {value.device.index for value in tensors_in([args, kwargs]) if value.device.type == "cuda"}
        stack.enter_context(torch.random.fork_rng(devices=sorted(devices)))  # a random network draws as without it
        stack.enter_context(warnings.catch_warnings(action="ignore"))  # the pass itself will warn
        stack.callback(_put_back, [_state_of(module) for module in model.modules()])
        for name, module in model.named_modules():
            if name:
                before, after = partial(watch.before, name), partial(watch.after, name, _is_composite(module))
                stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        n_images = images_in(args, kwargs, most=True)
        watch.n_images = n_images or 0
        listed = [one for value in [*args, *kwargs.values()] if is_list(value) for one in value]
        for value in tensors_in([args, kwargs]):
            if any(value is one for one in listed):
                watch.enter(value, alone=True)
            elif value.ndim and len(value) == n_images:
                watch.enter(value)
        model.eval()
        _state.active = True
        try:
            with watch:
                output = (call or model)(*args, **kwargs)
        finally:
            _state.active = False
        return watch.trace(output)


@dataclass(frozen=True)
class _Kept:
    """What a forward pass may change in a module: attributes, such as counters, buffers, such as queues, and lists.

    Attributes:
        module: of these.
        training: its mode.
        attributes: by name.
        buffers: by name.
        inside: tensors, lists, dictionaries, sets and queues of both, each with a copy of what it holds.
    """

    module: nn.Module
    training: bool
    attributes: dict[str, Any]
    buffers: dict[str, Tensor | None]
    inside: list[tuple[Any, Any]]


def _state_of(module: nn.Module) -> _Kept:
    lazy = hasattr(module, "_initialize_hook")  # its first pass makes its parameters, which stay
    if lazy or isinstance(module, torch.jit.ScriptModule):
        return _Kept(module, module.training, {}, {}, [])
    own = [value for name, value in vars(module).items() if name not in _OF_MODULES]
    buffers = dict(module._buffers)
    inside = [(one, one.detach().clone() if isinstance(one, Tensor) else copy(one)) for one in _within([own, buffers])]
    return _Kept(module, module.training, dict(vars(module)), buffers, inside)


def _within(values: Any, seen: dict[int, Any] | None = None) -> Iterator[Any]:
    """Tensors other than parameters, and containers, of nested containers; each once, the outer ones first."""
    seen = {} if seen is None else seen
    for value in _members(values):
        if id(value) in seen or isinstance(value, nn.Parameter):
            continue
        if isinstance(value, Tensor | list | dict | set | deque):
            seen[id(value)] = value
            yield from tensors_in(value) if isinstance(value, Tensor) else [value]
        if isinstance(value, tuple | list | dict | set | deque):
            yield from _within(value, seen)


def _put_back(kept: list[_Kept]) -> None:
    for one in kept:
        one.module.training = one.training
        if not one.attributes:
            continue
        for name in set(vars(one.module)) - set(one.attributes):
            del vars(one.module)[name]
        vars(one.module).update(one.attributes)
        one.module._buffers.clear()
        one.module._buffers.update(one.buffers)
        for held, before in one.inside:
            if isinstance(held, Tensor):
                if held.shape == before.shape and not torch.equal(held, before):
                    held.copy_(before)
            elif [*map(id, _members(held))] != [*map(id, _members(before))]:
                held.clear()
                held.extend(before) if isinstance(held, list | deque) else held.update(before)


def _members(container: Any) -> list[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else [*container]


def is_watching() -> bool:
    """Whether this thread is inside a watched pass, which other hooks can ignore."""
    return bool(getattr(_state, "active", False))


class _Watch(TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        self._roles = {id(value): role_of(name) for name, value in named}
        self._calls: list[Call] = []
        self._number: dict[str, int] = {}
        self._entered: dict[str, list[Meaning | None]] = {}
        self._edges: list[tuple[int, int]] = []
        self._written: set[int] = set()
        self._by_place: dict[tuple[Any, ...], tuple[StorageWeakRef, Meaning | None]] = {}
        self._now = 0
        self.n_images = 0

    def enter(self, value: Tensor, *, alone: bool = False) -> None:
        """Images, or other data, [B, ...]; or one image [c, h, w]."""
        shape = value.shape
        if alone:
            axes = tuple(fresh(one, n) for one, n in zip((CHANNEL, ROW, COLUMN), shape, strict=True))
            self._mark(value, Meaning(axes))
            return
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
            if is_in_place(function, kwargs):
                self._written |= {meaning.worked for value, meaning, _ in operation.entered if value is made[0]}
            self._now += 1
            self._edges += [(meaning.born, self._now) for _, meaning, _ in operation.entered]
            worked, heads = origin(operation, self._now)
            for one, meaning in zip(made, derive(operation, made), strict=True):
                self._mark(one, meaning._replace(born=self._now, worked=worked, heads=heads))
        else:
            role = next((role for value in tensors_in([args, kwargs]) if (role := self._role(value))), None)
            for one in made:
                setattr(one, _ROLE, role or "other")
                self._mark(one, None)
        return out

    def before(self, name: str, _module: nn.Module, args: Any, kwargs: Any) -> None:
        """Note the input of the module of this name, before an in-place operation changes it."""
        known = (meaning for value in tensors_in([args, kwargs]) if (meaning := self._meaning(value)))
        self._entered.setdefault(name, []).append(next(known, None))

    def after(self, name: str, composite: bool, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Note a call of the module of this name."""
        tensors = [one for one in tensors_in(output) if one.is_floating_point()]
        known = [(value, meaning) for value in tensors_in([args, kwargs]) if (meaning := self._meaning(value))]
        self._see(known, tensors)
        entered = self._entered[name].pop()
        self._number[name] = number = self._number.get(name, 0) + 1
        maps = {place: _is_map(self._meaning(one)) for place, one in enumerate(tensors)}
        place, rivals = counting([tuple(one.shape) for one in tensors], self.n_images, maps)
        if place is not None:
            found = tensors[place]
            about = composite, type(module).__name__, place, tuple(rivals)
            self._calls.append(Call(name, number, tuple(found.shape), self._meaning(found), entered, *about))

    def _see(self, entered: list[tuple[Tensor, Meaning]], made: list[Tensor]) -> None:
        """Note what was made out of sight of the mode: in a scripted module or an `autograd.Function`."""
        for one in made:
            if not entered or self._meaning(one) is not None or self._role(one) is not None:
                continue
            self._now += 1
            self._edges += [(meaning.born, self._now) for _, meaning in entered]
            axes = [meaning.axes for value, meaning in entered if value.shape == one.shape]
            found = Meaning(merged(axes, one.shape) if axes else unknown(one.shape))
            self._mark(one, found._replace(born=self._now, worked=self._now))

    def _mark(self, value: Tensor, meaning: Meaning | None) -> None:
        setattr(value, _MARK, meaning)
        if (place := _place(value)) is not None:
            self._by_place[place] = StorageWeakRef(value.untyped_storage()), meaning  # type: ignore[no-untyped-call]

    def _meaning(self, value: Tensor) -> Meaning | None:
        """The meaning of a tensor, also if an `autograd.Function` has wrapped it again, as reentrant checkpoints do."""
        if hasattr(value, _MARK) or id(value) in self._roles:
            found = getattr(value, _MARK, None)
            return found if isinstance(found, Meaning) else None
        memory, meaning = self._by_place.get(_place(value) or (), (None, None))
        known = memory is not None and not memory.expired()  # type: ignore[no-untyped-call]
        return meaning if known else None  # else another tensor may lie there since

    def _entering(self, args: Any, kwargs: Any) -> Iterator[tuple[Tensor, Meaning, tuple[int, ...]]]:
        for value in tensors_in([args, kwargs]):
            meaning = self._meaning(value)
            if meaning is not None:
                yield value, meaning, tuple(value.shape)

    def _role(self, value: Tensor) -> str | None:
        return self._roles.get(id(value)) or getattr(value, _ROLE, None)

    def trace(self, output: Any) -> Trace:
        """What was seen of a network that gives this output."""
        change = [0] * (self._now + 2)
        for first, last in self._edges:
            if last > first + 1:
                change[first + 1] += 1
                change[last] -= 1
        ends = [meaning.heads for one in tensors_in(output) if (meaning := self._meaning(one))]
        bridged = tuple(total > 0 for total in accumulate(change))
        calls = tuple(
            replace(call, overwritten=call.meaning is not None and call.meaning.worked in self._written)
            for call in self._calls
        )
        return Trace(calls, bridged, n_images=self.n_images, heads=frozenset().union(*ends), output=output)


def meaning_of(value: Tensor) -> Meaning | None:
    """What is known of a tensor that a watched network gave."""
    found = getattr(value, _MARK, None)
    return found if isinstance(found, Meaning) else None


def _is_map(meaning: Meaning | None) -> bool:
    return meaning is not None and bool(meaning.n_positions)


def _is_composite(module: nn.Module) -> bool:
    return sum(1 for _ in module.modules()) > 1 and not _is_norm(module)


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
