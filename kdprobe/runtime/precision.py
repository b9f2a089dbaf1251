"""Arithmetic of the forward pass, and making a run repeatable."""

import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.config import RunConfig
from kdprobe.errors import Diverged
from kdprobe.models import model_info
from kdprobe.models.hooks import in_evaluation
from kdprobe.models.outputs import answer_in
from kdprobe.runtime.distributed import Ranks
from kdprobe.terminal.progress import say

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: limits of oneDNN (`ONEDNN_MAX_CPU_ISA`) below which it emulates bfloat16
_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
_SMALLEST_SCALE = 2.0**-16  # of the loss in fp16
_TRIAL_SECONDS = 0.4  # of repeating a step, in each precision


def computes_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself; where it emulates it, float32 is many times faster.

    A processor does with AVX512-BF16, AMX or ARM's BF16 instructions, unless `ONEDNN_MAX_CPU_ISA` forbids them. What
    torch does not know of does not.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    if platform.machine().lower() in ("aarch64", "arm64"):
        supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        return supported is not None and bool(supported())
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "ALL"))
    if limit.upper() in _WITHOUT_BF16:
        return False
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(supported is not None and supported() for supported in asked)


def with_precision(config: RunConfig, group: Ranks, *, begun: str | None = None) -> RunConfig:
    """The configuration with a precision instead of `auto`.

    Args:
        config: the run's.
        group: all processes, which compute alike.
        begun: the precision that a resumed run began with.
    """
    if config.training.precision != "auto":
        return config
    native = all(group.join(torch.tensor([int(computes_bf16(group.device))])))
    found = begun if begun in ("fp32", *_HALF) else "bf16" if native else "fp32"
    return config.model_copy(update={"training": config.training.model_copy(update={"precision": found})})


def warn_of_emulation(model: nn.Module, precision: str, device: torch.device) -> None:
    """Report what half precision costs on a device that has to emulate it."""
    emulated = not computes_bf16(device) if precision == "bf16" else precision == "fp16" and device.type == "cpu"
    if not emulated:
        return
    size = model_info(model).image_size
    cost = emulation_cost(model, torch.full((4, 3, size, size), 0.5, device=device), precision)
    say(
        f"{precision} is emulated on this {device.type} device: in a trial a step took {cost:.1f} times as long as in "
        "fp32; training.precision=auto takes what the device computes natively"
    )


def emulation_cost(model: nn.Module, images: Tensor, precision: str) -> float:
    """How many times as long as in float32 a step takes, measured with a short trial.

    Args:
        model: the network; its gradients are cleared, nothing else changes.
        images: [B, 3, s, s]; a few are enough.
        precision: what is compared with `fp32`.
    """
    try:  # statistics stay as they are, and a single image will do
        with torch.random.fork_rng(devices=[]), in_evaluation(model):
            return _step_seconds(model, images, precision) / _step_seconds(model, images, "fp32")
    finally:
        model.zero_grad(set_to_none=True)


def _step_seconds(model: nn.Module, images: Tensor, precision: str) -> float:
    """The shortest time of a forward and a backward pass; the first one, which also prepares kernels, if it is long."""
    times: list[float] = []
    while not times or (sum(times) < _TRIAL_SECONDS and len(times) < 20):
        start = time.perf_counter()
        with autocast(precision, images.device):
            loss = answer_in(model(images), model_info(model)).float().square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        loss.item()  # waits for the device
        times.append(time.perf_counter() - start)
    return min(times)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass in `fp32`, `bf16` or `fp16` (parameters stay float32)."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_HALF[precision])


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """The loss scaler that `fp16` needs; it does nothing in the other precisions."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def check_scale(scaler: torch.amp.GradScaler) -> None:
    """Check that the loss scaler of `fp16` has found a scale at which gradients are finite; this waits for the device.

    It halves its scale, 65536 at first, in each step that it leaves out: many of them in a row show in the scale.

    Raises:
        Diverged: if more than 32 steps in a row were left out.
    """
    if scaler.is_enabled() and (scale := scaler.get_scale()) < _SMALLEST_SCALE:
        raise Diverged(
            f"gradients in fp16 are not finite even at a loss scale of {scale:.1e}: more than 32 steps in a row were "
            "left out; set training.precision to bf16 or fp32, or lower the learning rate"
        )


@contextmanager
def repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch and choose deterministic kernels inside, and leave the caller's state as it was.

    On one machine with one number of threads, the same seed then gives the same bytes, as long as
    `refuse_varying_kernels` is in force.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    memory: Any = torch.utils.deterministic  # a module with a property, which type checkers do not see
    filled = memory.fill_uninitialized_memory
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* does not have a deterministic implementation")  # said by kdprobe
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False  # nothing reads it, and filling it takes time
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warns)
            memory.fill_uninitialized_memory = filled
            torch.backends.cudnn.benchmark = benchmark


def refuse_varying_kernels(refused: bool, /) -> None:
    """Make an operation without a deterministic kernel an error, or allow it.

    Where it is allowed, attention may choose others too, and convolutions take the kernels that are found the fastest.
    """
    torch.use_deterministic_algorithms(True, warn_only=not refused)
    torch.backends.cudnn.benchmark = not refused
