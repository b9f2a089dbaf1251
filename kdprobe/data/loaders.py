"""Batches of a split: shuffled and varied for training, in fixed order for evaluation.

Order and variation are functions of (seed, epoch) alone, and each image's variation of
(seed, epoch, its view): batch size, number of workers and device change nothing about them.
View v of a split of n images is image v mod n, for the (v // n)-th time. With `augment.period` K, the variations of
epoch e are those of epoch e mod K; its order is its own.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float32, Int64
from numpy.typing import NDArray
from torch import Tensor, multiprocessing
from torch.utils.data import DataLoader, Dataset, get_worker_info

from kdprobe.config import AugmentConfig
from kdprobe.data.augment import Variation, draw_variations, generator, shift_and_flip
from kdprobe.data.dataset import Split
from kdprobe.data.decode import decode_batch, resize
from kdprobe.data.erase import erase
from kdprobe.data.policy import Policy, make_policy, vary
from kdprobe.devices import sent, usable_processors
from kdprobe.errors import ConfigError, DataError

_Item = tuple[Tensor | NDArray[Any], Tensor | NDArray[Any]]
STILL = AugmentConfig(crop="none", flip=False)


@dataclass(frozen=True, eq=False)
class Batch:
    """Images [B, c, s, s] in [0, 1], not normalised; their classes [B]; their places in the split [B].

    `n_skipped` images are missing because they could not be decoded. `view` [B] numbers what training images look like
    over all epochs of a seed: images of one number are the same to the bit. None for others. It stays on the CPU.
    `among` is the number of images of the split, 0 where it is not known.

    Example:
        >>> from kdprobe.data import evaluation_batches, load_data
        >>> batch = next(evaluation_batches(load_data("digits", image_size=16).test, batch_size=4))
        >>> batch.images.shape, batch.labels.tolist(), batch.index.tolist()
        (torch.Size([4, 3, 16, 16]), [8, 9, 0, 3], [0, 1, 2, 3])
    """

    images: Float32[Tensor, "B c s s"]
    labels: Int64[Tensor, " B"]
    index: Int64[Tensor, " B"]
    n_skipped: int = 0
    view: Int64[Tensor, " B"] | None = None
    among: int = 0

    def take(self, places: slice | Int64[Tensor, " k"]) -> "Batch":
        """The images at some places of the batch, which are given on the CPU."""
        view = None if self.view is None else self.view[places]
        if isinstance(places, Tensor):
            places = sent(places, self.images.device)
        taken = self.images[places], self.labels[places], self.index[places]
        return Batch(*taken, view=view, among=self.among)


def n_batches(n_images: int, batch_size: int, world: int = 1) -> int:
    """The number of batches that `training_batches` yields to each of `world` processes.

    A last batch with fewer than two images for each process joins the batch before it.

    Raises:
        ConfigError: if a batch has fewer images than there are processes.
        DataError: if the split has fewer images than there are processes.

    Example:
        >>> from kdprobe.data import n_batches
        >>> n_batches(1438, 64)
        23
    """
    if batch_size < world:
        raise ConfigError(f"each of {world} processes needs an image of each batch, but the batch size is {batch_size}")
    if n_images < world:
        raise DataError(f"each of {world} processes needs an image, but there are {n_images}")
    full, rest = divmod(n_images, batch_size)
    return full + (rest >= 2 * world or (rest > 0 and full == 0))


def training_batches(
    split: Split,
    *,
    batch_size: int,
    augment: AugmentConfig,
    seed: int,
    epoch: int,
    workers: int = 2,
    device: str | torch.device = "cpu",
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
    pixels: bool = True,
) -> Iterator[Batch]:
    """One epoch in random order with random variations.

    Every image comes exactly once, or, with `augment.repeats` r, a random part of them r times in a row (the
    last one perhaps fewer times) in an epoch of the same length. Where a process's part of the last batch would be a
    single image, which batch norm cannot handle, or none, this batch joins the one before it.

    Args:
        split: the images.
        batch_size: images per batch.
        augment: how images are varied.
        seed: that of the data.
        epoch: the epoch whose order and variations are wanted.
        workers: processes that decode files and apply `augment.rand_augment`; 0 does both in this one.
        device: the device to put the batches on.
        start: batches to leave out at the beginning, for an epoch that was interrupted.
        shard: (r, k) yields the r-th of k equal parts of each batch, for process r of k.
        pixels: read the images; without, they are empty [B, 3, 0, 0], for who needs their places and classes alone.

    Raises:
        ConfigError: if `augment` asks for random areas of images in memory.
        DataError: for a split of one image, or with the path of a file that cannot be decoded; where these
            are skipped, if fewer than two of a batch are left.
        KdprobeError: as `n_batches`.

    Reference:
        Hoffer et al. (2020), Augment your batch; Touvron et al. (2021), DeiT (repeated augmentation).

    Example:
        >>> from kdprobe.config import AugmentConfig
        >>> from kdprobe.data import load_data, training_batches
        >>> digits = load_data("digits", image_size=16)
        >>> batch = next(training_batches(digits.train, batch_size=8, augment=AugmentConfig(), seed=0, epoch=0))
        >>> batch.images.shape, batch.index.tolist()
        (torch.Size([8, 3, 16, 16]), [601, 589, 961, 1255, 673, 228, 488, 424])
    """
    if augment.crop == "resized" and isinstance(split.images, Tensor):
        raise ConfigError("augment.crop 'resized' cuts from image files: it needs data.storage 'files'")
    if len(split) == 1 < batch_size:
        raise DataError("training needs at least two images, but there is only one")
    ends = [batch_size * i for i in range(1, n_batches(len(split), batch_size, shard[1]))]
    augment = _in_pixels_of_the_view(augment, split)
    order = _order(len(split), augment.repeats, seed=seed, epoch=epoch)
    parts = [part.tensor_split(shard[1])[shard[0]] for part in order.tensor_split(ends)[start:]]
    batch_of = _Labelled(split, device)
    if not pixels:
        for part in parts:
            yield batch_of(torch.empty(len(part), 3, 0, 0, device=device), sent(part, device))
        return
    n_views, varied_as = len(split) * augment.repeats, augment.varied_as(epoch)
    variation = [sent(entry, device) for entry in draw_variations(n_views, augment, seed=seed, epoch=varied_as)]
    padding = augment.padding if augment.crop == "pad" else 0
    first_key = generator(seed, varied_as, 3).initial_seed() % 2**32
    work = _Work(split, parts, augment, seed, varied_as)
    for found, part in zip(_images(work, workers=workers, device=device), parts, strict=True):
        n_found = len(found.views)
        if n_found < min(2, len(part)):
            raise DataError(f"only {n_found} of a batch of {len(part)} images can be decoded, but two are needed")
        chosen = Variation(*(entry[found.sent] for entry in variation))
        varied = shift_and_flip(found.images, chosen, padding=padding)
        if augment.erase:
            varied = erase(varied, found.views + first_key, probability=augment.erase)
        number = found.views + n_views * varied_as
        yield batch_of(varied, found.sent, n_skipped=len(part) - n_found, view=number)


def _in_pixels_of_the_view(augment: AugmentConfig, split: Split) -> AugmentConfig:
    """The same variations of images that are made larger than the student sees them."""
    if split.student_size is None:
        return augment
    return augment.model_copy(update={"padding": round(augment.padding * split.image_size / split.student_size)})


def _order(n_images: int, repeats: int, *, seed: int, epoch: int) -> Tensor:
    """The views of an epoch, the same number as there are images."""
    order = torch.randperm(n_images, generator=generator(seed, epoch, 0))
    again = n_images * torch.arange(repeats)
    return (order[: -(-n_images // repeats), None] + again).flatten()[:n_images]


def evaluation_batches(
    split: Split,
    *,
    batch_size: int,
    workers: int = 2,
    device: str | torch.device = "cpu",
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """All images without variations, in the split's order.

    Args:
        split: the images.
        batch_size: images per batch; the last batch has the remainder.
        workers: processes that decode files; 0 decodes in this one. Not used for images in memory.
        device: the device to put the batches on.
        shard: (r, k) yields only the r-th of k parts of the split, without repeating any image.

    Raises:
        DataError: with the path of a file that cannot be decoded.

    Example:
        >>> from kdprobe.data import evaluation_batches, load_data
        >>> digits = load_data("digits", image_size=16)
        >>> [len(batch.labels) for batch in evaluation_batches(digits.test, batch_size=128)]
        [128, 128, 103]
    """
    parts = torch.split(torch.arange(len(split)).tensor_split(shard[1])[shard[0]], batch_size)
    work = _Work(split, parts, STILL)
    batch_of = _Labelled(split, device)
    for found, part in zip(_images(work, workers=workers, device=device), parts, strict=True):
        if n_found := len(found.views):
            yield batch_of(found.images, found.sent, n_skipped=len(part) - n_found)


class _Labelled:
    """Makes batches of a split; its labels are sent to the device once."""

    def __init__(self, split: Split, device: str | torch.device) -> None:
        self.labels = sent(split.labels, device)
        # by a plain number a GPU would multiply with its reciprocal
        self.white = torch.full((), 255.0, device=device)

    def __call__(self, images: Tensor, views: Tensor, *, n_skipped: int = 0, view: Tensor | None = None) -> Batch:
        index = views % len(self.labels)
        return Batch(images.float().div_(self.white), self.labels[index], index, n_skipped, view, len(self.labels))


@dataclass(frozen=True, eq=False)
class _Work:
    """What to prepare: the views of each batch, and how each image is varied, as it is in this epoch."""

    split: Split
    parts: Sequence[Tensor]
    augment: AugmentConfig
    seed: int = 0
    epoch: int = 0


class _Found(NamedTuple):
    """The uint8 images of a part on the device, and their views, on the CPU and on the device."""

    images: Tensor
    views: Tensor
    sent: Tensor


def _images(work: _Work, *, workers: int, device: str | torch.device) -> Iterator[_Found]:
    split = work.split
    if isinstance(split.images, Tensor) and work.augment.rand_augment is None:
        images = split.images.to(device)  # a whole set in memory is at most 1 GiB; it may be there (`Split.on`)
        for views in work.parts:
            places = sent(views, device)
            yield _Found(resize(images[places % len(split)], split.image_size), views, places)
        return
    yield from one_ahead(_prepared(work, workers=workers, device=device), device)


def one_ahead(items: Iterator[tuple[Tensor, Tensor]], device: str | torch.device) -> Iterator[_Found]:
    """Send images and views; to a CUDA device on a stream of its own, while it computes with the ones before."""
    if torch.device(device).type != "cuda":
        yield from (_Found(images.to(device), views, views.to(device)) for images, views in items)
        return
    stream, waiting = torch.cuda.Stream(device), None  # type: ignore[no-untyped-call]
    for images, views in items:
        with torch.cuda.stream(stream):
            following = _Found(sent(images, device), views, sent(views, device))
            arrived = stream.record_event()
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = following, arrived
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(found: _Found, arrived: torch.cuda.Event) -> _Found:
    """What was sent, for the stream that computes: the device, not the program, waits until it is there."""
    computing = torch.cuda.current_stream(found.images.device)
    computing.wait_event(arrived)
    for tensor in (found.images, found.sent):
        tensor.record_stream(computing)  # its memory is not given away before
    return found


def _prepared(work: _Work, *, workers: int, device: str | torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The uint8 images of each part, with their views, in this process's memory."""
    prepared = _Prepared(work, in_workers=workers > 0)
    loader = DataLoader(
        prepared,
        batch_size=None,
        collate_fn=_as_it_is,  # else arrays would become tensors, which go through shared memory
        num_workers=min(workers, usable_processors()),
        prefetch_factor=4 if workers else None,  # evens out files that take long to decode
        pin_memory=torch.device(device).type == "cuda",
        generator=torch.Generator(),  # else the loader draws from the global one
        worker_init_fn=_obey,
    )
    try:
        for item in loader:
            if isinstance(item, str):
                raise DataError(item)
            images, views = map(torch.as_tensor, item)
            yield images, views
    except (RuntimeError, ConnectionError, EOFError) as error:
        if not _of_a_worker_that_ended(error):
            raise
        raise DataError(
            "a process that reads images ended before its work was done, perhaps for want of memory or in code of the "
            "dataset's own; data.workers=0 reads them in the main process"
        ) from error
    finally:
        prepared.unwanted.set()


