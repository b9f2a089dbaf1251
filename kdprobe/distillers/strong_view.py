"""A strongly augmented view of a batch: two random operations, then a grey rectangle."""

import torch
from jaxtyping import Float
from torch import Tensor

from kdprobe.devices import constant, sending

#: mean colour of natural images
GREY = (125 / 255, 123 / 255, 114 / 255)
N_MAGNITUDES = 31


def strong_view(images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 h w"]:
    """Two of 14 operations of random strength on each image, and a grey rectangle of at most half its sides.

    Random numbers come from torch's global generator of the CPU.

    Args:
        images: values in [0, 1].

    Returns:
        new images in [0, 1].
    """
    with sending(images.device):
        return torch.stack([_cut(_vary(image)) for image in images])


def _vary(image: Tensor) -> Tensor:
    from torchvision.transforms import v2

    magnitude = int(torch.randint(N_MAGNITUDES, ()))
    operations = v2.RandAugment(num_ops=2, magnitude=magnitude, num_magnitude_bins=N_MAGNITUDES)
    varied: Tensor = operations(image)
    return varied.clamp(0, 1)  # sharpening and interpolation overshoot


def _cut(image: Tensor) -> Tensor:
    height, width = image.shape[1:]
    fraction, down, right = (float(value) for value in torch.rand(3))
    h, w = round(fraction / 2 * height), round(fraction / 2 * width)
    top, left = round(down * (height - h)), round(right * (width - w))
    cut = image.clone()
    cut[:, top : top + h, left : left + w] = constant(GREY, image.device, image.dtype)[:, None, None]
    return cut
