"""Accounting: what the steps of an epoch add up to over all processes, and how many images a network gets right."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdprobe.data import Split, evaluation_batches
from kdprobe.data.loaders import Batch
from kdprobe.errors import DataError, Diverged
from kdprobe.models import model_info
from kdprobe.models.outputs import logits_in
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.signals import StopRequest
from kdprobe.training.state import Position


class _Step(NamedTuple):
    """A step that has not been checked yet.

    Attributes:
        number: within its epoch, from 1.
        rate: learning rate.
        terms: loss terms, summed over the images of all processes.
        images: this process's, by their places in the training split.
    """

    number: int
    rate: float
    terms: dict[str, Tensor]
    images: Tensor


class Tally:
    """Sums over the images of one epoch, kept on the device: adding to them never waits for it.

    Args:
        group: this process among all.

    Attributes:
        sums: each loss term times the number of images it is the mean of.
        n_skipped: images that could not be decoded.
    """

    def __init__(self, group: Ranks) -> None:
        self.group = group
        self.sums: dict[str, Tensor] = {}
        self.n_skipped = torch.zeros((), dtype=torch.float64, device=group.device)
        self._wishes = torch.zeros(2)
        self._unseen: list[_Step] = []

    def add(
        self, terms: Mapping[str, Tensor], batch: Batch, *, step: int, rate: float, wishes: tuple[bool, bool]
    ) -> None:
        """Add one step of all processes, in a single exchange between them.

        Args:
            terms: loss terms, means over this process's images.
            batch: this process's.
            step: number within the epoch, from 1.
            rate: learning rate.
            wishes: whether this process wishes to stop, and whether to save.
        """
        values = torch.stack(list(terms.values())).double() * len(batch.labels)
        counts = [values.new_full((1,), count) for count in (batch.n_skipped, *wishes)]
        total = self.group.sum(torch.cat([values, *counts]))
        found = dict(zip(terms, total, strict=False))
        for name, value in found.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.n_skipped = self.n_skipped + total[-3]
        self._wishes = total[-2:]
        self._unseen.append(_Step(step, rate, found, batch.index))

    def asked(self, *, look: bool) -> tuple[bool, bool]:
        """Whether any process wished to stop in the last step, and whether to save; known only when it is checked."""
        stop, save = self._wishes.bool().tolist() if look else (False, False)
        return stop, save

    def check(self, epoch: int) -> None:
        """Check the steps since the last check; this waits for the device.

        A term that is not finite leaves its sum not finite for the rest of the epoch, so that no step is missed.

        Args:
            epoch: the number of the epoch, from 1.

        Raises:
            Diverged: if the loss was not finite in one of them, naming the first such step.
        """
        if self._unseen and not torch.stack(list(self.sums.values())).isfinite().all():
            first = next(step for step in self._unseen if not all(map(math.isfinite, step.terms.values())))
            terms = [f"{name!r} is {float(value)}" for name, value in first.terms.items() if not math.isfinite(value)]
            raise Diverged(
                f"the loss is not finite in step {first.number} of epoch {epoch}, at learning rate {first.rate:.3g}: "
                f"{', '.join(terms)}; the images of this step are "
                f"{', '.join(map(str, self.group.join(first.images)))}"
            )
        self._unseen.clear()

    def close(self, n_images: int) -> tuple[dict[str, float], int]:
        """End an epoch and begin the next.

        Args:
            n_images: training images, those that could not be decoded included.

        Returns:
            the mean of each loss term over the images, and how many these were.
        """
        *sums, n_skipped = torch.stack([one.double() for one in (*self.sums.values(), self.n_skipped)]).tolist()
        n_seen = n_images - int(n_skipped)
        means = {name: value / n_seen for name, value in zip(self.sums, sums, strict=True)}
        self.sums, self.n_skipped = {}, torch.zeros_like(self.n_skipped)
        return means, n_seen

    def state_dict(self) -> dict[str, Any]:
        """The sums of an epoch that is under way."""
        return {"sums": self.sums, "n_skipped": self.n_skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the sums of an epoch that was interrupted."""
        self.sums = {name: value.to(self.group.device) for name, value in state_dict["sums"].items()}
        self.n_skipped = state_dict["n_skipped"].to(self.group.device)


def epoch_record(
    position: Position, means: dict[str, float], *, accuracy: float | None, rate: float, n_images: int
) -> dict[str, Any]:
    """The metrics of an epoch: a line of `metrics.jsonl`.

    Args:
        position: that at the end of the epoch, before the next one begins.
        means: mean of each loss term over the images.
        accuracy: fraction of the evaluation images that are classified correctly; None where there are no labels.
        rate: learning rate of the last step.
        n_images: number of images trained on.
    """
    return {
        "epoch": position.epoch + 1,
        "steps": position.step,
        "images": n_images,
        "lr": rate,
        "loss": sum(means.values()),
        "terms": means,
        "accuracy": accuracy,
        "seconds": round(position.epoch_seconds, 3),
        "images_per_second": round(n_images / position.epoch_seconds, 1),
    }


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
        model: the network, in eval mode.
        split: images and labels.
        prepare: turns images in [0, 1] into the network's input.
        workers: processes that decode files.
        group: this process among all.
        stop: ends the evaluation.

    Returns:
        the fraction, and how many images were skipped because they could not be decoded; None in all processes if one
        of them was to stop.

    Raises:
        DataError: if not one image can be decoded.
        Diverged: if a logit is NaN or infinite, so that there is no class to be right or wrong.
    """
    batches = evaluation_batches(split, batch_size=512, workers=workers, device=group.device, shard=group.shard)
    info = model_info(model)
    answers = ((logits_in(model(prepare(batch.images)), info), batch.labels) for batch in batches)
    return share_right(answers, split, group=group, stop=stop)


@torch.no_grad()
def share_right(
    answers: Iterable[tuple[Tensor, Tensor]], split: Split, *, group: Ranks, stop: StopRequest | None = None
) -> tuple[float, int] | None:
    """Fraction of right answers, over all processes.

    Args:
        answers: logits [B, C] and classes [B] of this process's images of the split, batch by batch.
        split: all images.
        group: this process among all.
        stop: ends the evaluation.

    Returns:
        what `accuracy` returns.

    Raises:
        KdprobeError: as `accuracy`.
    """
    correct, seen, broken, stopped = (torch.zeros((), dtype=torch.int64, device=group.device) for _ in range(4))
    stop = stop or StopRequest()
    for logits, labels in stop.until(answers):
        correct += (logits.argmax(1) == labels).sum()
        broken += (~logits.isfinite()).any(1).sum()
        seen += len(labels)
    stopped += stop.reason is not None
    n_correct, n_seen, n_broken, n_stopped = group.sum(torch.stack([correct, seen, broken, stopped])).tolist()
    if n_stopped:
        return None
    if not n_seen:
        raise DataError(f"none of {len(split)} evaluation images can be decoded")
    if n_broken:
        raise Diverged(f"the network gives NaN or infinity for {n_broken} of {n_seen} evaluation images")
    return n_correct / n_seen, len(split) + split.n_skipped - n_seen
