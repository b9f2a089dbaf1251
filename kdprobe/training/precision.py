"""Arithmetic of the forward pass, compiling, and making a run repeatable."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from kdprobe.terminal import echo

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass in `fp32`, `bf16` or `fp16` (parameters stay float32)."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_HALF[precision])


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """The loss scaler that `fp16` needs; it does nothing in the other precisions."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def compiled(module: nn.Module, wanted: bool) -> nn.Module:
    """Compile a module in place if wanted; where no compiler works, say so and go on without."""
    if not wanted:
        return module
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8))
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        echo(f"training.compile is off: no working compiler was found ({reason})", err=True)
        return module
    module.compile()
    return module


@contextmanager
def repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch and choose deterministic kernels inside, and leave the caller's state as it was.

    On one machine with one number of threads, the same seed then gives the same bytes.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    deterministic = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    memory: Any = torch.utils.deterministic  # a module with a property, which type checkers do not see
    filled = memory.fill_uninitialized_memory
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
        memory.fill_uninitialized_memory = False  # nothing reads it, and filling it takes time
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            memory.fill_uninitialized_memory = filled
            torch.backends.cudnn.benchmark = benchmark
