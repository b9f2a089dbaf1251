"""Probabilistic knowledge transfer: how probable each sample of a batch is as a neighbour of each other one.

Reference:
    N. Passalis and A. Tefas, "Learning deep representations with probabilistic knowledge transfer", ECCV 2018.

The loss is that of the authors' code as HobbitLong/RepDistiller has it: a mean over all B^2 pairs, each sample being a
neighbour of itself too, which is why its weight is 30,000.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_pooled, needs_teacher
from kdprobe.distillers.search import around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features, Shapes


@widened
def pkt_loss(
    student: Float[Tensor, "batch d_s"], teacher: Float[Tensor, "batch d_t"], *, eps: float = 1e-7
) -> Float[Tensor, ""]:
    """Mean over B^2 pairs of P_ij log(P_ij / Q_ij), P the teacher's and Q the student's probabilities of neighbours.

    These are cosines, moved to [0, 1] and divided by their sum over j. The loss is 0 in a batch of one. A sample whose
    features are all zero passes no gradient, where the original's is NaN.

    Args:
        student: features [B, d_s].
        teacher: features [B, d_t].
        eps: added to lengths and to probabilities.
    """
    ours, theirs = _neighbours(student, eps), _neighbours(teacher, eps)
    return (theirs * ((theirs + eps) / (ours + eps)).log()).mean()


def _neighbours(features: Tensor, eps: float) -> Tensor:
    """[B, d] -> [B, B]; each row sums to one."""
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    directions = torch.where(lengths > 0, features / (torch.where(lengths > 0, lengths, 1) + eps), 0)
    similarities = ((directions @ directions.mT + 1) / 2).clamp(min=0)  # below zero there is only rounding
    return similarities / similarities.sum(dim=1, keepdim=True)


class PKTOptions(Section):
    """Options of probabilistic knowledge transfer; the defaults are those of the CIFAR-100 benchmarks.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the term, a mean over pairs: a batch of another size needs another one. With a ViT as teacher
            on the digits (8 epochs, one seed) ResNet8 reaches 89.4 %, and 98.1 % with 1000.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(30000.0, ge=0)


class PKT(Method):
    """KL divergence between probabilities that images of a batch are neighbours, by their pooled features.

    The batch is the per-process batch (not gathered across devices).
    """

    Options: ClassVar[type[Section]] = PKTOptions
    reference = "Passalis, Tefas 2018"
    source = "RepDistiller's script for CIFAR-100"
    published = "70.34 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(weight=around_weight(30000.0))
    student_needs = teacher_needs = ("pooled",)
    options: PKTOptions

    def __init__(self, options: PKTOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        needs_pooled("pkt", student, needs_teacher("pkt", teacher))

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `neighbours`."""
        assert teacher is not None
        assert student.pooled is not None
        assert teacher.pooled is not None
        return {"neighbours": self.options.weight * pkt_loss(student.pooled, teacher.pooled)}
