"""Attention transfer: match where the two networks look.

Reference:
    S. Zagoruyko and N. Komodakis, "Paying more attention to attention", 2017. The distance is the
    one of the authors' code (mean of squares), not the one printed in the paper (a norm): the
    customary weight of 1000 belongs to it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kdprobe.distillers.widen import widened


def attention(maps: Float[Tensor, "batch c h w"], *, p: int = 2) -> Float[Tensor, "batch hw"]:
    """Mean over the channels of the p-th powers, of unit length for each sample (zero stays zero)."""
    return F.normalize(maps.pow(p).mean(dim=1).flatten(1), dim=1)


@widened
def at_loss(
    student_maps: Sequence[Float[Tensor, "batch _cs _hs _ws"]],
    teacher_maps: Sequence[Float[Tensor, "batch _ct _ht _wt"]],
    *,
    p: int = 2,
) -> Float[Tensor, ""]:
    """Mean squared difference of the two attentions, summed over the stages.

    Args:
        student_maps: [B, c, h, w] for each stage, after the activation.
        teacher_maps: as many; channels may differ, and of two sizes the larger is averaged down.
        p: power of the activations.
    """
    pairs = zip(student_maps, teacher_maps, strict=True)
    return torch.stack([_stage_loss(student, teacher, p) for student, teacher in pairs]).sum()


def _stage_loss(student: Tensor, teacher: Tensor, p: int) -> Tensor:
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    student, teacher = (F.adaptive_avg_pool2d(maps, size) for maps in (student, teacher))
    return F.mse_loss(attention(student, p=p), attention(teacher, p=p))
