"""Erasing attention consistency: an erased image and its mirror must be looked at alike.

Reference:
    Y. Zhang, C. Wang, X. Ling and W. Deng, "Learn from all: erasing attention consistency for noisy label facial
    expression recognition", ECCV 2022.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kdprobe.distillers.widen import widened


@widened
def attention_maps(
    maps: Float[Tensor, "batch channels h w"], classifier: Float[Tensor, "classes channels"]
) -> Float[Tensor, "batch classes h w"]:
    """Class activation maps, without the bias; the classifier's weight is a constant here."""
    return torch.einsum("kc,bchw->bkhw", classifier.detach(), maps)


@widened
def consistency_loss(
    attention: Float[Tensor, "batch classes h w"], mirrored: Float[Tensor, "batch classes h w"]
) -> Float[Tensor, ""]:
    """Mean squared difference of the attention of an image and that of its mirror, flipped back.

    Args:
        attention: of the images [B, C, h, w].
        mirrored: of the mirrored images; it gets a gradient too.
    """
    return F.mse_loss(attention, mirrored.flip(3))
