"""Image files into uint8 squares."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from kdprobe.data.augment import random_box
from kdprobe.data.dataset import ImageFiles
from kdprobe.errors import DataError

Box = tuple[float, float, float, float]
_UNREADABLE = (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError)
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def decode(
    path: str,
    *,
    image_size: int,
    crop_fraction: float = 1.0,
    interpolation: str = "bicubic",
    squash: bool = False,
    source: torch.Generator | None = None,
) -> NDArray[np.uint8]:
    """Decode an image and bring one part of it to a square.

    Args:
        path: of the image file.
        image_size: side of the square in pixels.
        crop_fraction: centred square that is kept, as a fraction of the shorter side.
        interpolation: a name in `kdprobe.data.dataset.INTERPOLATIONS`.
        squash: keep the fraction of both sides instead of a square.
        source: where given, a random part is taken instead of the centre.

    Returns:
        [3, s, s], resampled with antialiasing.

    Raises:
        DataError: with the path, if the file is not an image that can be decoded.
    """
    try:
        with Image.open(path) as file:
            image = _rgb(file)
    except _UNREADABLE as error:
        raise DataError(f"{path} cannot be decoded as an image ({type(error).__name__})") from error
    width, height = image.size
    box = random_box(height, width, source) if source else _centre(height, width, crop_fraction, squash=squash)
    if (image.size, box) != ((image_size, image_size), (0, 0, image_size, image_size)):
        image = image.resize((image_size, image_size), Image.Resampling[interpolation.upper()], box=box)
    return np.asarray(image).transpose(2, 0, 1)


def _rgb(image: Image.Image) -> Image.Image:
    """Red, green and blue of 8 bits; Pillow would cut 16 bits off at 255."""
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image, np.int64), 0, 0xFFFF) / 0x101
        image = Image.fromarray(grey.round().astype(np.uint8))
    return image.convert("RGB")


def image_side(path: str) -> int:
    """The shorter side of an image file in pixels, without decoding it.

    Raises:
        DataError: with the path, if the file is not an image.
    """
    try:
        with Image.open(path) as file:
            return min(file.size)
    except _UNREADABLE as error:
        raise DataError(f"{path} cannot be decoded as an image ({type(error).__name__})") from error


def decode_batch(
    files: ImageFiles, index: Sequence[int], *, image_size: int, sources: Sequence[torch.Generator] | None = None
) -> tuple[Tensor, Tensor]:
    """Decode some of a split's files, one after another.

    Returns:
        uint8 [B, 3, s, s], and which of `index` they are, int64 [B]: all of them, unless `files.skip_bad`.

    Raises:
        DataError: with the path of the first file that cannot be decoded.
    """
    images = np.empty((len(index), 3, image_size, image_size), np.uint8)
    kept: list[int] = []
    for row, i in enumerate(index):
        source = sources[row] if sources else None
        try:
            images[len(kept)] = decode(
                files.paths[i],
                image_size=image_size,
                crop_fraction=files.crop_fraction,
                interpolation=files.interpolation,
                squash=files.squash,
                source=source,
            )
        except DataError:
            if not files.skip_bad:
                raise
            continue
        kept.append(row)
    return torch.from_numpy(images[: len(kept)]), torch.tensor(kept, dtype=torch.int64)


def _centre(height: int, width: int, fraction: float, *, squash: bool = False) -> Box:
    high, wide = (fraction * height, fraction * width) if squash else (fraction * min(height, width),) * 2
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high