def _of_a_worker_that_ended(error: Exception) -> bool:
    """Whether torch says that a worker ended, or reading from it failed, as it does a moment before torch knows."""
    if isinstance(error, RuntimeError):
        return "exited unexpectedly" in str(error) or "killed by signal" in str(error)
    with suppress(RuntimeError):
        time.sleep(1)  # torch's signal handler would raise its error elsewhere
    return True


def _obey(_: int) -> None:
    """Let a worker end in peace when all of a job's processes are told to: torch makes an error of any other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the parent, which ends its workers
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def _as_it_is(item: Any) -> Any:
    return item


def _sendable(images: Tensor, views: Tensor) -> _Item:
    """What reaches the parent of a worker even when shared memory is full, as it soon is in a container.

    torch would ask for that memory in a thread of its own, where the error is lost and the parent waits forever.
    """
    if get_worker_info() is None:
        return images, views
    try:
        return images.share_memory_(), views.numpy()  # type: ignore[no-untyped-call]
    except RuntimeError:
        return images.numpy(), views.numpy()  # through a pipe


class _Prepared(Dataset[_Item | str]):
    """Decodes and varies one part per item; an error comes back as its text, which survives the way from a worker.

    Attributes:
        unwanted: set when nobody waits for further parts: torch gives each worker five seconds for ending the one
            that it is at.
    """

    def __init__(self, work: _Work, *, in_workers: bool) -> None:
        # not every system has what processes share; a single one needs none of it
        self.work, self.unwanted = work, multiprocessing.Event() if in_workers else threading.Event()
        policy, size = work.augment.rand_augment, work.split.image_size
        self.policy: Policy | None = None if policy is None else make_policy(policy, image_size=size)

    def __len__(self) -> int:
        return len(self.work.parts)

    def __getitem__(self, item: int) -> _Item | str:
        views = self.work.parts[item]
        try:
            images, kept = self._read(views)
        except DataError as error:
            return str(error)
        views = views[kept]
        if self.policy is not None:
            images = vary(images, self.policy, views, seed=self.work.seed, epoch=self.work.epoch)
        return _sendable(images, views)

    def _read(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Images at their final size, and which of the views they are."""
        work, split = self.work, self.work.split
        index = views % len(split)
        if isinstance(split.images, Tensor):
            return resize(split.images[index], split.image_size), torch.arange(len(views))
        resized = work.augment.crop == "resized"
        sources = [generator(work.seed, work.epoch, 2, view) for view in views.tolist()] if resized else None
        return decode_batch(
            split.images, index.tolist(), image_size=split.image_size, sources=sources, unwanted=self.unwanted.is_set
        )
