"""The learning rate as a function of the step, without state: a resumed run needs nothing of it."""

import math

from kdprobe.config import ScheduleConfig

_FIRST = 0.04  # where a warm-up starts, as a fraction of the peak


def rate_factor(schedule: ScheduleConfig, *, epoch: float, n_epochs: int) -> float:
    """The learning rate as a fraction of its peak.

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
