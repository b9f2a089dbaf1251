"""Images as uint8 squares: one, a batch or a whole split, decoded from files or resized.

An image is taken as a person sees it: rotated as its EXIF orientation says, with transparent parts over white. Grey of
16 bits and floats from 0 to 1 are reduced to 8 bits. 32-bit integers and other floats are refused, because
it is not known which value is white.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kdprobe.data.augment import random_box
from kdprobe.data.dataset import ImageFiles, Split
from kdprobe.devices import usable_processors
from kdprobe.errors import DataError
from kdprobe.terminal.progress import progress

_Item = TypeVar("_Item")
_Done = TypeVar("_Done")
_MOST_BYTES = 2**30  # of decoded images that are kept in memory
_CHUNK = 256  # images resized at a time
_AT_A_TIME = 4  # images that a thread decodes before it looks whether to go on
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
_REMARKS = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}  # where Pillow looks for an orientation
_ORIENTATION, _BITS, _PHOTOMETRIC = 0x0112, 258, 262  # tags of EXIF and TIFF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
        path: the image file.
        image_size: side of the square in pixels.
        crop_fraction: side of the centred square that is kept, as a fraction of the shorter side.
        interpolation: a name in `kdprobe.data.dataset.INTERPOLATIONS`.
        squash: keep that fraction of both sides instead of a square.
        source: if given, it decides on a random part that is taken instead of the centre.

    Returns:
        [3, s, s], resampled with antialiasing.

    Raises:
        DataError: with the path, if the file is not an image that can be decoded.
    """
    with _opened(path) as file:
        image = _rgb(file, path)
    width, height = image.size
    box = random_box(height, width, source) if source else _centre(height, width, crop_fraction, squash=squash)
    if (image.size, box) != ((image_size, image_size), (0, 0, image_size, image_size)):
        image = image.resize((image_size, image_size), Image.Resampling[interpolation.upper()], box=box)
    return np.asarray(image).transpose(2, 0, 1)


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


def _rgb(image: Image.Image, path: str) -> Image.Image:
    """Red, green and blue of 8 bits, upright, over white."""
    image.load()
    shown = _grey(image, path) if image.mode[0] in "IF" else image
    if shown.has_transparency_data:
        white = Image.new("RGBA", shown.size, "white")
        white.alpha_composite(shown.convert("RGBA"))
        shown = white
    return _upright(shown if shown.mode == "RGB" else shown.convert("RGB"), image)


def _upright(shown: Image.Image, image: Image.Image) -> Image.Image:
    """Turned as the orientation in the image's file says; Pillow turns TIFF itself."""
    if _REMARKS.isdisjoint(image.info):
        return shown
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata beside pixels that are intact
        return shown
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return shown if turn is None else shown.transpose(turn)


def _grey(image: Image.Image, path: str) -> Image.Image:
    """Grey of 16 bits, or of floats from 0 to 1, in 8 bits; Pillow would cut it off at 255."""
    tags = getattr(image, "tag_v2", {})
    twelve = tags.get(_BITS) == (12,)
    integers = image.mode == "I" and image.format not in ("PNG", "PPM")  # those that are have 16 bits
    white = 1.0 if image.mode == "F" else 0x0FFF if twelve else 0xFFFF
    values = np.asarray(image, np.float32)
    low, high = values.min(), values.max()
    if integers or not 0 <= low <= high <= white:
        what = "floats" if image.mode == "F" else "integers"
        raise DataError(
            f"{path} cannot be decoded as an image: it holds {what} from {low:g} to {high:g}, and it is not "
            "known which value is white; save it with 8 or 16 bits, or as floats from 0 to 1"
        )
    if tags.get(_PHOTOMETRIC) == 0:
        values = white - values
    if isinstance(transparent := image.info.get("transparency"), int):
        values = np.where(values == transparent, white, values)
    return Image.fromarray((values * (255 / white)).round().astype(np.uint8))


def image_side(path: str) -> int:
    """The shorter side of an image file in pixels, without decoding it.

    Raises:
        DataError: with the path, if the file is not an image.
    """
    with _opened(path) as image:
        return min(image.size)


def decode_batch(
    files: ImageFiles,
    index: Sequence[int],
    *,
    image_size: int,
    sources: Sequence[torch.Generator] | None = None,
    unwanted: Callable[[], bool] = lambda: False,
) -> tuple[Tensor, Tensor]:
    """Decode some of a split's files, one after another.

    Args:
        files: the split's files.
        index: the places of the wanted ones.
        image_size: side in pixels.
        sources: for each image, what decides the random part that is taken; none is taken if not given.
        unwanted: asked before each image whether nothing waits for them any more; then the rest is left out.

    Returns:
        uint8 [B, 3, s, s], and which of `index` they are, int64 [B]: all of them, unless `files.skip_bad`.

    Raises:
        DataError: with the path of the first file that cannot be decoded.
    """
    images = np.empty((len(index), 3, image_size, image_size), np.uint8)
    kept: list[int] = []
    for row, i in enumerate(index):
        if unwanted():
            break
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


def in_threads(function: Callable[[_Item], _Done], items: Sequence[_Item]) -> Iterator[_Done]:
    """The function of each item, in order, computed in threads: Pillow decodes outside the interpreter lock.

    An error or an interrupt does not wait for items that have not begun.
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
