"""Images as uint8 squares: one, a batch or a whole split, decoded from files or items (as `rgb` says), or resized.

Pillow decodes and resamples; that is exact: the same pixels everywhere. Fast is, first, to read a JPEG file at 1/2, 1/4
or 1/8 of its size where at least one of its pixels is left for each that is wanted: its blocks of 8x8 are averaged
before they are decoded. Second, to resample by torch, which does several pixels at a time: from the part itself, at
whole pixels, where Pillow looks at what lies beside it too and at fractions.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from kdprobe.data.augment import random_box
from kdprobe.data.dataset import ImageFiles, ImageItems, Pictures, Split
from kdprobe.data.items import item_picture
from kdprobe.data.rgb import FROM_BOTTOM, FROM_RIGHT, SIDEWAYS, orientation, rgb
from kdprobe.devices import usable_processors
from kdprobe.errors import DataError
from kdprobe.terminal.progress import progress

_Item = TypeVar("_Item")
_Done = TypeVar("_Done")
_MOST_BYTES = 2**30  # of decoded images that are kept in memory
_CHUNK = 256  # images resized at a time
_AT_A_TIME = 4  # images that a thread decodes before it looks whether to go on
_BY_TORCH = ("bicubic", "bilinear")  # interpolations that torch has with antialiasing
Box = tuple[float, float, float, float]
#: formats that are decoded, by Pillow's names, with the endings of their files. Never those that Pillow hands to other
#: programs, such as PostScript to Ghostscript: what a file holds decides, not how it is named
_FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c"),
    "AVIF": (".avif",),
}
SUFFIXES = tuple(suffix for suffixes in _FORMATS.values() for suffix in suffixes)
_NAMES = tuple(_FORMATS)


def decode(
    pictures: Pictures, place: int, *, image_size: int, source: torch.Generator | None = None
) -> NDArray[np.uint8]:
    """Decode an image and bring one part of it to a square.

    Args:
        pictures: image files or items of a dataset, and how they are shown.
        place: which of them.
        image_size: side of the square in pixels.
        source: if given, it decides on a random part that is taken instead of the centre.

    Returns:
        [3, s, s], resampled with antialiasing.

    Raises:
        DataError: with the file's path or the item's number, if it is not an image that can be decoded.
    """

    def part_of(width: int, height: int) -> Box:
        fraction, squash = pictures.crop_fraction, pictures.squash
        return random_box(height, width, source) if source else _centre(height, width, fraction, squash=squash)

    if pictures.fast and isinstance(pictures, ImageFiles):
        image, box = _reduced(pictures.name(place), part_of, image_size)
    else:
        image = picture(pictures, place)
        box = part_of(*image.size)
    if pictures.fast and pictures.interpolation in _BY_TORCH:
        return _by_torch(image, box, image_size, pictures.interpolation)
    if (image.size, box) != ((image_size, image_size), (0, 0, image_size, image_size)):
        image = image.resize((image_size, image_size), Image.Resampling[pictures.interpolation.upper()], box=box)
    return np.asarray(image).transpose(2, 0, 1)


def _reduced(path: str, part_of: Callable[[int, int], Box], image_size: int) -> tuple[Image.Image, Box]:
    """An image file at the least size with a pixel for each that is wanted, and the part that is wanted, in it."""
    with _opened(path) as file:
        if not isinstance(file, JpegImageFile):
            image = rgb(file, path)
            return image, part_of(*image.size)
        lies = orientation(file)
        width, height = file.size[::-1] if lies in SIDEWAYS else file.size
        left, top, right, bottom = part_of(width, height)
        most = min(right - left, bottom - top) / image_size
        times = next((times for times in (8, 4, 2) if times <= most), 1)
        if times > 1 and file.draft(None, (file.width // times, file.height // times)) is None:
            times = 1
        image = rgb(file, path)
    # a last pixel that only a part of the file falls into comes first where the file was turned
    right_of = image.width - width / times if lies in FROM_RIGHT else 0.0
    below = image.height - height / times if lies in FROM_BOTTOM else 0.0
    box = left / times + right_of, top / times + below, right / times + right_of, bottom / times + below
    return image, box


def _by_torch(image: Image.Image, box: Box, image_size: int, interpolation: str) -> NDArray[np.uint8]:
    """A part of an image, to whole pixels, as a square [3, s, s]."""
    left, top, right, bottom = map(round, box)
    part = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    pixels = torch.from_numpy(np.array(part)).permute(2, 0, 1)
    if part.size != (image_size, image_size):
        pixels = F.interpolate(pixels[None], (image_size,) * 2, mode=interpolation, antialias=True)[0]
    return pixels.numpy()


def picture(pictures: Pictures, place: int) -> Image.Image:
    """An image in red, green and blue of 8 bits, upright, at the size that it has.

    Raises:
        DataError: as `decode`.
    """
    if isinstance(pictures, ImageItems):
        return item_picture(pictures, place)
    path = pictures.name(place)
    with _opened(path) as file:
        return rgb(file, path)


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """An image of one of `_FORMATS`; whatever is raised inside becomes one error with the path."""
    try:
        with open(path, "rb", opener=_without_waiting) as file, Image.open(file, formats=_NAMES) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # Pillow's plugins raise what they like
        raise DataError(f"{path} cannot be decoded as an image ({type(error).__name__})") from error


def _without_waiting(path: str, flags: int) -> int:
    """Open a file without blocking: a pipe without a writer is empty."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def image_side(pictures: Pictures, place: int) -> int:
    """The shorter side of an image in pixels; a file is not decoded for it.

    Raises:
        DataError: as `decode`.
    """
    if isinstance(pictures, ImageItems):
        return min(item_picture(pictures, place).size)
    with _opened(pictures.name(place)) as image:
        return min(image.size)


