"""Minibatches of a loader for a teacher and a student, with the classes and places of their samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from kdprobe.data import Batch, Split
from kdprobe.errors import AnalysisError
from kdprobe.features.minibatches import LABELS, SIZE, Forward, Minibatches, as_minibatches, n_samples


@dataclass(frozen=True, eq=False)
class Minibatch:
    """Samples as a loader gives them, their classes [B], 0 where it gives none, and their places [B]."""

    content: Any
    labels: Tensor
    index: Tensor


def paired_minibatches(
    loader: Minibatches, student_loader: Minibatches | None, forward: Forward | None
) -> Iterator[tuple[Any, Any]]:
    """What the teacher and the student are shown: the same minibatches, or those of two loaders in step.

    Raises:
        AnalysisError: if the two show different images.
    """
    if student_loader is None:
        yield from ((batch, batch) for batch in as_minibatches(loader))
        return
    left_loader, right_loader = as_minibatches(loader), as_minibatches(student_loader, name="student_loader")
    if shuffles(left_loader) or shuffles(right_loader):
        raise AnalysisError("two loaders that shuffle show different images; give both a fixed order, or one loader")
    for number, (left, right) in enumerate(zip_longest(left_loader, right_loader)):
        if left is None or right is None or not _same_samples(left, right, forward):
            raise AnalysisError(f"minibatch {number} holds different images for the student and the teacher")
        yield left, right


def shuffles(loader: Any) -> bool:
    """Whether a loader is known to give its samples in random order."""
    return isinstance(loader, DataLoader) and isinstance(loader.sampler, RandomSampler)


def _same_samples(left: Any, right: Any, forward: Forward | None) -> bool:
    if isinstance(left, Batch) and isinstance(right, Batch):
        return torch.equal(left.index.cpu(), right.index.cpu())
    return n_samples(left, forward) == n_samples(right, forward)


def numbered_minibatches(
    loader: Minibatches, student_loader: Minibatches | None = None, forward: Forward | None = None
) -> Iterator[dict[str, Minibatch]]:
    """The same, by role; places are those in a split, or count from 0 in the order in which samples come.

    Raises:
        AnalysisError: as `paired_minibatches`, or if a minibatch holds no tensor.
    """
    start = 0
    for left, right in paired_minibatches(loader, student_loader, forward):
        count = n_samples(left, forward)
        if count is None:
            raise AnalysisError(
                f"a minibatch must hold tensors with a row per sample, but is {type(left).__name__} without any"
            )
        index = left.index.cpu() if isinstance(left, Batch) else torch.arange(start, start + count)
        labels = labels_of(left, count)
        yield {"teacher": Minibatch(left, labels, index), "student": Minibatch(right, labels, index)}
        start += count


@dataclass(frozen=True, eq=False)
class InOrder:
    """A loader whose minibatches, all of one size but the last, can be read from any of them on.

    Attributes:
        roles: of the networks, `teacher` and `student`, or one of them.
        loader: with samples in a fixed order.
        student_loader: the same samples as the student takes them, if it takes others.
        forward: runs a network on a minibatch of any form.
        n_samples: of all of them.
        batch_size: of all but the last.
    """

    roles: Sequence[str]
    loader: Minibatches
    student_loader: Minibatches | None
    forward: Forward | None
    n_samples: int
    batch_size: int

    @classmethod
    def of(
        cls,
        roles: Sequence[str],
        loader: Minibatches,
        student_loader: Minibatches | None = None,
        forward: Forward | None = None,
    ) -> "InOrder":
        """The loader with its size.

        Raises:
            AnalysisError: if it shuffles, or its number of samples is not known.
        """
        return cls(roles, loader, student_loader, forward, *_size(loader, forward))

    def __call__(self, start: int, stop: int) -> Iterator[Mapping[str, Batch | Minibatch]]:
        """Minibatches of samples [start, stop), which begin with one.

        Raises:
            AnalysisError: for minibatches of different sizes, or fewer samples than before.
        """
        first = 0
        for number, batches in enumerate(numbered_minibatches(self.loader, self.student_loader, self.forward)):
            if first >= stop:
                return
            count = len(batches["teacher"].index)
            if count != min(self.batch_size, self.n_samples - first):
                raise AnalysisError(
                    f"minibatch {number} has {count} samples, but all must have {self.batch_size}, except the last of "
                    f"{self.n_samples} samples"
                )
            if first >= start:
                yield {role: batches[role] for role in self.roles}
            first += count
        if first < stop:
            raise AnalysisError(f"the loader gave {first} samples, but {self.n_samples} before")


def _size(loader: Minibatches, forward: Forward | None) -> tuple[int, int]:
    """Number of samples, and of those in the first minibatch."""
    given = loader if isinstance(loader, Split) else as_minibatches(loader)
    if shuffles(given):
        raise AnalysisError("a dump needs samples in a fixed order, but the loader shuffles; give shuffle=False")
    if isinstance(given, Split):
        return len(given), SIZE
    if isinstance(given, DataLoader) and given.batch_size and not isinstance(given.dataset, IterableDataset):
        rest = len(given.sampler) % given.batch_size if given.drop_last else 0  # type: ignore[arg-type]
        return len(given.sampler) - rest, given.batch_size  # type: ignore[arg-type]
    if isinstance(given, Tensor | tuple | list):
        counts = [n_samples(batch, forward) or 0 for batch in given]
        if sum(counts):
            return sum(counts), counts[0]
    raise AnalysisError(
        f"a dump needs to know its number of samples, which a {type(given).__name__} does not tell; give a list of "
        "minibatches, or a DataLoader of a Dataset with a batch size"
    )


def labels_of(batch: Any, count: int) -> Tensor:
    """Classes of a minibatch's samples: whole numbers under a usual name, or second in a tuple; otherwise zeros."""
    found: Any = None
    if isinstance(batch, Batch):
        found = batch.labels
    elif isinstance(batch, Mapping):
        found = next((batch[key] for key in LABELS if key in batch), None)
    elif isinstance(batch, tuple | list) and len(batch) > 1:
        found = batch[1]
    whole = isinstance(found, Tensor) and not found.is_floating_point() and found.shape == (count,)
    return found.long() if whole else torch.zeros(count, dtype=torch.int64)
