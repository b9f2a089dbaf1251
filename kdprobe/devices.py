"""Where to compute: a device by name, never silently another one, and how numbers get there without a wait.

A copy from ordinary memory to a CUDA device keeps the program waiting until the device has caught up with all that it
was told before; one from pinned memory does not.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kdprobe.errors import DeviceError


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device with a given name.

    Args:
        name: `cpu`, `cuda`, `cuda:N`, `mps`, or `auto`: the first CUDA device where there is one, else the CPU; or a
            device, which may also be of another kind.

    Raises:
        DeviceError: for any other name, and for a device that this machine does not have.
    """
    if isinstance(name, torch.device):
        return pick_device(str(name)) if name.type in ("cuda", "mps") else name
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, colon, number = name.partition(":")
    known = kind in ("cpu", "cuda", "mps") and (not colon or (kind == "cuda" and number.isdecimal()))
    if not known:
        raise DeviceError(f"the device must be auto, cpu, cuda, cuda:N or mps, but is {name!r}")
    if kind == "cuda" and (len(number) > 9 or int(number or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"there is no device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("there is no device 'mps' on this machine")
    return torch.device(name)


def sent(tensor: Tensor, device: str | torch.device) -> Tensor:
    """A tensor on a device; on a CUDA device without waiting for it."""
    if torch.device(device).type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def constant(numbers: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers that never change, [n], made once for each device; they must not be written to."""
    made = _made if torch.compiler.is_compiling() else _made_once
    return made(numbers, device, dtype)


def _made(numbers: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # whoever asks first may be in it, and others need gradients
        return torch.tensor(numbers, device=device, dtype=dtype)


_made_once = lru_cache(maxsize=256)(_made)


class _Sending(TorchFunctionMode):
    """Inside `with`, what is made on the CPU for a CUDA device is sent there by `sent`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == "cuda":
            return sent(torch.tensor(*args, **{**kwargs, "device": "cpu"}), kwargs["device"])
        if func is Tensor.to and len(args) == 2 and isinstance(args[1], torch.device) and not kwargs:
            return sent(*args)
        if func is Tensor.__setitem__ and args[0].is_cuda and isinstance(args[2], Tensor) and args[2].ndim:
            args = (*args[:2], sent(args[2], args[0].device))
        return func(*args, **kwargs)


@contextmanager
def sending(device: torch.device) -> Iterator[None]:
    """Inside `with`, other libraries do not wait for a CUDA device while they give it their small tensors."""
    if device.type != "cuda":
        yield
        return
    with _Sending():
        yield


def usable_processors() -> int:
    """Processors that this process may run on, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
