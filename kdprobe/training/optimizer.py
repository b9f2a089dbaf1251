"""What changes weights: the optimizer, its learning rate over the epochs, and the slow average of the weights."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kdprobe.config import OptimizerConfig, ScheduleConfig
from kdprobe.models import model_info
from kdprobe.models.creation import attach

_FIRST = 0.04  # where a warm-up starts, as a fraction of the peak


def make_optimizer(config: OptimizerConfig, student: nn.Module, auxiliary: nn.Module) -> Optimizer:
    """The optimizer of a student and of its method's auxiliary modules.

    Each group remembers its peak learning rate as `peak_lr`, which the schedule multiplies. Momentum starts at zero,
    even where the scaler of fp16 leaves the first step out.
    """
    auxiliary_lr = config.lr * config.auxiliary_lr_factor
    groups = [*_groups(config, student, config.lr), *_groups(config, auxiliary, auxiliary_lr)]
    shared: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
    if config.name == "sgd":
        optimizer = SGD(groups, momentum=config.momentum, nesterov=config.nesterov, **shared)
        if config.momentum:
            # the fused optimizer creates the buffers uninitialised, and a step that it leaves out does not fill them
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    kind = Adam if config.name == "adam" else AdamW
    return kind(groups, betas=config.betas, **shared)


def set_rate(optimizer: Optimizer, factor: float) -> float:
    """Set every group's learning rate to `factor` times its peak, and return that of the student."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    rate: float = optimizer.param_groups[0]["lr"]
    return rate


def rate_factor(schedule: ScheduleConfig, epoch: float, n_epochs: int) -> float:
    """The learning rate as a fraction of its peak; it has no state that a resumed run would need.

    Args:
        schedule: which curve.
        epoch: epochs done, a fraction inside an epoch, in [0, n_epochs).
        n_epochs: epochs in all.

    Returns:
        a factor in [0, 1].
    """
    default = 0.3 * n_epochs if schedule.name == "onecycle" else 0.0
    warmup = default if schedule.warmup_epochs is None else schedule.warmup_epochs
    if epoch < warmup:
        return _FIRST + (1 - _FIRST) * epoch / warmup
    if schedule.name == "step":
        return schedule.gamma ** sum(epoch >= milestone for milestone in schedule.milestones)
    if schedule.name == "exponential":
        return float(schedule.gamma ** math.floor(epoch - warmup))
    if schedule.name == "constant":
        return 1.0
    done = (epoch - warmup) / max(n_epochs - warmup, 1e-12)
    return schedule.final_factor + (1 - schedule.final_factor) * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def average_of(student: nn.Module, decay: float | None) -> AveragedModel | None:
    """A copy of the student whose weights and statistics follow it slowly; None without a decay."""
    if decay is None:
        return None
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(student, multi_avg_fn=update, use_buffers=True)
    attach(average.module, model_info(student))
    return average.eval()


def _groups(config: OptimizerConfig, module: nn.Module, lr: float) -> list[dict[str, Any]]:
    matrices = [p for p in module.parameters() if p.requires_grad and (p.ndim > 1 or config.decay_norms)]
    vectors = [p for p in module.parameters() if p.requires_grad and not (p.ndim > 1 or config.decay_norms)]
    groups = [_group(matrices, lr), {**_group(vectors, lr), "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _group(parameters: Iterable[torch.nn.Parameter], lr: float) -> dict[str, Any]:
    return {"params": list(parameters), "lr": lr, "peak_lr": lr}
