"""Decoupled distillation: how sure the teacher is of the target, and how it ranks the others.

Reference:
    B. Zhao, Q. Cui, R. Song, Y. Qiu and J. Liang, "Decoupled knowledge distillation", CVPR 2022,
    equation 7.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from kdprobe.distillers.widen import widened
from kdprobe.errors import AnalysisError


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
        AnalysisError: for two classes, where there is one other class and nothing to rank.
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
        AnalysisError: for two classes.
    """
    if student_logits.shape[1] < 3:
        raise AnalysisError(
            f"decoupled distillation ranks the classes other than the target and needs at least 3 classes, "
            f"but there are {student_logits.shape[1]}; kd is defined for them"
        )
    student = _split(student_logits / temperature, target)
    teacher = _split(teacher_logits / temperature, target)
    parts = [
        F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return parts[0] * temperature**2, parts[1] * temperature**2


def _split(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (target, not target) [B, 2] and of the other classes among themselves [B, C-1]."""
    of_target = logits.gather(1, target[:, None])
    is_other = torch.ones_like(logits, dtype=torch.bool).scatter(1, target[:, None], False)
    others = logits[is_other].view(len(logits), -1)
    binary = torch.cat([of_target, others.logsumexp(dim=1, keepdim=True)], dim=1)
    return F.log_softmax(binary, dim=1), F.log_softmax(others, dim=1)
