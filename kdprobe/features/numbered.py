"""Minibatches of a loader for a teacher and a student, with the classes and places of their samples."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from kdprobe.data import Batch, Split
from kdprobe.errors import AnalysisError
from kdprobe.features.minibatches import LABELS, SIZE, Forward, Minibatches, as_minibatches, fixed_order, n_samples

_ENOUGH = 1024  # samples of which, whatever the classes, two are of one


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
        AnalysisError: if the two show different images, or one may show an image twice in a minibatch.
    """
    left_loader = _minibatches(loader)
    if student_loader is None:
        _check_order(left_loader)
        yield from ((batch, batch) for batch in left_loader)
        return
    right_loader = _minibatches(student_loader, name="student_loader")
    for each in (left_loader, right_loader):
        if _check_order(each).shuffled:
            raise AnalysisError(
                "two loaders that shuffle show different images; give both a fixed order, or one loader"
            )
    for number, (left, right) in enumerate(zip_longest(left_loader, right_loader)):
        if left is None or right is None or not _same_samples(left, right, forward):
            raise AnalysisError(f"minibatch {number} holds different images for the student and the teacher")
        yield left, right


def order_of(loader: Minibatches) -> Tensor | None:
    """Places of the samples [n] of what becomes minibatches here, in their order; None for what gives minibatches."""
    if isinstance(loader, Split) or (isinstance(loader, Dataset) and not isinstance(loader, IterableDataset)):
        return fixed_order(len(loader))  # type: ignore[arg-type]
    return None


def _minibatches(loader: Minibatches, *, name: str = "loader") -> Iterable[Any]:
    """As `as_minibatches`; what becomes minibatches here comes in the order of `order_of`."""
    order = order_of(loader)
    if order is None:
        return as_minibatches(loader, name=name)
    if isinstance(loader, Split):
        return (replace(batch, index=order[batch.index]) for batch in as_minibatches(loader.take(order)))
    return DataLoader(loader, SIZE, sampler=order.tolist())  # type: ignore[arg-type]


@dataclass(frozen=True)
class SampleOrder:
    """How a loader gives the samples of its data set.

    Attributes:
        shuffled: whether it gives them in another order each time.
        repeated: whether it may give a sample twice in one minibatch, as one does that draws with replacement.
    """

    shuffled: bool = False
    repeated: bool = False

    @classmethod
    def of(cls, loader: Any) -> "SampleOrder":
        """As its sampler says when it is asked twice; nothing is known of a loader without one."""
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            return cls()
        asked = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
        inside = asked.sampler if isinstance(asked, BatchSampler) else asked
        if type(asked) is BatchSampler and isinstance(inside, SequentialSampler):
            return cls()
        with _undisturbed(inside, asked):
            one, two = ([_places(given) for given in asked] for _ in range(2))
        twice = any(len(set(places)) < len(places) for places in one)
        return cls(one != two, twice or getattr(inside, "replacement", False) is True)


def _check_order(loader: Any) -> SampleOrder:
    """The order of a loader, which is refused if it may give the same sample twice in one minibatch."""
    order = SampleOrder.of(loader)
    if order.repeated:
        batches = loader.batch_sampler
        drawn = type(batches.sampler if type(batches) is BatchSampler else batches).__name__
        raise AnalysisError(
            f"the loader's {drawn} may give a sample twice in one minibatch, and copies look alike to any two "
            "networks; give each sample once"
        )
    return order


@contextmanager
def _undisturbed(*samplers: Any) -> Iterator[None]:
    """Inside `with`, samplers may draw; afterwards all generators of random numbers are where they were."""
    own = [one.generator for one in samplers if isinstance(getattr(one, "generator", None), torch.Generator)]
    states = [one.get_state() for one in own]
    numbers, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - what samplers draw from
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(numbers)
        np.random.set_state(arrays)  # noqa: NPY002 - as above
        for generator, state in zip(own, states, strict=True):
            generator.set_state(state)


def _places(given: Any) -> tuple[Any, ...]:
    """Of one sample, or of those of a minibatch."""
    return tuple(given) if isinstance(given, Iterable) else (given,)


def _same_samples(left: Any, right: Any, forward: Forward | None) -> bool:
    if isinstance(left, Batch) and isinstance(right, Batch):
        return torch.equal(left.index.cpu(), right.index.cpu())
    if n_samples(left, forward) != n_samples(right, forward):
        return False
    one, other = (_numbers(_in_place_of_labels(batch)) for batch in (left, right))
    return one is None or other is None or torch.equal(one.cpu(), other.cpu())


