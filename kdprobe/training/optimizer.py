"""The optimizer and its parameter groups."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from kdprobe.config import OptimizerConfig


def make_optimizer(config: OptimizerConfig, student: nn.Module, auxiliary: nn.Module) -> Optimizer:
    """The optimizer of a student and of its method's auxiliary modules.

    Each group remembers its peak learning rate as `peak_lr`, which the schedule multiplies. Momentum starts at zero,
    also where the first step is left out.
    """
    auxiliary_lr = config.lr * config.auxiliary_lr_factor
    groups = [*_groups(config, student, config.lr), *_groups(config, auxiliary, auxiliary_lr)]
    shared: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
    if config.name == "sgd":
        optimizer = SGD(groups, momentum=config.momentum, nesterov=config.nesterov, **shared)
        if config.momentum:
            # the fused optimizer makes them without values, and gives them none in a step that it leaves out
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
    kind = Adam if config.name == "adam" else AdamW
    return kind(groups, betas=config.betas, **shared)


def set_rate(optimizer: Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def _groups(config: OptimizerConfig, module: nn.Module, lr: float) -> list[dict[str, Any]]:
    matrices = [p for p in module.parameters() if p.requires_grad and (p.ndim > 1 or config.decay_norms)]
    vectors = [p for p in module.parameters() if p.requires_grad and not (p.ndim > 1 or config.decay_norms)]
    groups = [_group(matrices, lr), {**_group(vectors, lr), "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _group(parameters: Iterable[torch.nn.Parameter], lr: float) -> dict[str, Any]:
    return {"params": list(parameters), "lr": lr, "peak_lr": lr}
