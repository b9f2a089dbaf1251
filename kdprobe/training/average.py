"""The slow average of a network's weights."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kdprobe.models import describe
from kdprobe.models.creation import attach


def average_of(student: nn.Module, decay: float | None) -> AveragedModel | None:
    """A copy of the student whose weights and statistics follow it slowly."""
    if decay is None:
        return None
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(student, multi_avg_fn=update, use_buffers=True)
    attach(average.module, describe(student))
    return average.eval()
