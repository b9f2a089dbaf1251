"""Transformed teacher matching: only the teacher is softened, so that the student is drawn to less certain answers.

Reference:
    K. Zheng and E.-H. Yang, "Knowledge distillation based on transformed teacher matching", ICLR 2024.
    The authors' code: zkxufo/TTM on GitHub.
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress
from kdprobe.distillers.kd import divergences
from kdprobe.distillers.search import LogUniform, around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features


@widened
def ttm_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    gamma: float,
    weighted: bool = False,
) -> Float[Tensor, ""]:
    """Batch mean of KL(transformed teacher || student), without a temperature of the student and without `T^2`.

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C]; the teacher's probabilities are raised to the power of `gamma` and normalised, which
            is a temperature of `1 / gamma`.
        gamma: above 0.
        weighted: whether each sample counts as much as its `uncertainty_weights` say (WTTM).
    """
    teacher = F.log_softmax(gamma * teacher_logits, dim=1)
    student = F.log_softmax(student_logits, dim=1)
    losses = divergences(student, teacher)
    return (uncertainty_weights(teacher_logits, gamma) * losses if weighted else losses).mean()


@widened
def uncertainty_weights(teacher_logits: Float[Tensor, "batch classes"], gamma: float) -> Float[Tensor, " batch"]:
    """Sum of the teacher's probabilities to the power of `gamma` [B]; for `gamma` below 1 large where it is uncertain.

    It is between 1 and `C^(1 - gamma)` there, so that the weights of terms with and without it are not comparable.
    """
    return ((gamma * teacher_logits).logsumexp(dim=1) - gamma * teacher_logits.logsumexp(dim=1)).exp()


class TTMOptions(Section):
    """Options of transformed teacher matching; the defaults are those of the authors' example, VGG13 to VGG8.

    Attributes:
        ce_weight: weight of the cross entropy.
        ttm_weight: weight of the divergence, beta.
        gamma: power of the teacher's probabilities, the reciprocal of its temperature.
    """

    ce_weight: float = Field(1.0, ge=0)
    ttm_weight: float = Field(45.0, ge=0)
    gamma: float = Field(0.1, gt=0)


class TTM(Method):
    """KL divergence of the student's probabilities, not softened, from the teacher's softened ones.

    Attributes:
        weighted: whether uncertain answers of the teacher count for more.
    """

    Options: ClassVar[type[Section]] = TTMOptions
    weighted: ClassVar[bool] = False
    reference = "Zheng, Yang 2024"
    source = "the authors' example for CIFAR-100, VGG13 to VGG8"
    published = "71.83 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(ttm_weight=around_weight(45.0), gamma=LogUniform(0.05, 1.0))
    options: TTMOptions

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `ttm`."""
        assert teacher is not None
        gamma, weight = self.options.gamma, self.options.ttm_weight
        return {"ttm": weight * ttm_loss(student.logits, teacher.logits, gamma=gamma, weighted=self.weighted)}


class WTTMOptions(TTMOptions):
    """Options of weighted transformed teacher matching; the defaults are those of the authors' example beside CRD."""

    ttm_weight: float = Field(4.0, ge=0)
    gamma: float = Field(0.2, gt=0)


class WTTM(TTM):
    """KL divergence from the teacher's softened probabilities, with more weight where the teacher is unsure."""

    Options: ClassVar[type[Section]] = WTTMOptions
    weighted = True
    source = "the authors' example for CIFAR-100, VGG13 to VGG8 with CRD"
    published = "71.92 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(ttm_weight=around_weight(4.0), gamma=LogUniform(0.05, 1.0))
    options: WTTMOptions
