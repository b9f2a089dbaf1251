"""Random erasing of a whole batch: a box of noise in some of the images, wherever the batch is.

All numbers come from a counter: those of an image are a function of its key alone, on every device, and no
table of an epoch is kept. timm's `RandomErasing` draws from global states instead, and fills with normal
noise after normalisation; here the noise is uniform in [0, 255], as in the publication.

Reference:
    Zhong et al. (2020), Random erasing data augmentation, algorithm 1.
"""

import math

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from kdprobe.devices import sent

_AREA = (0.02, 1 / 3)
_RATIO = (0.3, 1 / 0.3)
_PROPOSALS = 10
_MASK = 2**32 - 1
_FAR = 2**31  # counters apart from small keys
_CHUNK = 64  # images whose noise is made at a time: eight bytes per number


def erase(
    images: UInt8[Tensor, "B c s s"], keys: Int64[Tensor, " B"], *, probability: float
) -> UInt8[Tensor, "B c s s"]:
    """Fill a random box of some images with noise.

    Args:
        images: images with any number of channels.
        keys: one per image, on the CPU; equal keys give equal boxes and noise.
        probability: probability of erasing an image, in [0, 1].

    Returns:
        new images; a box covers 2 to 33 % of its image, with sides between 3:10 and 10:3.
    """
    erased, device = images.clone(), images.device
    for chosen in torch.split((uniform(keys, 1)[:, 0] < probability).nonzero().flatten(), _CHUNK):
        part, own = sent(chosen, device), sent(keys[chosen], device)
        proposals = uniform(own, 1 + 4 * _PROPOSALS)[:, 1:].view(len(part), _PROPOSALS, 4)
        inside = _inside(boxes(proposals, images.shape[-1]), images.shape[-1])
        erased[part] = torch.where(inside, _noise(scramble(own) + 1, images[part]), images[part])
    return erased


def _noise(keys: Tensor, like: Tensor) -> Tensor:
    """Random bytes in the shape of some images: four of each number."""
    count = like.shape[1:].numel()
    numbers = random_integers(keys, -(-count // 4)).to(torch.int32)
    return numbers.view(torch.uint8)[:, :count].reshape(like.shape)


def _inside(box: Tensor, size: int) -> Tensor:
    """Which pixels of each image lie in its box: [B, 1, s, s]."""
    top, left, high, wide = box[:, :, None].unbind(1)  # [B, 1] each
    ahead = torch.arange(size, device=box.device)
    rows = (ahead >= top) & (ahead < top + high)
    columns = (ahead >= left) & (ahead < left + wide)
    return rows[:, None, :, None] & columns[:, None, None, :]


def boxes(draws: Float[Tensor, "B p 4"], size: int) -> Int64[Tensor, "B 4"]:
    """The first proposal that fits into a square image.

    Args:
        draws: uniform in [0, 1): area, ratio of sides, and place, of each proposal.
        size: side of the image in pixels.

    Returns:
        top, left, height and width in pixels; all 0 where no proposal fits.
    """
    area = size**2 * (_AREA[0] + draws[..., 0] * (_AREA[1] - _AREA[0]))
    ratio = torch.exp(math.log(_RATIO[0]) + draws[..., 1] * math.log(_RATIO[1] / _RATIO[0]))
    sides = torch.stack([torch.sqrt(area * ratio), torch.sqrt(area / ratio)], -1).round()  # [B, p, 2]
    fits = ((sides > 0) & (sides < size)).all(-1)
    first = fits.int().argmax(1)
    row = torch.arange(len(draws), device=draws.device)
    chosen = sides[row, first]
    corner = (draws[row, first, 2:] * (size - chosen + 1)).floor()
    return (torch.cat([corner, chosen], 1) * fits.any(1, keepdim=True)).long()


def uniform(keys: Int64[Tensor, " B"], count: int) -> Float[Tensor, "B n"]:
    """`count` numbers in [0, 1) for each key, float64."""
    return random_integers(keys, count).double() / 2**32


def random_integers(keys: Int64[Tensor, " B"], count: int) -> Int64[Tensor, "B n"]:
    """`count` random whole numbers in [0, 2^32) for each key: scrambled counters."""
    counter = scramble(_FAR + torch.arange(count, device=keys.device))
    return scramble(scramble(keys)[:, None] ^ counter)


def scramble(x: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """A permutation of the whole numbers in [0, 2^32) in which neighbours are far apart.

    Reference:
        Appleby (2011), MurmurHash3: the 32-bit finaliser.
    """
    x = x & _MASK
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _MASK
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _MASK
    return x ^ (x >> 16)
