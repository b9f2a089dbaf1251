"""Variations of training images: a whole batch at once, with independent parameters for each image.

Parameters belong to (seed, epoch, image), whatever batch or worker the image is in, and come from
generators of their own: the global random state is neither read nor changed.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from kdprobe.config import AugmentConfig

_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)


def generator(*key: int) -> torch.Generator:
    """A generator of its own for each key: neighbouring keys give unrelated numbers."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


class Variation(NamedTuple):
    """What happens to each image: shift [n, 2] (rows, columns) inside the padded image, and flip [n]."""

    shift: Int64[Tensor, "n 2"]
    flip: Bool[Tensor, " n"]


def draw_variations(n: int, augment: AugmentConfig, *, seed: int, epoch: int) -> Variation:
    """The variations of an epoch, one per view of an image.

    Args:
        n: number of views: images in the split, times the repeats of each.
        augment: what to vary.
        seed: the run's seed.
        epoch: the epoch whose variations are wanted.

    Returns:
        shifts from 0 to twice the padding, and flips with probability 1/2, as far as `augment` asks for them.
    """
    source = generator(seed, epoch, 1)
    reach = 2 * augment.padding if augment.crop == "pad" else 0
    shift = torch.randint(reach + 1, (n, 2), generator=source)
    flip = torch.rand(n, generator=source) < 0.5
    return Variation(shift, flip & augment.flip)


def shift_and_flip(
    images: Shaped[Tensor, "B c s s"], variation: Variation, *, padding: int
) -> Shaped[Tensor, "B c s s"]:
    """Cut each image out of its zero-padded self and mirror it where asked, in one gather.

    Args:
        images: images of any type.
        variation: one variation per image, on the images' device.
        padding: width of the zero border in pixels; shifts are at most twice as large.
    """
    batch, channels, size, _ = images.shape
    padded = F.pad(images, (padding,) * 4)
    ahead = torch.arange(size, device=images.device)
    rows = variation.shift[:, :1] + ahead  # [B, s]
    columns = variation.shift[:, 1:] + torch.where(variation.flip[:, None], ahead.flip(0), ahead)
    index = rows[:, :, None] * padded.shape[-1] + columns[:, None, :]  # [B, s, s]
    index = index.view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index).view_as(images)


def random_box(height: int, width: int, source: torch.Generator) -> tuple[int, int, int, int]:
    """A random part of an image for `crop: resized`: 8 to 100 % of its area, sides 3:4 to 4:3.

    Args:
        height: height of the image in pixels.
        width: width of the image in pixels.
        source: decides which part.

    Returns:
        left, top, right, bottom in pixels. Ten proposals are tried; if none fits, the largest centred
        part with an allowed ratio is taken.

    Reference:
        Szegedy et al. (2015), Going deeper with convolutions, section 6.
    """
    for area, ratio, x, y in torch.rand(10, 4, generator=source).tolist():
        pixels = height * width * (_AREA[0] + area * (_AREA[1] - _AREA[0]))
        proportion = math.exp(math.log(_RATIO[0]) + ratio * math.log(_RATIO[1] / _RATIO[0]))
        wide, high = round(math.sqrt(pixels * proportion)), round(math.sqrt(pixels / proportion))
        if 0 < wide <= width and 0 < high <= height:
            left, top = math.floor(x * (width - wide + 1)), math.floor(y * (height - high + 1))
            return left, top, left + wide, top + high
    wide, high = min(width, round(height * _RATIO[1])), min(height, round(width / _RATIO[0]))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high
