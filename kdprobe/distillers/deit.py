"""Distillation through attention: a token of its own learns the teacher's answers, the class token learns the labels.

Reference:
    H. Touvron, M. Cord, M. Douze, F. Massa, A. Sablayrolles and H. Jegou, "Training data-efficient image transformers
    & distillation through attention", ICML 2021.
    The authors' code: facebookresearch/deit on GitHub.
"""

from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_teacher
from kdprobe.distillers.search import Choice, around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Shapes

TargetKind = Literal["hard", "soft"]


@widened
def token_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    kind: TargetKind = "hard",
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Loss of the distillation token.

    Args:
        student_logits: [B, C], of the distillation token.
        teacher_logits: [B, C].
        kind: `hard` is the cross entropy with the teacher's class, the first of several that tie; `soft` is `T^2` times
            KL(teacher || student), mean over samples and classes, as published: 1/C of what `kd` takes.
        temperature: T > 0 of `soft`.
    """
    if kind == "hard":
        return F.cross_entropy(student_logits, teacher_logits.argmax(dim=1))
    return summed_divergence(student_logits, teacher_logits, temperature) / student_logits.numel()


def summed_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`T^2` times KL(teacher || student) over the second dimension, summed over all others."""
    log_p, log_q = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return F.kl_div(log_p, log_q, reduction="sum", log_target=True) * temperature**2


class DeiTOptions(Section):
    """Options of distillation through a token; the defaults are the published ones.

    Attributes:
        ce_weight: weight of the cross entropy of the class token.
        token_weight: weight of the distillation token's term.
        kind: `hard` or `soft`, see `token_loss`.
        temperature: T of `soft`.
    """

    ce_weight: float = Field(0.5, ge=0)
    token_weight: float = Field(0.5, ge=0)
    kind: TargetKind = "hard"
    temperature: float = Field(1.0, gt=0)


class DeiT(Method):
    """Cross entropy of a distilled transformer: class token with labels, distillation token with the teacher.

    How the two classifiers vote at inference is up to the network: the mean of their logits in timm's distilled models.
    """

    Options: ClassVar[type[Section]] = DeiTOptions
    reference = "Touvron, Cord, Douze, Massa, Sablayrolles, Jegou 2021"
    source = "the authors' published setting for ImageNet"
    published = "74.5 (ImageNet, RegNetY-16GF to DeiT-Ti)"
    search = ranges(token_weight=around_weight(0.5), kind=Choice(("hard", "soft")))
    student_needs = ("tokens", "head")
    options: DeiTOptions

    def __init__(self, options: DeiTOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        needs_teacher("deit", teacher)
        needs_distillation_token("deit", student)

    def logits(self, student: Features) -> Tensor:
        """Labels are for the class token alone."""
        return logits_of_tokens(student)[0]

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `token`."""
        assert teacher is not None
        options, by_token = self.options, logits_of_tokens(student)[1]
        loss = token_loss(by_token, teacher.logits, kind=options.kind, temperature=options.temperature)
        return {"token": options.token_weight * loss}


def logits_of_tokens(student: Features) -> tuple[Tensor, Tensor]:
    """Logits of the class token and of the distillation token, [B, C] each."""
    assert student.tokens is not None
    head, distillation_head = student.heads
    return head(student.tokens[:, 0]), distillation_head(student.tokens[:, 1])


def needs_distillation_token(method: str, student: Shapes) -> None:
    """Check that the student has a class token and a distillation token, each with a classifier.

    Raises:
        ModelError: naming the student.
    """
    if student.tokens is None or student.n_heads < 2 or student.n_prefix < 2:
        raise ModelError(
            f"{method} teaches the tokens of a transformer with a distillation token, such as "
            f"deit_tiny_distilled_patch16_224, and is not defined for the student {student.model}; "
            "ofa and dropkd take any pair"
        )
