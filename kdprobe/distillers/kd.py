"""Vanilla knowledge distillation: the student copies the teacher's softened classes.

Reference:
    G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network", 2015.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kdprobe.distillers.widen import widened


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
