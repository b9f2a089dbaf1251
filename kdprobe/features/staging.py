"""From the device to the thread that writes: what is stored of a minibatch, without a wait on the way.

On a CUDA device values are cast and copied into pinned memory on a stream of their own: the networks go on, and it is
the thread that writes which waits for the copies. On a CPU that thread casts them itself, and nothing is copied.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

#: most bytes of minibatches that wait to be written: some of the features of a network, none of its weights
MOST_BYTES = 1 << 29
_LEAST_BYTES = 1 << 20  # that a minibatch counts, for what is kept besides its values
_TINY, _ENLARGED = 2.0**-40, 2.0**100  # values below the one are enlarged, so that their squares do not vanish


@dataclass(frozen=True, eq=False)
class Stored:
    """What is stored of a layer, and what tells whether it may be.

    Attributes:
        values: [b, ...] in the type that is stored.
        facts: of the values before they were cast: the least and the largest; for float16 also how many are
            infinite, and the sums of squares of the values, of their differences between samples, and of what
            float16 changes in these.
    """

    values: Tensor
    facts: Float64[Tensor, " facts"]

    @property
    def is_finite(self) -> bool:
        """Whether all values were finite before they were cast."""
        return bool(self.facts[:2].isfinite().all())

    @property
    def largest(self) -> float:
        """The largest absolute value; NaN if one was NaN."""
        return float(self.facts[:2].abs().amax())

    @property
    def halved(self) -> tuple[float, float]:
        """What float16 changes in the differences between samples, and these themselves: sums of squares.

        Both are 0 for values that vary by rounding alone, which float16 makes no worse.
        """
        total, kept, lost = self.facts[3:].tolist()
        varies = math.isfinite(self.largest) and kept > (8 * torch.finfo(torch.float32).eps) ** 2 * total
        return (lost, kept) if varies else (0.0, 0.0)

    @property
    def n_broken(self) -> tuple[int, int]:
        """How many values were NaN, and how many infinite."""
        infinite = self.facts[2] if len(self.facts) > 2 else self.values.isinf().sum()
        return int(self.values.isnan().sum()), int(infinite)


def as_stored(values: Tensor, dtype: torch.dtype) -> Stored:
    """Values in the type that is stored, on their own device and without waiting for it.

    Args:
        values: features [b, ...] or Gram matrices, of any floating type.
        dtype: `float32`, `float16`, or `float64` for Gram matrices.
    """
    wide = values.detach().to(torch.float64 if dtype is torch.float64 else torch.float32)
    ends = torch.stack(torch.aminmax(wide)) if wide.numel() else wide.new_zeros(2)
    if dtype is not torch.float16:
        return Stored(wide, ends.double())
    halves = wide.half()
    return Stored(halves, torch.cat([ends.double(), wide.isinf().sum()[None], _squares(wide, halves, ends)]))


def _squares(wide: Tensor, halves: Tensor, ends: Tensor) -> Tensor:
    """Sums of squares [3], as in `Stored.facts`."""
    factor = torch.where(ends.abs().amax() < _TINY, _ENLARGED, 1.0).to(wide.dtype)
    rows, change = wide.flatten(1) * factor, halves.flatten(1).float().sub_(wide.flatten(1)).mul_(factor)
    parts = [rows, rows - rows.mean(0), change.sub_(change.mean(0))]
    return torch.stack([part.square_().sum(dtype=torch.float64) for part in parts]) / factor.double().square()


@dataclass(frozen=True, eq=False)
class Staged:
    """A minibatch on its way to the thread that writes.

    Attributes:
        index: places of the samples [b], by role.
        labels: classes of the samples [b].
        features: by role and layer, as they are, or as they are stored.
        n_bytes: what they take in this machine's memory until they are written.
        wait: returns when they have come from a device; None where they are here.
    """

    index: Mapping[str, Tensor]
    labels: Tensor
    features: Mapping[str, Mapping[str, Tensor | Stored]]
    n_bytes: int
    wait: Callable[[], None] | None = None

    def arrived(self, dtype: torch.dtype) -> dict[str, dict[str, Stored]]:
        """What is stored of each layer; this waits for the device.

        Args:
            dtype: the type that is stored.
        """
        if self.wait is not None:
            self.wait()
        return {
            role: {name: x if isinstance(x, Stored) else as_stored(x.cpu(), dtype) for name, x in of.items()}
            for role, of in self.features.items()
        }


class Staging:
    """Takes minibatches from a device.

    Args:
        device: where features are.
        dtype: the type that is stored.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def take(self, index: Mapping[str, Tensor], labels: Tensor, features: Mapping[str, Mapping[str, Tensor]]) -> Staged:
        """Begin to take a minibatch, whose tensors nobody changes any more; returns at once.

        Args:
            index: places of the samples [b], by role.
            labels: classes of the samples [b].
            features: features [b, ...] or Gram matrices [b, b], by role and layer.
        """
        if self._stream is None:
            n_bytes = sum(values.nbytes for of in features.values() for values in of.values())
            places = {role: one.cpu() for role, one in index.items()}
            return Staged(places, labels.cpu().clone(), features, n_bytes)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            places = {role: self._copy(one) for role, one in index.items()}
            classes = self._copy(labels)
            stored = {role: {n: self._stored(x) for n, x in of.items()} for role, of in features.items()}
            arrived = self._stream.record_event(torch.cuda.Event(blocking=True))  # type: ignore[no-untyped-call]
        n_bytes = sum(one.values.nbytes for of in stored.values() for one in of.values())
        return Staged(places, classes, stored, n_bytes, arrived.synchronize)

    def _stored(self, values: Tensor) -> Stored:
        made = as_stored(values, self._dtype)
        values.record_stream(self._stream)  # type: ignore[arg-type]  # its memory is not given away before it was read
        return Stored(self._copy(made.values), self._copy(made.facts))

    def _copy(self, values: Tensor) -> Tensor:
        """A copy in pinned memory, which is there when the stream has come so far."""
        if not values.is_cuda:
            return values.clone()
        values.record_stream(self._stream)  # type: ignore[arg-type]
        return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)


@contextmanager
def behind(function: Callable[..., Any], *, most_bytes: int = MOST_BYTES) -> Iterator[Callable[..., None]]:
    """Call a function in a thread, in order; what waits for it takes no more than so many bytes, or is a single call.

    Its errors reach the caller, by the next call or at the end of the block; after one it is not called any more. What
    waits when the block fails is still called, unless a person interrupts it.

    Args:
        function: what is called.
        most_bytes: of calls that have not ended.

    Yields:
        a function that takes the bytes of a call, and what the other one takes.
    """
    pending: deque[tuple[int, Future[Any]]] = deque()
    failed = Event()

    def run(call: Callable[[], Any]) -> None:
        if failed.is_set():
            return
        try:
            call()
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(1) as executor:

        def call(n_bytes: int, /, *arguments: Any, **options: Any) -> None:
            n_bytes = max(n_bytes, _LEAST_BYTES)
            while pending and (pending[0][1].done() or sum(n for n, _ in pending) + n_bytes > most_bytes):
                pending.popleft()[1].result()
            pending.append((n_bytes, executor.submit(run, partial(function, *arguments, **options))))

        try:
            yield call
        except KeyboardInterrupt:
            executor.shutdown(wait=False, cancel_futures=True)  # what is not begun would take its time
            raise
        for _, future in pending:
            future.result()
