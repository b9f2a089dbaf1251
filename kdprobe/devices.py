"""Where to compute: a device by name, never silently another one, and the number of processors."""

import os

import torch

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


def usable_processors() -> int:
    """Processors that this process may run on, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
