"""How many evaluation images a network gets right while it is trained."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdprobe.data import Split, evaluation_batches
from kdprobe.errors import DataError, Diverged
from kdprobe.training.distributed import Ranks
from kdprobe.training.signals import StopRequest


@torch.no_grad()
def accuracy(
    model: nn.Module,
    split: Split,
    prepare: Callable[[Tensor], Tensor],
    *,
    workers: int,
    group: Ranks,
    stop: StopRequest | None = None,
) -> tuple[float, int] | None:
    """Fraction of a split's images that a network gets right, over all processes.

    Args:
        model: in eval mode.
        split: images and labels.
        prepare: from images in [0, 1] to the network's input.
        workers: processes that decode files.
        group: this process among all.
        stop: ends the evaluation.

    Returns:
        the fraction, and how many images were skipped because they could not be decoded; None in all processes if one
        of them was to stop.

    Raises:
        DataError: if not one image can be decoded.
        Diverged: if a logit is NaN or infinite: the class that such logits would give is none.
    """
    correct, seen, broken, stopped = (torch.zeros((), dtype=torch.int64, device=group.device) for _ in range(4))
    stop = stop or StopRequest()
    batches = evaluation_batches(split, batch_size=512, workers=workers, device=group.device, shard=group.shard)
    for batch in stop.until(batches):
        logits = model(prepare(batch.images))
        correct += (logits.argmax(1) == batch.labels).sum()
        broken += (~logits.isfinite()).any(1).sum()
        seen += len(batch.labels)
    stopped += stop.reason is not None
    n_correct, n_seen, n_broken, n_stopped = group.sum(torch.stack([correct, seen, broken, stopped])).tolist()
    if n_stopped:
        return None
    if not n_seen:
        raise DataError(f"none of {len(split)} evaluation images can be decoded")
    if n_broken:
        raise Diverged(f"the network gives NaN or infinity for {n_broken} of {n_seen} evaluation images")
    return n_correct / n_seen, len(split) + split.n_skipped - n_seen
