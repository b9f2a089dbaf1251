"""Images as one uint8 tensor: how much is kept, and at what size."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from kdprobe.data.dataset import Split
from kdprobe.data.decode import decode_batch
from kdprobe.devices import usable_processors
from kdprobe.errors import DataError
from kdprobe.terminal.progress import progress

In = TypeVar("In")
Out = TypeVar("Out")
LIMIT = 2**30
CHUNK = 256
_AT_A_TIME = 4  # images that a thread decodes before it looks whether to go on


def fits(n_images: int, image_size: int) -> bool:
    """Whether so many square uint8 images stay within 1 GiB."""
    return n_images * 3 * image_size**2 <= LIMIT


def resize(images: UInt8[Tensor, "n 3 r r"], image_size: int) -> UInt8[Tensor, "n 3 s s"]:
    """Resample bilinearly with antialiasing; the same tensor where the size is already right."""
    if images.shape[-1] == image_size:
        return images
    result = images.new_empty(len(images), 3, image_size, image_size)
    for part, out in zip(torch.split(images, CHUNK), torch.split(result, CHUNK), strict=True):
        out.copy_(F.interpolate(part.float(), (image_size,) * 2, mode="bilinear", antialias=True).round())
    return result


def in_threads(function: Callable[[In], Out], items: Sequence[In]) -> Iterator[Out]:
    """The function of each item, in order, computed in threads: Pillow decodes outside the interpreter lock.

    Whatever ends it, an error or an interrupt, does not wait for what was not yet begun.
    """
    with ThreadPoolExecutor(usable_processors()) as pool:
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def into_memory(split: Split) -> Split:
    """Decode all of a split's files; with progress on stderr when it takes long.

    Returns:
        the split in memory, without the images that could not be decoded where they may be skipped.

    Raises:
        DataError: with the path of a file that cannot be decoded, or if none can.
    """
    if isinstance(split.images, Tensor):
        return split
    files, size = split.images, split.image_size
    parts = torch.split(torch.arange(len(files)), _AT_A_TIME)
    found = []
    batches = in_threads(lambda part: decode_batch(files, part.tolist(), image_size=size), parts)
    with progress("decoding", len(files)) as shown:
        for part, batch in zip(parts, batches, strict=True):
            found.append(batch)
            shown(len(part))
    kept = torch.cat([part[rows] for part, (_, rows) in zip(parts, found, strict=True)])
    if not len(kept):
        raise DataError(f"none of {len(files)} images can be decoded; the first is {files.paths[0]}")
    images = torch.cat([images for images, _ in found])
    return replace(split, images=images, labels=split.labels[kept], n_skipped=len(files) - len(kept))
