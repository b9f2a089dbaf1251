"""Attention transfer: match where the two networks look.

Reference:
    S. Zagoruyko and N. Komodakis, "Paying more attention to attention", 2017. The distance is the
    one of the authors' code (mean of squares), not the one printed in the paper (a norm): the
    customary weight of 1000 goes with it.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_teacher
from kdprobe.distillers.pairing import Pairs, resized, stage_pairs
from kdprobe.distillers.search import around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features, Shapes


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
        teacher_maps: one for each of these; channels may differ, and the larger of two sizes is averaged down.
        p: power of the activations.
    """
    pairs = zip(student_maps, teacher_maps, strict=True)
    return torch.stack([_stage_loss(student, teacher, p) for student, teacher in pairs]).sum()


def _stage_loss(student: Tensor, teacher: Tensor, p: int) -> Tensor:
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return F.mse_loss(attention(resized(student, size), p=p), attention(resized(teacher, size), p=p))


class ATOptions(Section):
    """Options of attention transfer.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the attention term. A mean over positions of maps of unit length weighs 64 times more on a
            4x4 grid than on the 32x32 for which 1000 was chosen: with a ViT of 16 patches on the digits (8 epochs, one
            seed) ResNet8 reaches 67.7 %, and 97.5 % with 100.
        p: power of the activations.
        stages: pairs of stage numbers (student, teacher); by default the stages at equal relative depths.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(1000.0, ge=0)
    p: int = Field(2, ge=1)
    stages: Pairs | None = Field(None, min_length=1)


class AT(Method):
    """Mean squared difference of normalised attention maps, which say how active each place of a stage is.

    Of a transformer these are of the grid of its patch tokens.
    """

    Options: ClassVar[type[Section]] = ATOptions
    reference = "Zagoruyko, Komodakis 2017"
    source = "RepDistiller's script for CIFAR-100"
    published = "70.55 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(weight=around_weight(1000.0))
    student_needs = teacher_needs = ("maps",)
    options: ATOptions

    def __init__(self, options: ATOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        self.pairs = stage_pairs("at", student, needs_teacher("at", teacher), options.stages)
        self.teacher_stages = {other for _, other in self.pairs}

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `attention`."""
        assert teacher is not None
        ours = [student.maps[own] for own, _ in self.pairs]
        theirs = [teacher.maps[other] for _, other in self.pairs]
        return {"attention": self.options.weight * at_loss(ours, theirs, p=self.options.p)}
