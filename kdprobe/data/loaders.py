"""Batches of a split: shuffled and varied for training, in fixed order for evaluation.

Order and variation are functions of (seed, epoch) alone, and each image's variation of
(seed, epoch, its index): batch size, number of workers and device change nothing about them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kdprobe.config import AugmentConfig
from kdprobe.data.augment import Variation, draw, generator, shift_and_flip
from kdprobe.data.dataset import ImageFiles, Split
from kdprobe.data.decode import decode_batch
from kdprobe.data.memory import resize
from kdprobe.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Batch:
    """Images [B, 3, s, s] in [0, 1], not normalised; their classes [B]; their places in the split [B]."""

    images: Float32[Tensor, "B 3 s s"]
    labels: Int64[Tensor, " B"]
    index: Int64[Tensor, " B"]


def n_batches(n_images: int, batch_size: int) -> int:
    """How many batches `training_batches` yields: a single image left over joins the batch before it."""
    full, rest = divmod(n_images, batch_size)
    return full + (rest > 1 or (rest == 1 and full == 0))


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
) -> Iterator[Batch]:
    """One epoch in random order with random variations.

    Every image comes exactly once. Where one image would be left over for the last batch, which batch
    norm cannot take, it joins the batch before it.

    Args:
        split: where from.
        batch_size: images per batch.
        augment: how images are varied.
        seed: of the run.
        epoch: which epoch's order and variations.
        workers: processes that decode files; 0 decodes in this one. Not used for images in memory.
        device: where the batches are wanted.
        start: batches to leave out in front, for an epoch that was interrupted.
        shard: (r, k) yields the r-th of k equal parts of each batch, for one process of k.

    Raises:
        ConfigError: if `augment` asks for random areas of images in memory.
        DataError: for a split of one image, or with the path of a file that cannot be decoded.
    """
    if augment.crop == "resized" and isinstance(split.images, Tensor):
        raise ConfigError("augment.crop 'resized' cuts from image files: it needs data.storage 'files'")
    if len(split) == 1 < batch_size:
        raise DataError("training needs at least two images, but there is one")
    order = torch.randperm(len(split), generator=generator(seed, epoch, 0))
    ends = [batch_size * i for i in range(1, n_batches(len(split), batch_size))]
    parts = [part.tensor_split(shard[1])[shard[0]] for part in order.tensor_split(ends)[start:]]
    variation = draw(len(split), augment, seed=seed, epoch=epoch)
    padding = augment.padding if augment.crop == "pad" else 0
    key = (seed, epoch) if augment.crop == "resized" else None
    for images, index in _images(split, parts, workers=workers, device=device, key=key):
        chosen = Variation(*(part[index].to(device) for part in variation))
        yield _batch(split, shift_and_flip(images, chosen, padding=padding), index)


def evaluation_batches(
    split: Split,
    *,
    batch_size: int,
    workers: int = 2,
    device: str | torch.device = "cpu",
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """All images as they are, in the split's order.

    Args:
        split: where from.
        batch_size: images per batch; the last one has what is left.
        workers: processes that decode files; 0 decodes in this one. Not used for images in memory.
        device: where the batches are wanted.
        shard: (r, k) yields only the r-th of k parts of the split, without repeating any image.

    Raises:
        DataError: with the path of a file that cannot be decoded.
    """
    parts = torch.split(torch.arange(len(split)).tensor_split(shard[1])[shard[0]], batch_size)
    for images, index in _images(split, parts, workers=workers, device=device):
        yield _batch(split, images, index)


def _batch(split: Split, images: Tensor, index: Tensor) -> Batch:
    device = images.device
    return Batch(images.float().div_(255), split.labels[index].to(device), index.to(device))


def _images(
    split: Split,
    parts: Sequence[Tensor],
    *,
    workers: int,
    device: str | torch.device,
    key: tuple[int, int] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The uint8 images of each part on the device, with their indices."""
    if isinstance(split.images, Tensor):
        images = split.images.to(device)  # a whole set in memory is at most 1 GiB
        for index in parts:
            yield resize(images[index.to(device)], split.image_size), index
        return
    loader = DataLoader(
        _Decoding(split.images, split.image_size, parts, key),
        batch_size=None,
        num_workers=workers,
        pin_memory=torch.device(device).type == "cuda",
        generator=torch.Generator(),  # else the loader draws from the global one
    )
    for index, images in zip(parts, loader, strict=True):
        if isinstance(images, str):
            raise DataError(images)
        yield images.to(device, non_blocking=True), index


class _Decoding(Dataset[Tensor | str]):
    """Decodes one part per item; an error comes back as its text, which survives the way from a worker."""

    def __init__(
        self, files: ImageFiles, image_size: int, parts: Sequence[Tensor], key: tuple[int, int] | None
    ) -> None:
        self.files, self.image_size, self.parts, self.key = files, image_size, parts, key

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, item: int) -> Tensor | str:
        index = self.parts[item].tolist()
        sources = [generator(*self.key, 2, i) for i in index] if self.key else None
        try:
            return decode_batch(self.files, index, image_size=self.image_size, sources=sources)
        except DataError as error:
            return str(error)
