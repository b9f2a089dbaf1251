"""Cumulative spatial distillation: a CNN teaches every patch token of a ViT, from local to global.

Reference:
    B. Zhao, R. Song and J. Liang, "Cumulative spatial knowledge distillation for vision transformers", ICCV 2023.
"""

from math import cos, pi
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kdprobe.distillers.widen import widened

Decay = Literal["linear", "x2", "cos"]
Kind = Literal["hard", "soft"]


def fusion_ratio(progress: float, decay: Decay = "linear") -> float:
    """Weight of the local teacher: 1 at the start of training, 0 at its end.

    Args:
        progress: fraction of the training done, in [0, 1].
        decay: `linear`, `x2` (squared) or `cos` (quarter of a cosine).
    """
    return {"linear": 1 - progress, "x2": (1 - progress) ** 2, "cos": cos(pi / 2 * progress)}[decay]


def fused_teacher(dense: Float[Tensor, "batch classes h w"], ratio: float) -> Float[Tensor, "batch classes h w"]:
    """`ratio` parts of the logits at each place and `1 - ratio` of their mean over all places.

    Args:
        dense: the teacher's logits [B, C, h, w].
        ratio: in [0, 1], from `fusion_ratio`.
    """
    return ratio * dense + (1 - ratio) * dense.mean(dim=(2, 3), keepdim=True)


@widened
def dense_loss(
    student_dense: Float[Tensor, "batch classes hs ws"],
    teacher_dense: Float[Tensor, "batch classes ht wt"],
    *,
    kind: Kind = "hard",
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """How far the student's logits at each place are from the teacher's.

    Args:
        student_dense: [B, C, h, w]; averaged onto the teacher's grid where that is another.
        teacher_dense: [B, C, h', w'], from `fused_teacher`.
        kind: `hard` is the cross entropy with the teacher's class, mean over samples and places (published);
            `soft` is `T^2` times KL(teacher || student), summed over places and averaged over samples.
        temperature: T > 0 of `soft`.
    """
    aligned = F.adaptive_avg_pool2d(student_dense, (teacher_dense.shape[2], teacher_dense.shape[3]))
    if kind == "hard":
        return F.cross_entropy(aligned, teacher_dense.argmax(dim=1))
    return _divergence(aligned, teacher_dense, temperature) / len(aligned)


@widened
def token_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    kind: Kind = "hard",
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Loss of the distillation token, as in DeiT.

    Args:
        student_logits: [B, C], of the distillation token.
        teacher_logits: [B, C].
        kind: `hard` is the cross entropy with the teacher's class; `soft` is `T^2` times KL(teacher || student),
            mean over samples and classes (unlike `dense_loss`; both as published).
        temperature: T > 0 of `soft`.
    """
    if kind == "hard":
        return F.cross_entropy(student_logits, teacher_logits.argmax(dim=1))
    return _divergence(student_logits, teacher_logits, temperature) / student_logits.numel()


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    log_p, log_q = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return F.kl_div(log_p, log_q, reduction="sum", log_target=True) * temperature**2


def dense_logits(maps: Float[Tensor, "batch _c h w"], head: nn.Module) -> Float[Tensor, "batch _classes h w"]:
    """A classifier applied at each place of a map."""
    logits: Tensor = head(maps.permute(0, 2, 3, 1))
    return logits.permute(0, 3, 1, 2)
