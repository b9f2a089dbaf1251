"""A simple recipe of distillation: a linear projector, both sides standardised over the batch, a soft maximum.

References:
    R. Miles and K. Mikolajczyk, "Understanding the role of the projector in knowledge distillation", AAAI 2024;
    the authors' code: roymiles/Simple-Recipe-Distillation on GitHub.
    R. Miles, I. Elezi and J. Deng, "VkD: improving knowledge distillation using orthogonal projections", CVPR 2024;
    the authors' code: roymiles/VkD. Its form for detection, which standardises tokens, is not made here.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_pooled, needs_teacher
from kdprobe.distillers.kd import kd_loss
from kdprobe.distillers.search import around_weight, ranges
from kdprobe.distillers.vectors import centred, unit
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features, Need, Shapes

#: least sum of powers whose logarithm is taken, and the least one that passes a gradient, as it has no bound near 0
_LEAST = 1e-5


@widened
def srd_loss(
    student: Float[Tensor, "batch d"], teacher: Float[Tensor, "batch d"], *, exponent: float = 4.0, eps: float = 1e-4
) -> Float[Tensor, ""]:
    """Logarithm of the sum, over samples and features, of a power of the standardised features' differences.

    The sum is 1e-5 at least, where the original takes the logarithm of 0 for equal features, as in a batch of one.

    Args:
        student: features [B, d], projected to the teacher's width.
        teacher: features [B, d]; they are standardised by this batch too.
        exponent: of the differences; at least 1.
        eps: added to the variances.
    """
    differences = _standardised(student, eps) - _standardised(teacher, eps)
    return differences.abs().pow(exponent).sum().clamp(min=_LEAST).log()


def _standardised(features: Tensor, eps: float) -> Tensor:
    deviations = centred(features, dim=0)
    return deviations / (deviations.square().mean(dim=0) + eps).sqrt()


@widened
def srd_correlation_loss(student: Float[Tensor, "batch d"], teacher: Float[Tensor, "batch d"]) -> Float[Tensor, ""]:
    """Logarithm of the sum over features of (1 - correlation)^4, plus 1e-5: the form for DeiT.

    A constant feature has correlation 0 and passes no gradient.

    Args:
        student: features [B, d], projected to the teacher's width.
        teacher: features [B, d].
    """
    ours, theirs = (unit(centred(features, dim=0), dim=0) for features in (student, teacher))
    return (((ours * theirs).sum(dim=0) - 1).pow(4).sum() + _LEAST).log()


@widened
def vkd_loss(student: Float[Tensor, "batch d"], teacher: Float[Tensor, "batch d"]) -> Float[Tensor, ""]:
    """Smooth L1 distance to the teacher's features, each sample of which is standardised; the student's are not.

    Args:
        student: features [B, d], projected orthogonally to the teacher's width.
        teacher: features [B, d].
    """
    return F.smooth_l1_loss(student, F.layer_norm(teacher, teacher.shape[1:]))


_LOSSES = {"power": srd_loss, "correlation": srd_correlation_loss, "vkd": vkd_loss}


class SRDOptions(Section):
    """Options of the simple recipe; the defaults are those of its authors for ResNet34 to ResNet18 on ImageNet.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the features' term. The authors take 2 for `power` and 1 for the other forms.
        kd_weight: weight of `kd_loss` at temperature 1; with 0 the teacher needs no classifier.
        form: `power`, `correlation` (the authors' for DeiT) or `vkd`, which goes with an orthogonal projector.
        exponent: `power`: of the differences, 16 at most. torchdistill's class has 1 where its configurations have 4.
        projector: `linear`, with a bias, or `orthogonal`: columns, or rows for a narrower teacher, are orthonormal.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(2.0, ge=0)
    kd_weight: float = Field(1.0, ge=0)
    form: Literal["power", "correlation", "vkd"] = "power"
    exponent: float = Field(4.0, ge=1, le=16)
    projector: Literal["linear", "orthogonal"] = "linear"


class SRD(Method):
    """Logarithm of the sum of powers of the differences of pooled features, standardised over a batch.

    Of a student with tokens the features are the mean of its patch tokens. The batch is the per-process batch (not
    gathered across devices).
    """

    Options: ClassVar[type[Section]] = SRDOptions
    reference = "Miles, Mikolajczyk 2024"
    source = "the authors' configuration for ImageNet"
    published = "71.87 (ImageNet, ResNet34 to ResNet18)"
    search = ranges(weight=around_weight(2.0), kd_weight=around_weight(1.0))
    student_needs: tuple[Need, ...] = ("pooled",)
    teacher_needs: tuple[Need, ...] = ("pooled",)
    without_logits: ClassVar[Mapping[str, Any]] = {"kd_weight": 0}
    options: SRDOptions

    def __init__(self, options: SRDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("srd", teacher)
        needs_pooled("srd", teacher, *([student] if student.tokens is None else []))
        logits: tuple[Need, ...] = ("logits",) if options.kd_weight else ()
        self.student_needs = ("pooled" if student.tokens is None else "tokens", *logits)
        self.teacher_needs = ("pooled", *logits)
        width = student.width if student.tokens is None else student.tokens[1]
        self.projector = nn.Linear(width, teacher.width, bias=options.projector == "linear")
        if options.projector == "orthogonal":
            orthogonal(self.projector)

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """`features`, and `kd` unless its weight is 0."""
        assert teacher is not None
        assert teacher.pooled is not None
        options = self.options
        projected, loss = self._projected(student), _LOSSES[options.form]
        given = {"exponent": options.exponent} if options.form == "power" else {}
        terms = {"features": options.weight * loss(projected, teacher.pooled, **given)}
        if options.kd_weight:
            terms["kd"] = options.kd_weight * kd_loss(student.logits, teacher.logits, temperature=1.0)
        return terms

    def _projected(self, student: Features) -> Tensor:
        features = student.pooled if student.tokens is None else student.tokens[:, student.n_prefix :].mean(dim=1)
        assert features is not None
        with torch.autocast(features.device.type, enabled=False):  # columns orthonormal to all digits
            projected: Tensor = self.projector(features.to(self.projector.weight.dtype))
        return projected
