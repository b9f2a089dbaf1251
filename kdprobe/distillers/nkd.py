"""Normalised distillation: the target's probability, and the others' once they add up to one by themselves.

Reference:
    Z. Yang, A. Zeng, Z. Li, T. Zhang, C. Yuan and Y. Li, "From knowledge distillation to self-knowledge distillation:
    a unified approach with normalized loss and customized soft labels", ICCV 2023.
    The authors' code: yzd-v/cls_KD on GitHub.
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress
from kdprobe.distillers.dkd import other_logits
from kdprobe.distillers.search import LogUniform, around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features


@widened
def nkd_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    target: Int[Tensor, " batch"],
    *,
    gamma: float,
    temperature: float,
) -> Float[Tensor, ""]:
    """The target's part plus `gamma` times the others' part, batch mean (see `nkd_parts`)."""
    of_target, of_others = nkd_parts(student_logits, teacher_logits, target, temperature=temperature)
    return (of_target + gamma * of_others).mean()


@widened
def nkd_parts(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    target: Int[Tensor, " batch"],
    *,
    temperature: float,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The two cross entropies of each sample with the teacher.

    They are no divergences: where the student equals the teacher, the others' part has no gradient, but the target's
    part still pulls towards the label.

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C].
        target: [B] class numbers.
        temperature: T > 0 of the others; the target's part has none.

    Returns:
        `-p log q` of the target [B], and `T^2` times the cross entropy among the other classes [B], which is 0 if there
        are only two classes.
    """
    ours, theirs = (other_logits(logits, target) / temperature for logits in (student_logits, teacher_logits))
    among_others = -(F.softmax(theirs, dim=1) * F.log_softmax(ours, dim=1)).sum(dim=1)
    return target_part(student_logits, teacher_logits, target), temperature**2 * among_others


@widened
def target_part(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    target: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """`-p log q` of the target [B], with p the teacher's and q the student's probability, without a temperature."""
    teacher = F.softmax(teacher_logits, dim=1).gather(1, target[:, None])
    student = F.log_softmax(student_logits, dim=1).gather(1, target[:, None])
    return -(teacher * student).squeeze(1)


class NKDOptions(Section):
    """Options of normalised distillation; the defaults are those of the authors' code for CNNs on ImageNet.

    Attributes:
        ce_weight: weight of the cross entropy.
        gamma: weight of the part among the other classes, before its `T^2`; 1 for transformers on ImageNet, 3.5 with
            temperature 3 for ResNet34 to ResNet18 on CIFAR-100.
        temperature: T of that part.
    """

    ce_weight: float = Field(1.0, ge=0)
    gamma: float = Field(1.5, ge=0)
    temperature: float = Field(1.0, gt=0)


class NKD(Method):
    """Cross entropy with the teacher's probabilities: the target's, and the others', normalised without the target.

    Of mixed labels the largest is the target.
    """

    Options: ClassVar[type[Section]] = NKDOptions
    reference = "Yang, Zeng, Li, Zhang, Yuan, Li 2023"
    source = "the authors' configuration for ImageNet, CNNs"
    published = "71.96 (ImageNet, ResNet34 to ResNet18)"
    search = ranges(gamma=around_weight(1.5), temperature=LogUniform(1.0, 8.0))
    options: NKDOptions

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """`target` and `others`."""
        assert teacher is not None
        parts = nkd_parts(student.logits, teacher.logits, labels, temperature=self.options.temperature)
        return {"target": parts[0].mean(), "others": self.options.gamma * parts[1].mean()}
