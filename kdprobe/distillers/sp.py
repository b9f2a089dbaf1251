"""Similarity preserving: images that are alike to the teacher should be alike to the student.

Reference:
    F. Tung and G. Mori, "Similarity-preserving knowledge distillation", ICCV 2019.

The loss is that of HobbitLong/RepDistiller, which its authors confirmed. torchdistill's divides each row of a Gram
matrix by the sum of its absolute values instead of its length, and is another loss.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_teacher
from kdprobe.distillers.pairing import Pairs, stage_pairs
from kdprobe.distillers.search import around_weight, ranges
from kdprobe.distillers.vectors import unit
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features, Shapes


@widened
def similarity_loss(student: Float[Tensor, "batch ..."], teacher: Float[Tensor, "batch ..."]) -> Float[Tensor, ""]:
    """Mean squared difference of the two Gram matrices of a batch, each of whose rows has length one.

    It is 0 in a batch of one. A sample whose features are all zero is similar to nothing and passes no gradient, where
    the original passes one of order 1e10.

    Args:
        student: features [B, ...], such as maps.
        teacher: features [B, ...]; their number and their grid may be others.
    """
    return F.mse_loss(_similarities(student), _similarities(teacher))


def _similarities(features: Tensor) -> Tensor:
    rows = features.flatten(1)
    # a power of 2, which leaves all digits as they are, keeps the products of large features in range
    largest = torch.linalg.vector_norm(rows.detach(), ord=torch.inf) if rows.numel() else rows.new_zeros(())
    rows = torch.ldexp(rows, -torch.frexp(largest)[1])
    return unit(rows @ rows.mT, dim=1)


class SPOptions(Section):
    """Options of similarity preserving.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the term, summed over the stages. 3000 is for two CNNs, whose features behind a ReLU are all
            alike at first, and batches of 64: the entries of a row shrink as the batch grows. With a ViT as teacher on
            the digits (8 epochs, one seed) ResNet8 reaches 90.3 %, and 97.8 % with 100.
        stages: pairs of stage numbers (student, teacher); by default the deepest stage of each.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(3000.0, ge=0)
    stages: Pairs | None = Field(None, min_length=1)


class SP(Method):
    """Mean squared difference of the similarities between the images of a batch, by the maps of the last stage.

    The batch is the per-process batch (not gathered across devices).
    """

    Options: ClassVar[type[Section]] = SPOptions
    reference = "Tung, Mori 2019"
    source = "RepDistiller's script for CIFAR-100"
    published = "69.67 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(weight=around_weight(3000.0))
    student_needs = teacher_needs = ("maps",)
    options: SPOptions

    def __init__(self, options: SPOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        pairs = stage_pairs("sp", student, needs_teacher("sp", teacher), options.stages)
        self.pairs = pairs if options.stages is not None else pairs[-1:]
        self.teacher_stages = {other for _, other in self.pairs}

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `similarity`."""
        assert teacher is not None
        losses = [similarity_loss(student.maps[own], teacher.maps[other]) for own, other in self.pairs]
        return {"similarity": self.options.weight * torch.stack(losses).sum()}
