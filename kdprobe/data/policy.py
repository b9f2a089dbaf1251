"""RandAugment by timm, with random numbers that belong to each image.

timm draws from the global states of `random` and numpy: they are lent a state for each image and get their
own back.

Reference:
    Cubuk et al. (2020), RandAugment: practical automated data augmentation with a reduced search space.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from kdprobe.data.dataset import IMAGENET_MEAN

Policy = Callable[[Image.Image], Image.Image]

_FILL = tuple(round(255 * mean) for mean in IMAGENET_MEAN)
_REACH = 0.45  # largest translation as a fraction of the side, as in timm's training script


def make_policy(text: str, *, image_size: int) -> Policy:
    """The policy that a string such as `rand-m9-mstd0.5-inc1` names.

    Args:
        text: checked by the configuration.
        image_size: side of the images in pixels.
    """
    from timm.data.auto_augment import RandAugment, rand_augment_transform

    settings = {"translate_const": int(image_size * _REACH), "img_mean": _FILL}
    policy: RandAugment = rand_augment_transform(text, settings)
    for operation in policy.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = partial(_posterize, operation.aug_fn)
    return policy


def _posterize(
    timms: Callable[[Image.Image, int], Image.Image], image: Image.Image, bits: int, **_: Any
) -> Image.Image:
    # timm's strongest step keeps no bits, which Pillow made black before version 13 and refuses since
    return timms(image, bits) if bits > 0 else Image.new("RGB", image.size)


def vary(
    images: UInt8[Tensor, "B 3 s s"], policy: Policy, views: Int64[Tensor, " B"], *, seed: int, epoch: int
) -> UInt8[Tensor, "B 3 s s"]:
    """Apply a policy to each image.

    Args:
        images: in this process's memory.
        policy: a policy from `make_policy`.
        views: the view that each image is.
        seed: the run's seed.
        epoch: the epoch; each image's draw depends on seed, epoch and view.
    """
    varied = np.empty((len(images), *images.shape[2:], 3), np.uint8)
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    with global_states_lent():
        for row, view in enumerate(views.tolist()):
            first, *rest = np.random.SeedSequence((seed, epoch, 4, view)).generate_state(5).tolist()
            random.seed(first)
            np.random.seed(rest)  # noqa: NPY002
            varied[row] = policy(Image.fromarray(pixels[row]))
    return torch.from_numpy(varied).permute(0, 3, 1, 2).contiguous()


@contextmanager
def global_states_lent() -> Iterator[None]:
    """Let `random` and numpy be seeded inside, and give their states back."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