def first_side(pictures: Pictures, *, skip_bad: bool) -> int:
    """The side of the first image; where it may be skipped, of the first that can be read, if there is one.

    Raises:
        DataError: as `decode`.
    """
    for place in range(len(pictures)) if skip_bad else ():
        with suppress(DataError):
            return image_side(pictures, place)
    return image_side(pictures, 0)


def decode_batch(
    pictures: Pictures,
    index: Sequence[int],
    *,
    image_size: int,
    sources: Sequence[torch.Generator] | None = None,
    unwanted: Callable[[], bool] = lambda: False,
) -> tuple[Tensor, Tensor]:
    """Decode some of a split's images, one after another.

    Args:
        pictures: the split's images.
        index: the places of the wanted ones.
        image_size: side in pixels.
        sources: for each image, what decides the random part that is taken; none is taken if not given.
        unwanted: asked before each image whether nothing waits for them any more; then the rest is left out.

    Returns:
        uint8 [B, 3, s, s], and which of `index` they are, int64 [B]: all of them, unless `pictures.skip_bad`.

    Raises:
        DataError: naming the first that cannot be decoded.
    """
    images = np.empty((len(index), 3, image_size, image_size), np.uint8)
    kept: list[int] = []
    for row, i in enumerate(index):
        if unwanted():
            break
        source = sources[row] if sources else None
        try:
            images[len(kept)] = decode(pictures, i, image_size=image_size, source=source)
        except DataError:
            if not pictures.skip_bad:
                raise
            continue
        kept.append(row)
    return torch.from_numpy(images[: len(kept)]), torch.tensor(kept, dtype=torch.int64)


def _centre(height: int, width: int, fraction: float, *, squash: bool = False) -> Box:
    high, wide = (fraction * height, fraction * width) if squash else (fraction * min(height, width),) * 2
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high


def fits(n_images: int, image_size: int) -> bool:
    """Whether this many square uint8 images stay within 1 GiB."""
    return n_images * 3 * image_size**2 <= _MOST_BYTES


def resize(images: UInt8[Tensor, "n 3 r r"], image_size: int) -> UInt8[Tensor, "n 3 s s"]:
    """Resample bilinearly with antialiasing; the same tensor if it has that size already."""
    if images.shape[-1] == image_size:
        return images
    result = images.new_empty(len(images), 3, image_size, image_size)
    for part, out in zip(torch.split(images, _CHUNK), torch.split(result, _CHUNK), strict=True):
        out.copy_(at_size(part.float(), image_size).round())
    return result


def at_size(images: Float[Tensor, "n c h w"], image_size: int) -> Float[Tensor, "n c s s"]:
    """Resample bilinearly with antialiasing; values stay in their range."""
    return F.interpolate(images, (image_size,) * 2, mode="bilinear", antialias=True)


def in_turn(pictures: Pictures, function: Callable[[_Item], _Done], items: Sequence[_Item]) -> Iterator[_Done]:
    """The function of each item, in order; of image files in threads, as Pillow decodes outside the interpreter lock.

    A dataset of one's own need not bear several threads. An error or an interrupt does not wait for items that have
    not begun.
    """
    if isinstance(pictures, ImageItems):
        yield from map(function, items)
        return
    with ThreadPoolExecutor(usable_processors()) as pool:
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def into_memory(split: Split) -> Split:
    """Decode all of a split's images; with progress on stderr when it takes long.

    Returns:
        the split in memory, without the images that could not be decoded where they may be skipped.

    Raises:
        DataError: naming one that cannot be decoded, or if none can.
    """
    if isinstance(split.images, Tensor) or not len(split):
        return split
    pictures, size = split.images, split.image_size
    parts = torch.split(torch.arange(len(pictures)), _AT_A_TIME)
    found = []
    batches = in_turn(pictures, lambda part: decode_batch(pictures, part.tolist(), image_size=size), parts)
    with progress("decoding", len(pictures)) as shown:
        for part, batch in zip(parts, batches, strict=True):
            found.append(batch)
            shown(len(part))
    kept = torch.cat([part[rows] for part, (_, rows) in zip(parts, found, strict=True)])
    if not len(kept):
        raise DataError(f"none of {len(pictures)} images can be decoded; the first is {pictures.name(0)}")
    images = torch.cat([images for images, _ in found])
    return replace(
        split, images=images, labels=split.labels[kept], n_skipped=split.n_skipped + len(pictures) - len(kept)
    )
