"""Cumulative spatial distillation: a CNN teaches every patch token of a ViT, from local to global.

Reference:
    B. Zhao, R. Song and J. Liang, "Cumulative spatial knowledge distillation for vision transformers", ICCV 2023.
"""

from math import pi
from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.distillers.base import Amount, Method, Progress, cosine, needs_places, needs_teacher
from kdprobe.distillers.deit import (
    TargetKind,
    logits_of_tokens,
    needs_distillation_token,
    summed_divergence,
    token_loss,
)
from kdprobe.distillers.search import around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features, Shapes

Decay = Literal["linear", "x2", "cos"]


def fusion_ratio(progress: Amount, decay: Decay = "linear") -> Amount:
    """Weight of the local teacher: 1 at the start of training, 0 at its end.

    Args:
        progress: fraction of the training done, in [0, 1].
        decay: `linear`, `x2` (squared) or `cos` (quarter of a cosine).
    """
    if decay == "cos":
        return cosine(pi / 2 * progress)
    return 1 - progress if decay == "linear" else (1 - progress) ** 2


@widened
def fused_teacher(dense: Float[Tensor, "batch classes h w"], ratio: Amount) -> Float[Tensor, "batch classes h w"]:
    """`ratio` parts of the logits at each place and `1 - ratio` of their mean over all places.

    Args:
        dense: the teacher's logits [B, C, h, w].
        ratio: what `fusion_ratio` returns, in [0, 1].
    """
    return ratio * dense + (1 - ratio) * dense.mean(dim=(2, 3), keepdim=True)


@widened
def dense_loss(
    student_dense: Float[Tensor, "batch classes hs ws"],
    teacher_dense: Float[Tensor, "batch classes ht wt"],
    *,
    kind: TargetKind = "hard",
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """How far the student's logits at each place are from the teacher's.

    Args:
        student_dense: [B, C, h, w]; averaged onto the teacher's grid where the two differ.
        teacher_dense: [B, C, h', w'], from `fused_teacher`.
        kind: `hard` is the cross entropy with the teacher's class, mean over samples and places (published);
            `soft` is `T^2` times KL(teacher || student), summed over places and averaged over samples.
        temperature: T > 0 of `soft`.
    """
    aligned = F.adaptive_avg_pool2d(student_dense, (teacher_dense.shape[2], teacher_dense.shape[3]))
    if kind == "hard":
        return F.cross_entropy(aligned, teacher_dense.argmax(dim=1))
    return summed_divergence(aligned, teacher_dense, temperature) / len(aligned)


def dense_logits(maps: Float[Tensor, "batch _c h w"], head: nn.Module) -> Float[Tensor, "batch _classes h w"]:
    """A classifier applied at each place of a map."""
    logits: Tensor = head(maps.permute(0, 2, 3, 1))
    return logits.permute(0, 3, 1, 2)


class CSKDOptions(Section):
    """Options of spatial distillation; the defaults are the published ones.

    Attributes:
        ce_weight: weight of the cross entropy of the class token.
        token_weight: weight of the distillation token's term.
        dense_weight: weight of the patch tokens' term.
        decay: how the local teacher fades.
        token_kind: `hard` or `soft`, see `token_loss` of `deit`.
        dense_kind: `hard` or `soft`, see `dense_loss`.
        temperature: T of the soft kinds.
    """

    ce_weight: float = Field(0.5, ge=0)
    token_weight: float = Field(0.5, ge=0)
    dense_weight: float = Field(1.0, ge=0)
    decay: Decay = "linear"
    token_kind: TargetKind = "hard"
    dense_kind: TargetKind = "hard"
    temperature: float = Field(1.0, gt=0)


class CSKD(Method):
    """Cross entropy of a distilled transformer: class token with labels, other tokens with the answers of a CNN.

    The patch tokens share the classifier of the distillation token. To have all three kinds of token vote at
    inference, as published, train `kdprobe.models.dense_deit:dense_deit`.
    """

    Options: ClassVar[type[Section]] = CSKDOptions
    reference = "Zhao, Song, Liang 2023"
    source = "the authors' script for ImageNet"
    published = "76.3 (ImageNet, RegNetY-16GF to DeiT-Ti)"
    search = ranges(token_weight=around_weight(0.5), dense_weight=around_weight(1.0))
    student_needs = ("tokens", "head")
    teacher_needs = ("maps", "head")
    teacher_stages = (-1,)
    options: CSKDOptions

    def __init__(self, options: CSKDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("cskd", teacher)
        needs_distillation_token("cskd", student)
        needs_places("cskd", teacher)

    def logits(self, student: Features) -> Tensor:
        """Labels are for the class token alone."""
        return token_logits(student)[0]

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """`token` and `dense`."""
        assert teacher is not None
        assert teacher.head is not None
        options = self.options
        _, by_token, dense = token_logits(student)
        local = dense_logits(teacher.maps[-1], teacher.head).float()
        fused = fused_teacher(local, fusion_ratio(progress.whole / progress.n_epochs, options.decay))
        token = token_loss(by_token, local.mean(dim=(2, 3)), kind=options.token_kind, temperature=options.temperature)
        spatial = dense_loss(dense, fused, kind=options.dense_kind, temperature=options.temperature)
        return {"token": options.token_weight * token, "dense": options.dense_weight * spatial}


def token_logits(student: Features) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the class token [B, C], the distillation token [B, C] and the patches [B, C, h, w]."""
    assert student.tokens is not None
    patches = student.heads[1](student.tokens[:, student.n_prefix :])
    side = round(patches.shape[1] ** 0.5)
    return *logits_of_tokens(student), patches.mT.unflatten(2, (side, side))
