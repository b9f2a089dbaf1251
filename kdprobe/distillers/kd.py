"""Vanilla knowledge distillation: the student copies the teacher's softened classes.

Reference:
    G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network", 2015.
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress
from kdprobe.distillers.search import LogUniform, around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features


@widened
def kd_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """`T^2` times the batch mean of KL(teacher || student), both softened by the temperature.

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C].
        temperature: T > 0.

    Returns:
        a non-negative scalar, zero where the two softmaxes agree.
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def divergences(
    student: Float[Tensor, "batch classes"], teacher: Float[Tensor, "batch classes"]
) -> Float[Tensor, " batch"]:
    """KL(teacher || student) of each sample, of log-probabilities [B, C]."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)


class KDOptions(Section):
    """Weights and temperature; the defaults are those of the CIFAR-100 benchmarks."""

    ce_weight: float = Field(0.1, ge=0)
    kd_weight: float = Field(0.9, ge=0)
    temperature: float = Field(4.0, gt=0)


class KD(Method):
    """Cross entropy with the labels, and KL divergence between the networks' softened class probabilities."""

    Options: ClassVar[type[Section]] = KDOptions
    reference = "Hinton, Vinyals, Dean 2015"
    source = "mdistiller's configuration for CIFAR-100"
    published = "70.66 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(kd_weight=around_weight(0.9), temperature=LogUniform(1.0, 16.0))
    options: KDOptions

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `kd`."""
        assert teacher is not None
        loss = kd_loss(student.logits, teacher.logits, temperature=self.options.temperature)
        return {"kd": self.options.kd_weight * loss}
