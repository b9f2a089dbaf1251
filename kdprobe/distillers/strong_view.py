"""A strongly augmented view of a batch: two random operations, then a grey rectangle."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kdprobe.devices import constant, sending
from kdprobe.errors import DataError

#: mean colour of natural images
GREY = (125 / 255, 123 / 255, 114 / 255)
N_MAGNITUDES = 31


def strong_view(images: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
    """Two of 14 operations of random strength on each image, and a grey rectangle of at most half its sides.

    Random numbers come from torch's global generator of the CPU.

    Args:
        images: values in [0, 1], of 3 channels, or of a grey one.

    Returns:
        new images in [0, 1].

    Raises:
        DataError: for images of other channels.
    """
    if images.shape[1] not in (1, 3):
        raise DataError(
            f"strongly augmented views are made of images of 1 or 3 channels, but these have {images.shape[1]}; take a "
            "method without such views, or cakd with perturb=0"
        )
    with sending(images.device):
        return torch.stack([_cut(_vary(image)) for image in images])


def in_channels(colour: Sequence[float], n_channels: int) -> tuple[float, ...]:
    """A colour, or for images that have not three channels its mean in each."""
    return tuple(colour) if n_channels == len(colour) else (sum(colour) / len(colour),) * n_channels


def _vary(image: Tensor) -> Tensor:
    from torchvision.transforms import v2

    magnitude = int(torch.randint(N_MAGNITUDES, ()))
    operations = v2.RandAugment(num_ops=2, magnitude=magnitude, num_magnitude_bins=N_MAGNITUDES)
    varied: Tensor = operations(image)
    return varied.clamp(0, 1)  # sharpening and interpolation overshoot


def _cut(image: Tensor) -> Tensor:
    n_channels, height, width = image.shape
    fraction, down, right = (float(value) for value in torch.rand(3))
    h, w = round(fraction / 2 * height), round(fraction / 2 * width)
    top, left = round(down * (height - h)), round(right * (width - w))
    cut = image.clone()
    cut[:, top : top + h, left : left + w] = constant(in_channels(GREY, n_channels), image.device, image.dtype)[
        :, None, None
    ]
    return cut