def numbered_minibatches(
    loader: Minibatches, student_loader: Minibatches | None = None, forward: Forward | None = None
) -> Iterator[dict[str, Minibatch]]:
    """The same, by role; places are those in a split or data set, or count from 0 in the order in which samples come.

    Raises:
        AnalysisError: as `paired_minibatches`, if a minibatch holds no tensor, or, by its end, if places of the samples
            stand where classes are expected.
    """
    start, order, seconds = 0, order_of(loader), _Seconds()
    for left, right in paired_minibatches(loader, student_loader, forward):
        count = counted_samples(left, forward)
        places = torch.arange(start, start + count) if order is None else order[start : start + count]
        index = left.index.cpu() if isinstance(left, Batch) else places
        labels = labels_of(left, count)
        seconds.note(left, count)
        yield {"teacher": Minibatch(left, labels, index), "student": Minibatch(right, labels, index)}
        start += count
        if start >= _ENOUGH:
            seconds.check()
    seconds.check()


class _Seconds:
    """What stands second in tuples of three or more: classes come again in a pass, places of samples do not."""

    def __init__(self) -> None:
        self._seen: dict[int, set[float]] = {}
        self._again: set[int] = set()

    def note(self, batch: Any, count: int) -> None:
        """Look at a minibatch, as long as nothing came again in the second place."""
        if not isinstance(batch, tuple | list) or len(batch) < 3 or 1 in self._again:
            return
        for place, part in enumerate(batch[1:], 1):
            numbers = None if place in self._again else _numbers(part)
            if numbers is not None and numbers.shape == (count,):
                given, seen = numbers.tolist(), self._seen.setdefault(place, set())
                if len(set(given)) < count or not seen.isdisjoint(given):
                    self._again.add(place)
                seen.update(given)

    def check(self) -> None:
        """Refuse numbers that never came again beside others that did."""
        if self._again and 1 in self._seen and 1 not in self._again:
            raise AnalysisError(
                "what stands second in each minibatch, where classes are expected, is another number for each sample, "
                f"as places are, while part {min(self._again) + 1} has numbers that come again, as classes do; give "
                "images and classes first, or a mapping with a label"
            )


def counted_samples(batch: Any, forward: Forward | None) -> int:
    """How many samples a minibatch has: rows of its tensors, or members of a list, of texts say.

    Raises:
        AnalysisError: if it does not tell.
    """
    count = n_samples(batch, forward)
    if count is None and isinstance(batch, tuple | list) and batch:
        count = len(batch[0]) if isinstance(batch[0], list) else len(batch)
    if count is None:
        raise AnalysisError(
            f"a minibatch must hold tensors with a row per sample, or be a list, but is {type(batch).__name__} without "
            "any"
        )
    return count


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
    if SampleOrder.of(given).shuffled:
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
    """Classes of a minibatch's samples, zeros if it has none.

    Raises:
        AnalysisError: as `known_labels`.
    """
    found = known_labels(batch, count)
    return torch.zeros(count, dtype=torch.int64) if found is None else found


def known_labels(batch: Any, count: int) -> Tensor | None:
    """Classes of a minibatch's samples [B], under a usual name or second in a tuple; None if there are none.

    They may be whole numbers of any type, [B] or [B, 1], or one-hot [B, classes].

    Raises:
        AnalysisError: for numbers of each sample that are no classes, such as shares of several.
    """
    numbers = _numbers(_in_place_of_labels(batch))
    if numbers is None or numbers.ndim not in (1, 2) or len(numbers) != count:
        return None
    given = numbers.squeeze(1) if numbers.ndim == 2 and numbers.shape[1] == 1 else numbers
    if given.ndim == 2 and bool(((given == 0) | (given == 1)).all()) and bool((given.sum(1) == 1).all()):
        given = given.long().argmax(1)
    if given.ndim != 1 or bool((given != given.long()).any()) or bool((given < 0).any()):
        raise AnalysisError(
            f"classes must be whole numbers from 0 on, one a sample, but a minibatch has {numbers.dtype} of shape "
            f"{list(numbers.shape)} in their place, such as {numbers.flatten()[:4].tolist()}; leave them out, or give "
            "classes"
        )
    return given.long()


def _in_place_of_labels(batch: Any) -> Any:
    if isinstance(batch, Batch):
        return batch.labels
    if isinstance(batch, Mapping):
        return next((batch[key] for key in LABELS if key in batch), None)
    return batch[1] if isinstance(batch, tuple | list) and len(batch) > 1 else None


def _numbers(found: Any) -> Tensor | None:
    """Real numbers as a tensor; None for anything else."""
    if isinstance(found, Tensor):
        return None if found.is_complex() else found.detach()
    if isinstance(found, np.ndarray) and found.dtype.kind in "biuf":
        return torch.as_tensor(found)
    real = isinstance(found, list | tuple) and bool(found) and all(isinstance(one, int | float) for one in found)
    return torch.as_tensor(found) if real else None
