"""Decoupled distillation: how sure the teacher is of the target, and how it ranks the others.

Reference:
    B. Zhao, Q. Cui, R. Song, Y. Qiu and J. Liang, "Decoupled knowledge distillation", CVPR 2022,
    equation 7.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress
from kdprobe.distillers.search import Choice, LogUniform, ranges
from kdprobe.distillers.widen import widened
from kdprobe.errors import AnalysisError
from kdprobe.models.stages import Features, Shapes


@widened
def dkd_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    target: Int[Tensor, " batch"],
    *,
    alpha: float,
    beta: float,
    temperature: float,
) -> Float[Tensor, ""]:
    """`alpha` times the target part plus `beta` times the non-target part (see `dkd_parts`).

    Raises:
        AnalysisError: if there are only two classes, so that there is nothing to rank.
    """
    target_part, other_part = dkd_parts(student_logits, teacher_logits, target, temperature=temperature)
    return alpha * target_part + beta * other_part


@widened
def dkd_parts(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    target: Int[Tensor, " batch"],
    *,
    temperature: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The two parts of decoupled distillation, each `T^2` times a batch mean of KL(teacher || student).

    Everything is a difference of log-sum-exps, so that saturated softmaxes stay finite.

    Args:
        student_logits: [B, C], C > 2.
        teacher_logits: [B, C].
        target: [B] class numbers.
        temperature: T > 0.

    Returns:
        the part of (target, not target) and the part among the classes that are not the target.

    Raises:
        AnalysisError: if there are only two classes.
    """
    check_classes(student_logits.shape[1])
    student = split_logits(student_logits / temperature, target)
    teacher = split_logits(teacher_logits / temperature, target)
    parts = [
        F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return parts[0] * temperature**2, parts[1] * temperature**2


def split_logits(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (target, not target) [B, 2] and of the other classes among themselves [B, C-1]."""
    of_target = logits.gather(1, target[:, None])
    others = other_logits(logits, target)
    binary = torch.cat([of_target, others.logsumexp(dim=1, keepdim=True)], dim=1)
    return F.log_softmax(binary, dim=1), F.log_softmax(others, dim=1)


def other_logits(logits: Tensor, target: Tensor) -> Tensor:
    """Logits [B, C-1] of the classes that are not the target, in their order."""
    others = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, others + (others >= target[:, None]))


def check_classes(n_classes: int, others: str = "kd is") -> None:
    """Check that there are classes to rank besides the target.

    Args:
        n_classes: C.
        others: what is defined for two classes, with its verb.

    Raises:
        AnalysisError: if there are only two classes.
    """
    if n_classes < 3:
        raise AnalysisError(
            f"decoupled distillation ranks the classes other than the target and needs at least 3 classes, "
            f"but there are {n_classes}; {others} defined for them"
        )


class DKDOptions(Section):
    """Options of decoupled distillation.

    Attributes:
        ce_weight: weight of the cross entropy.
        alpha: weight of the target part.
        beta: weight of the part among the other classes; its best value depends on the pair of networks
            (2 for ResNet56 to ResNet20, 8 for wider pairs, 0.5 on ImageNet).
        temperature: T.
        warmup_epochs: whole epochs over which both parts rise.
        warmup_from: what the first epoch counts as, 1 or 0 (see `Progress.warmup`).
    """

    ce_weight: float = Field(1.0, ge=0)
    alpha: float = Field(1.0, ge=0)
    beta: float = Field(8.0, ge=0)
    temperature: float = Field(4.0, gt=0)
    warmup_epochs: int = Field(20, ge=0)
    warmup_from: Literal[0, 1] = 1


class DKD(Method):
    """KL divergence in two parts, each weighted: the target class against the rest, and among the other classes."""

    Options: ClassVar[type[Section]] = DKDOptions
    reference = "Zhao, Cui, Song, Qiu, Liang 2022"
    source = "the authors' configuration for CIFAR-100"
    published = "71.97 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(beta=LogUniform(0.25, 16.0), temperature=LogUniform(1.0, 16.0), warmup_epochs=Choice((0, 20)))
    options: DKDOptions

    def __init__(self, options: DKDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        check_classes(student.n_classes)

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """`target` and `others`."""
        assert teacher is not None
        options = self.options
        parts = dkd_parts(student.logits, teacher.logits, labels, temperature=options.temperature)
        warmup = progress.warmup(options.warmup_epochs, first=options.warmup_from)
        return {"target": warmup * options.alpha * parts[0], "others": warmup * options.beta * parts[1]}
