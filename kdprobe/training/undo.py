"""Taking back what a bad step did to tensors, on their device and without a round trip to the host."""

from collections.abc import Iterable

import torch
from torch import Tensor

Values = dict[torch.dtype, Tensor]


@torch.no_grad()
def keep(tensors: Iterable[Tensor]) -> Values:
    """A copy of the values of tensors on one device, one after the other, by type."""
    return {dtype: torch.cat([t.flatten() for t in same]) for dtype, same in _by_type(tensors).items()}


@torch.no_grad()
def restore_unless(good: Tensor, tensors: Iterable[Tensor], kept: Values) -> None:
    """Give tensors the values that they had, unless the step was good.

    Args:
        good: a boolean on the tensors' device.
        tensors: changed in place; of the same shapes and in the same order as those that were kept.
        kept: from `keep`.
    """
    if good.device.type == "cpu" and good:
        return  # asking costs nothing there
    tensors = list(tensors)
    now = keep(tensors)
    for dtype, same in _by_type(tensors).items():
        chosen = torch.split(torch.where(good, now[dtype], kept[dtype]), [t.numel() for t in same])
        torch._foreach_copy_(same, [part.view(t.shape) for part, t in zip(chosen, same, strict=True)])


def _by_type(tensors: Iterable[Tensor]) -> dict[torch.dtype, list[Tensor]]:
    found: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        found.setdefault(tensor.dtype, []).append(tensor)
    return found
