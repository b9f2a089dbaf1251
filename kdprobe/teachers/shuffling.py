"""The teacher's answers of other images, as a control: all that a teacher brings but what it knows of an image.

Within each batch, or piece of one, images are put on a random circle, and each gets everything that the teacher makes
of the next one: logits, pooled features, maps and tokens together. So a method's losses see teacher's answers as they
are, in their number, their size and their spread, but never those of the image at hand. Each time that an image comes
it is beside others, so there is no function of images that the student could learn instead; what is left is what the
answers have on average, which acts much as label smoothing does. What a loss reads of a batch as a whole, such as MLD's
relations of classes, stays as it is.
"""

from dataclasses import replace

import torch
from jaxtyping import Int64
from torch import Tensor

from kdprobe.data.augment import generator
from kdprobe.devices import sent
from kdprobe.models.stages import Features


def next_on_circle(n_images: int, *key: int) -> Int64[Tensor, " n"]:
    """The place of the image after each one, on a random circle through all images.

    Args:
        n_images: n; a single image comes after itself.
        key: numbers that the circle depends on.
    """
    order = torch.randperm(n_images, generator=generator(*key))
    found = torch.empty_like(order)
    found[order] = order.roll(-1)
    return found


def answers_of_others(features: Features, others: Int64[Tensor, " n"], *, n_views: int = 1) -> Features:
    """Features of which each image has all those of another one.

    Args:
        features: of a batch, one view of all images after the other.
        others: whose features each image gets, on the CPU.
        n_views: number of views of each image.
    """
    n_images = len(others)
    places = sent((torch.arange(n_views)[:, None] * n_images + others).flatten(), features.logits.device)

    def given(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[places]

    return replace(
        features,
        logits=features.logits[places],
        pooled=given(features.pooled),
        maps=tuple(one[places] for one in features.maps),
        preacts=tuple(one[places] for one in features.preacts),
        tokens=given(features.tokens),
        qkv=None if features.qkv is None else features.qkv[:, places],
    )
