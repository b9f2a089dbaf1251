"""How long something takes on a device, once it has run before."""

import time
from collections.abc import Callable

import torch


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the second run; the first one warms up."""
    for _ in range(2):
        start = now(device)
        run()
    return now(device) - start


def now(device: torch.device) -> float:
    """A clock in seconds, read when the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
