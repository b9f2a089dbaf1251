"""How long a forward pass takes: on one machine, at one moment, and therefore always with both named."""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor, nn

from kdprobe.devices import exact_float32, float32_settings, pick_device
from kdprobe.errors import DeviceError
from kdprobe.models import model_info
from kdprobe.models.hooks import in_evaluation
from kdprobe.terminal.progress import progress

MEASURED_FOR = 2.0
_LEAST, _MOST = 10, 1000  # passes
_WARM = 3  # passes, at least; and a quarter of the seconds


def pass_times(
    forward: Callable[[], object], *, seconds: float = MEASURED_FOR, clock: Callable[[], float] = time.perf_counter
) -> Float64[ndarray, " passes"]:
    """Durations of a function's calls, one after the other, once it is warm.

    Args:
        forward: returns when what it does is done.
        seconds: it is called for this long, but at least 10 and at most 1,000 times; for a quarter of it, but at least
            three times, before anything counts.
        clock: gives the time in seconds.
    """
    start, n_warm = clock(), 0
    while n_warm < _WARM or (n_warm < _MOST and clock() - start < seconds / 4):
        forward()
        n_warm += 1
    found, start = list[float](), clock()
    while len(found) < _LEAST or (len(found) < _MOST and clock() - start < seconds):
        before = clock()
        forward()
        found.append(clock() - before)
    return np.array(found)


class Latencies(NamedTuple):
    """What was measured of m networks at b batch sizes.

    Attributes:
        batch_sizes: ascending.
        seconds: median, lower and upper quartile: between these lies the middle half of the passes.
        device: what computed.
        threads: the number of threads that torch had.
        tf32: whether a GPU computed in TF32.
    """

    batch_sizes: tuple[int, ...]
    seconds: Float64[ndarray, "m b 3"]
    device: str
    threads: int
    tf32: bool = False

    @property
    def words(self) -> str:
        """How it was measured."""
        count = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        how = "TF32" if self.tf32 else "float32"
        return (
            f"duration of one forward pass in ms, its median with lower and upper quartile, in {how} after warming "
            f"up, on {self.device} with {count} and torch {torch.__version__}"
        )


@exact_float32
def latencies(
    models: Sequence[nn.Module],
    batch_sizes: Sequence[int],
    *,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    seconds: float = MEASURED_FOR,
    quiet: bool = True,
) -> Latencies:
    """Duration of networks' forward passes, in float32, exact unless the caller chose TF32, and without gradients.

    Args:
        models: each is in evaluation mode on the device meanwhile.
        batch_sizes: images at a time.
        device: where to compute.
        threads: torch's own number if not given.
        seconds: how long each network is measured at each batch size.
        quiet: no progress on stderr.

    Raises:
        DeviceError: if there is no such device, or its memory is too small for a batch.
    """
    place, total = pick_device(device), len(models) * len(batch_sizes)
    tf32 = float32_settings()["convolutions"] == "tf32"
    with _threads(threads) as count, progress("latency", total, unit="batch sizes", quiet=quiet) as shown:
        found = [_latency(model, batch_sizes, place, seconds, shown) for model in models]
        return Latencies(tuple(batch_sizes), np.stack(found), hardware(place), count, tf32)


@torch.inference_mode()
def _latency(
    model: nn.Module, batch_sizes: Sequence[int], place: torch.device, seconds: float, shown: Callable[[int], object]
) -> Float64[ndarray, "b 3"]:
    info, found = model_info(model), []
    home = next((parameter.device for parameter in model.parameters()), place)
    model.to(place)
    try:
        with in_evaluation(model):
            for size in batch_sizes:
                images = torch.rand(size, len(info.mean), info.image_size, info.image_size, device=place)
                times = pass_times(partial(_pass, model, images), seconds=seconds)
                found.append(np.percentile(times, [50, 25, 75]))
                shown(1)
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"the memory of {place} is too small for {size} images of {info.image_size} px in {info.name}; give a "
            "smaller --batch-size"
        ) from error
    finally:
        model.to(home)
    return np.stack(found)


def _pass(model: nn.Module, images: Tensor) -> None:
    model(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    elif images.is_mps:
        torch.mps.synchronize()


@contextmanager
def _threads(count: int | None) -> Iterator[int]:
    """Inside `with`, torch computes with so many threads; yields their number, torch's own if none is given."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def hardware(device: str | torch.device) -> str:
    """What computes, in words: the name of the GPU or processor."""
    place = pick_device(device)
    if place.type == "cuda":
        return f"{place} ({torch.cuda.get_device_name(place)})"
    return f"{place} ({_processor()})"


def _processor() -> str:
    """The processor as its maker calls it, where the system tells; else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next((name for name in names if name), platform.processor() or platform.machine())
