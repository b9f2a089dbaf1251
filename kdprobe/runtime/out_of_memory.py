"""What to do when the device's memory is too small."""

import torch
from torch import nn

from kdprobe.config import RunConfig
from kdprobe.models.creation import count_parameters

_OPTIMIZER_COPIES = {"sgd": 1, "adam": 2, "adamw": 2}


def fixed_bytes(config: RunConfig, objective: nn.Module) -> int:
    """Bytes of weights, gradients and optimizer state, which no smaller batch can save."""
    copies = 2 + _OPTIMIZER_COPIES[config.training.optimizer.name] + (config.training.ema_decay is not None)
    return 4 * copies * count_parameters(objective)


def out_of_memory_advice(config: RunConfig, objective: nn.Module, device: torch.device) -> str:
    """One sentence: what is fixed, what there is, and what to lower."""
    settings = config.training
    parts = 2 * settings.accumulate
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    there = f" of {total / 2**30:.1f} GiB" if total else ""
    advice = [f"training.accumulate={parts} (the same result, {settings.batch_size // parts} images at a time)"]
    if settings.precision == "fp32":
        advice.append("training.precision=bf16")
    advice.append("a smaller training.batch_size")
    return (
        f"{device} ran out of memory: weights, gradients and optimizer take "
        f"{fixed_bytes(config, objective) / 2**30:.2f} GiB{there}, the rest grows with the batch of "
        f"{settings.batch_size}; try " + ", or ".join(advice)
    )
