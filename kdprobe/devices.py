"""Where to compute, how exactly, and how numbers get there without a wait; never silently on another device.

A copy from ordinary memory to a CUDA device keeps the program waiting until the device has caught up with all that it
was told before; one from pinned memory does not.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kdprobe.errors import DeviceError

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")
_CHOSEN: ContextVar[bool] = ContextVar("chosen", default=False)  # whether `float32` is in force
_PLACES = (
    ("cuda", "matmul"),
    ("cudnn", "conv"),
    ("cudnn", "rnn"),
    *(("mkldnn", op) for op in ("matmul", "conv", "rnn")),
)


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


@contextmanager
def float32(*, tf32: bool = False) -> Iterator[None]:
    """Inside `with`, products and convolutions of float32 are exact, or in TF32; the caller's settings come back.

    Args:
        tf32: round factors to the 11 bits of TF32, which some GPUs multiply several times as fast.
    """
    before, token = _settings(), _CHOSEN.set(True)
    each = ["tf32" if tf32 else "ieee"] * len(before.each)
    chosen = _Settings("none", each, each, "high" if tf32 else "highest", tf32)
    try:
        _set(chosen, known=before)
        yield
    finally:
        _CHOSEN.reset(token)
        _set(before, known=before)


def exact_float32(function: Callable[_Given, _Found]) -> Callable[_Given, _Found]:
    """Let a measurement run inside `float32()`, unless its caller has chosen."""

    @wraps(function)
    def measured(*args: _Given.args, **options: _Given.kwargs) -> _Found:
        if _CHOSEN.get():
            return function(*args, **options)
        with float32():
            return function(*args, **options)

    return measured


def float32_settings() -> dict[str, str]:
    """How a CUDA device multiplies float32 and computes convolutions now: `exact` or `tf32`."""
    if not _places():
        rounded = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    else:
        rounded = tuple(place.fp32_precision == "tf32" for place in _places()[:2])
    return dict(zip(("products", "convolutions"), ("tf32" if one else "exact" for one in rounded), strict=True))


class _Settings(NamedTuple):
    """The general precision, that of each place, and by torch's older names; these are None where they do not tell.

    Of each place there is what it was told, `none` if it follows the general one, and what that comes to.
    """

    general: str
    each: list[str]
    effective: list[str]
    matmul: str | None
    cudnn: bool | None


def _places() -> list[Any]:
    """Where torch keeps the precision of float32; nowhere before its version 2.9."""
    if not hasattr(torch.backends, "fp32_precision"):
        return []
    return [getattr(getattr(torch.backends, backend), operation) for backend, operation in _PLACES]


def _settings() -> _Settings:
    """Those in force; `none` for places that follow the general one, which shows when that one changes."""
    matmul, cudnn = None, _cudnn_tf32()
    with suppress(RuntimeError):  # which asks not to mix names, even where others have
        matmul = torch.get_float32_matmul_precision()
    backends: Any = torch.backends
    if not (places := _places()):
        return _Settings("none", [], [], matmul, cudnn)
    general, effective, found = backends.fp32_precision, [place.fp32_precision for place in places], []
    for value in ("ieee", "tf32"):
        backends.fp32_precision = value
        found.append([place.fp32_precision for place in places])
    backends.fp32_precision = general
    each = [a if a == b else "none" for a, b in zip(*found, strict=True)]
    return _Settings(general, each, effective, matmul, cudnn)


def _set(wanted: _Settings, *, known: _Settings) -> None:
    """Older names first: they set some of the newer ones, and both must tell the same.

    cuDNN begins with TF32 wherever nothing else is said, which cannot be said again: its places are then told so.
    """
    backends: Any = torch.backends
    if known.matmul is not None and wanted.matmul is not None:
        torch.set_float32_matmul_precision(wanted.matmul)
    if known.cudnn is not None and wanted.cudnn is not None:
        backends.cudnn.allow_tf32 = wanted.cudnn
    for place, value in zip(_places(), wanted.each, strict=True):
        place.fp32_precision = value
    if _places():
        backends.fp32_precision = wanted.general
    if wanted.cudnn is not None and _cudnn_tf32() != wanted.cudnn:
        for (backend, _), place, value in zip(_PLACES, _places(), wanted.effective, strict=True):
            if backend == "cudnn":
                place.fp32_precision = value


def _cudnn_tf32() -> bool | None:
    """By its older name; None where newer ones have made that ambiguous."""
    with suppress(RuntimeError):
        return bool(torch.backends.cudnn.allow_tf32)
    return None
