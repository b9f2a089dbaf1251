"""What makes a program wait for a GPU, counted on a machine without one.

Tensors on the device are fake (shapes and types without values), those of the CPU are real, so that a training step
runs as it is written. What needs a value of the device is counted and answered by ones.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import kdprobe
from kdprobe import devices

DEVICE = torch.device("cuda")
_ATEN = torch.ops.aten
_COPIES = {_ATEN._to_copy.default, _ATEN.copy_.default}
_READING = {_ATEN.index.Tensor}
_INDEXED = {*_READING, _ATEN.index_put.default, _ATEN.index_put_.default, _ATEN._index_put_impl_.default}
#: results whose size depends on values, or that are checked by the host
_SIZED_BY_VALUES = {
    "nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive", "bincount", "equal", "is_nonzero",
    "repeat_interleave", "_linalg_eigh", "_linalg_svd", "linalg_lstsq", "_linalg_check_errors", "multinomial",
}  # fmt: skip
_SOURCES = str(Path(kdprobe.__file__).parent)


class Waits(TorchDispatchMode):
    """Inside `with`, counts copies that block and values that are read from the device.

    Attributes:
        found: how often each place of kdprobe's code waited, as `file:line operation`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self._pinned: dict[int, Tensor] = {}

    @property
    def count(self) -> int:
        """How often anything waited so far."""
        return self.found.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (
            torch.is_inference_mode_enabled() and func.namespace == "aten" and func._can_decompose()
        ):  # which else torch does before it asks
            with self:
                return func.decompose(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        wants_device = torch.device(kwargs.get("device") or "cpu").type == DEVICE.type
        if not on_device and not wants_device:
            return self._on_cpu(func, args, kwargs)
        if func in _COPIES:
            return self._copied(func, args, kwargs, wants_device)
        if func in _INDEXED:
            return self._indexed(func, args, kwargs)
        return self._computed(func, args, kwargs)

    def _computed(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith("_fused_"):
            return None  # an optimizer's step, which changes weights that have no values
        if name == "_local_scalar_dense":
            self._waited(func)
            return {torch.bool: True}.get(args[0].dtype, 1.0 if args[0].is_floating_point() else 1)
        if name in _SIZED_BY_VALUES:
            self._waited(func)
        if name == "nonzero":
            return torch.zeros(1, args[0].ndim, dtype=torch.int64, device=DEVICE)
        return func(*args, **kwargs)

    def _on_cpu(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func is _ATEN.is_pinned.default:
            return self._is_pinned(args[0])
        with unset_fake_temporarily():
            if func is _ATEN.empty.memory_format and kwargs.get("pin_memory"):
                found = func(*args, **{**kwargs, "pin_memory": False})
                self._pinned[found.untyped_storage().data_ptr()] = found
                return found
            if func is _ATEN._pin_memory.default:
                found = args[0].clone()
                self._pinned[found.untyped_storage().data_ptr()] = found
                return found
            return func(*args, **kwargs)

    def _copied(self, func: Any, args: Any, kwargs: Any, wants_device: bool) -> Any:
        source, target = (args[1], args[0]) if func is _ATEN.copy_.default else (args[0], None)
        to_device = isinstance(target, FakeTensor) if target is not None else wants_device or not kwargs.get("device")
        from_device = isinstance(source, FakeTensor)
        asks = kwargs.get("non_blocking") or (func is _ATEN.copy_.default and len(args) > 2 and args[2])
        if from_device and not to_device:
            self._waited(func, unless=bool(asks) and target is not None and self._is_pinned(target))
            with unset_fake_temporarily():
                like = torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)
                return like if target is None else target.copy_(like)
        if not from_device and to_device and (source.ndim or target is None):
            self._waited(func, unless=bool(asks) and self._is_pinned(source))
        return func(*args, **kwargs)

    def _is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._pinned

    def _indexed(self, func: Any, args: Any, kwargs: Any) -> Any:
        places = [place for place in args[1] if place is not None]
        is_mask = any(place.dtype in (torch.bool, torch.uint8) for place in places)
        fills = is_mask and len(places) == 1 and func not in _READING and not isinstance(args[2], FakeTensor)
        if fills and args[2].numel() == 1:  # torch does not look for the places
            return args[0].masked_fill_(places[0], 0)
        on_cpu = [not isinstance(place, FakeTensor) and place.ndim > 0 for place in places]
        if any(on_cpu) or is_mask:
            self._waited(func)
        if is_mask:  # as if the first of each were chosen
            chosen = [None if p is None else torch.zeros(1, dtype=torch.int64, device=DEVICE) for p in args[1]]
            args = (args[0], chosen, *args[2:])
        return func(*args, **kwargs)

    def _waited(self, func: Any, *, unless: bool = False) -> None:
        if not unless:
            frames = [one for one in traceback.extract_stack() if one.filename.startswith(_SOURCES)]
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "elsewhere"
            self.found[f"{where} {func}"] += 1


class FakeStream:
    """A stream on which nothing runs, as the GPU has no values."""

    def __init__(self, *_: object) -> None:
        pass

    def wait_stream(self, other: "FakeStream") -> None:
        """The device waits, not the program."""

    def record_event(self, event: object = None) -> "FakeEvent":
        """Everything has happened."""
        return FakeEvent()


class FakeEvent:
    """What has happened already."""

    def __init__(self, **_: object) -> None:
        pass

    def synchronize(self) -> None:
        """It has happened."""


@contextmanager
def fake_device() -> Iterator[Waits]:
    """Inside `with`, there is a GPU without values."""
    waits = Waits()
    devices._made_once.cache_clear()  # constants are kept by device
    stream = {"Stream": FakeStream, "Event": FakeEvent, "current_stream": FakeStream, "stream": nullcontext}
    try:
        no_streams = patch.multiple(torch.cuda, **stream), patch.object(Tensor, "record_stream", lambda *_: None)
        with no_streams[0], no_streams[1], FakeTensorMode(allow_non_fake_inputs=True), waits:
            yield waits
    finally:
        devices._made_once.cache_clear()


def onto_device(*modules: nn.Module) -> None:
    """Move parameters and buffers to the fake device, as `.to()` does; plain attributes stay where they are."""
    moved: dict[int, nn.Parameter] = {}
    for module in {one for root in modules for one in root.modules()}:
        for name, value in module._parameters.items():
            if value is not None:
                made = nn.Parameter(value.detach().to(DEVICE), requires_grad=value.requires_grad)
                module._parameters[name] = moved.setdefault(id(value), made)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(DEVICE)
