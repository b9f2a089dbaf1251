"""Similarity as a loss: the student is trained to a high CKA with its teacher, stage by stage.

What it optimises. Linear CKA is the cosine between the two networks' relations of samples to each other. It compares
matrices of a batch's size, so the two maps may have any channels and grids, and no projector stands between them.

Reference:
    S. Kornblith, M. Norouzi, H. Lee and G. Hinton, "Similarity of neural network representations revisited", ICML 2019;
    T. Nguyen, M. Raghu and S. Kornblith, "Do wide and deep networks learn the same things?", ICLR 2021, equation 4.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_teacher
from kdprobe.distillers.pairing import Pairs, stage_pairs
from kdprobe.distillers.search import Choice, around_weight, ranges
from kdprobe.distillers.vectors import centred
from kdprobe.distillers.widen import widened
from kdprobe.features.hsic import MIN_SAMPLES, comparable
from kdprobe.models.stages import Features, Shapes


@widened
def batch_hsic(student: Float[Tensor, "batch ..."], teacher: Float[Tensor, "batch ..."]) -> Float[Tensor, "3"]:
    """Unbiased HSIC of student and teacher, of the student with itself and of the teacher with itself.

    Zeros without a gradient for fewer than 4 samples, for which it is not defined.

    Args:
        student: features [B, ...].
        teacher: features [B, ...].

    Returns:
        float64.
    """
    if len(student) < MIN_SAMPLES:
        return student.flatten()[:0].sum().to(torch.float64).expand(3)
    x, y = (comparable(_centred_gram(features)) for features in (student, teacher))
    return torch.stack([(x * y).sum(), (x * x).sum(), (y * y).sum()])


def _centred_gram(features: Tensor) -> Tensor:
    rows = centred(features.flatten(1), dim=0)
    return rows @ rows.mT


def cka_loss(hsic: Float[Tensor, "*stages 3"], averages: Float[Tensor, "*stages 3"]) -> Float[Tensor, "*stages"]:
    """One minus the minibatch CKA of averages over batches, with the gradient of one of these batches.

    That is the derivative of HSIC_xy / sqrt(HSIC_xx HSIC_yy) by this batch's values at the averages. A batch of its own
    (averages equal to hsic) gives the gradient of its CKA. It is 1 without a gradient where a network does not vary.

    Args:
        hsic: of a batch, from `batch_hsic`.
        averages: of several batches, this one among them.
    """
    xy, xx, yy = averages.detach().unbind(-1)
    varies = (xx > 0) & (yy > 0)
    scale = torch.where(varies, xx * yy, 1).sqrt()
    cka = torch.where(varies, xy / scale, 0)
    direction = hsic[..., 0] / scale - cka * hsic[..., 1] / (2 * torch.where(varies, xx, 1))
    direction = torch.where(varies, direction, 0)
    return 1 - cka - (direction - direction.detach())


class CKAOptions(Section):
    """Options of similarity as a loss.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the term, a mean over the stages between 0 and 2.
        momentum: of the running averages of HSIC; with 0 each batch stands for itself.
        stages: pairs of stage numbers (student, teacher); by default the stages at equal relative depths.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(1.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    stages: Pairs | None = Field(None, min_length=1)


class CKA(Method):
    """Linear CKA of the stage maps by unbiased HSIC, averaged over recent batches of a process."""

    Options: ClassVar[type[Section]] = CKAOptions
    reference = "after Kornblith et al. 2019; kdprobe's own"
    source = "tried on the digits"
    search = ranges(weight=around_weight(1.0), momentum=Choice((0.0, 0.9)))
    student_needs = teacher_needs = ("maps",)
    options: CKAOptions
    averages: Tensor

    def __init__(self, options: CKAOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        self.pairs = stage_pairs("cka", student, needs_teacher("cka", teacher), options.stages)
        self.teacher_stages = {other for _, other in self.pairs}
        self.register_buffer("averages", torch.zeros(len(self.pairs), 3, dtype=torch.float64))

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `cka`."""
        assert teacher is not None
        hsic = torch.stack([batch_hsic(student.maps[own], teacher.maps[other]) for own, other in self.pairs])
        averages = self.averages.lerp(hsic.detach(), 1 - self.options.momentum)
        if self.training and len(labels) >= MIN_SAMPLES:
            self.averages = averages
        loss = cka_loss(hsic, averages).mean()
        return {"cka": self.options.weight * loss.to(torch.promote_types(student.maps[0].dtype, torch.float32))}
