"""An image of whatever kind as a person sees it: red, green and blue of 8 bits, upright, with white behind it.

It is rotated as its EXIF orientation says, with transparent parts over white. Grey of 16 bits and floats from 0 to 1
are reduced to 8 bits. 32-bit integers and other floats are refused, because it is not known which value is white.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kdprobe.errors import DataError

_REMARKS = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}  # where Pillow looks for an orientation
_ORIENTATION, _BITS, _PHOTOMETRIC = 0x0112, 258, 262  # tags of EXIF and TIFF
#: EXIF orientations whose rows are columns of the file, or which begin at the file's right or bottom
SIDEWAYS, FROM_RIGHT, FROM_BOTTOM = {5, 6, 7, 8}, {2, 3, 6, 7}, {3, 4, 7, 8}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def rgb_of(value: object, name: str) -> Image.Image:
    """What a dataset of one's own calls an image, as `rgb` of it.

    Args:
        value: a Pillow image, an array [h, w], [h, w, 1] or [h, w, 3], or a tensor [h, w], [1, h, w] or [3, h, w]; of
            uint8 or of floats from 0 to 1.
        name: what errors call it.

    Raises:
        DataError: if it is none of these, or has NaN or other floats.
    """
    if isinstance(value, Image.Image):
        return rgb(value, name)
    if isinstance(value, Tensor):
        shape, kind = "a tensor must be [h, w], [1, h, w] or [3, h, w]", str(value.dtype).removeprefix("torch.")
        value = value.detach().cpu()
        array = (value.double() if value.is_floating_point() else value).numpy()
        pixels = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    elif isinstance(value, np.ndarray):
        shape, kind = "an array must be [h, w], [h, w, 1] or [h, w, 3]", str(value.dtype)
        array = pixels = value
    else:
        raise DataError(
            f"{name} has an image of type {type(value).__name__}, which must be a Pillow image, an array [h, w, 3] or "
            "a tensor [3, h, w]"
        )
    if not array.size or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise DataError(f"{name} has an image of shape {list(array.shape)}, but {shape}")
    levels = _levels(pixels, kind, name).reshape(*pixels.shape[:2], -1)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(levels, (*pixels.shape[:2], 3))))


def _levels(pixels: NDArray[Any], kind: str, name: str) -> NDArray[np.uint8]:
    """Numbers as 8 bits."""
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(f"{name} has an image of {kind}, which must be uint8, or floats from 0 to 1")
    if not np.isfinite(pixels).all():
        raise DataError(f"{name} has an image with NaN or infinity in it")
    if (low := pixels.min()) < 0 or pixels.max() > 1:
        raise DataError(
            f"{name} has an image of floats from {low:g} to {pixels.max():g}, which must be from 0 to 1: images are "
            "standardised for each network by its own mean and std, not in the dataset"
        )
    return (pixels.astype(np.float64) * 255).round().astype(np.uint8)


def rgb(image: Image.Image, name: str) -> Image.Image:
    """A Pillow image as red, green and blue of 8 bits, upright, over white.

    Args:
        image: of any mode.
        name: what errors call it.

    Raises:
        DataError: if it is not known which value is white.
    """
    image.load()
    shown = _grey(image, name) if image.mode[0] in "IF" else image
    if shown.has_transparency_data:
        white = Image.new("RGBA", shown.size, "white")
        white.alpha_composite(shown.convert("RGBA"))
        shown = white
    return _upright(shown if shown.mode == "RGB" else shown.convert("RGB"), image)


def _upright(shown: Image.Image, image: Image.Image) -> Image.Image:
    """Turned as the orientation in the image's file says; Pillow turns TIFF itself."""
    turn = _TURNS.get(orientation(image))
    return shown if turn is None else shown.transpose(turn)


def orientation(image: Image.Image) -> int:
    """How the image lies in its file, as EXIF numbers it: 1, upright, where nothing is said."""
    if _REMARKS.isdisjoint(image.info):
        return 1
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata beside pixels that are intact
        return 1
    return found if isinstance(found, int) else 1


def _grey(image: Image.Image, name: str) -> Image.Image:
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
            f"{name} cannot be decoded as an image: it holds {what} from {low:g} to {high:g}, and it is not "
            "known which value is white; save it with 8 or 16 bits, or as floats from 0 to 1"
        )
    if tags.get(_PHOTOMETRIC) == 0:
        values = white - values
    if isinstance(transparent := image.info.get("transparency"), int):
        values = np.where(values == transparent, white, values)
    return Image.fromarray((values * (255 / white)).round().astype(np.uint8))
