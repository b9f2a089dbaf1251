"""Redundancy suppression: each feature of the student goes with its own feature of the teacher and with no other.

Reference:
    W. Zhang et al., "Cross-architecture distillation made simple with redundancy suppression", ICCV 2025.
    The authors' code: spacewanderx/RSD on GitHub.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_pooled, needs_teacher
from kdprobe.distillers.search import LogUniform, around_weight, ranges
from kdprobe.distillers.vectors import centred
from kdprobe.distillers.widen import widened
from kdprobe.errors import AnalysisError
from kdprobe.models.stages import Features, Shapes

_EPS = 1e-5  # added to the standard deviation of each feature


@widened
def rsd_loss(
    student: Float[Tensor, "batch d"], teacher: Float[Tensor, "batch d"], *, kappa: float = 0.01
) -> Float[Tensor, ""]:
    """Squared distance of the correlations between the two networks' features from the identity matrix.

    It is a sum over all pairs of features, which ranges from 0 to about d, and d in a batch of one. With fewer samples
    than features it cannot become 0. A constant feature correlates with nothing and passes no gradient, where the
    original passes one of order 1e5.

    Args:
        student: features [B, d], projected to the teacher's width.
        teacher: features [B, d].
        kappa: weight of the pairs of different features.
    """
    correlations = _standardised(teacher).mT @ _standardised(student) / len(student)
    matched = correlations.diagonal()
    others = correlations - torch.diag_embed(matched)
    return (matched - 1).square().sum() + kappa * others.square().sum()


def _standardised(features: Tensor) -> Tensor:
    deviations = centred(features, dim=0)
    spread: Tensor = torch.linalg.vector_norm(deviations, dim=0) / len(features) ** 0.5
    return deviations / (spread + _EPS)


def projector(width: int, out_width: int, *, expansion: int = 2) -> nn.Sequential:
    """Linear layer, batch norm, GELU and linear layer: [B, width] -> [B, out_width]."""
    hidden = expansion * width
    layers = nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.GELU(),
        nn.Linear(hidden, out_width, bias=False),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
    return layers


class RSDOptions(Section):
    """Options of redundancy suppression; the defaults are those of the authors' code.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the term, which is a sum over all pairs of the teacher's features and grows with their number.
        kappa: weight of the pairs of different features within the term.
        expansion: width of the projector's hidden layer as a multiple of the student's width.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(0.1, ge=0)
    kappa: float = Field(0.01, ge=0)
    expansion: int = Field(2, ge=1)


class RSD(Method):
    """Squared distance from the identity matrix of the correlations between both networks' pooled features.

    The student's pass through a projector; correlations are over the per-process batch (not gathered across devices).
    """

    Options: ClassVar[type[Section]] = RSDOptions
    reference = "Zhang et al. 2025"
    source = "the authors' code, for pairs of unlike networks on CIFAR-100"
    search = ranges(weight=around_weight(0.1), kappa=LogUniform(0.001, 0.1))
    student_needs = teacher_needs = ("pooled",)
    options: RSDOptions

    def __init__(self, options: RSDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("rsd", teacher)
        needs_pooled("rsd", student, teacher)
        self.projector = projector(student.width, teacher.width, expansion=options.expansion)

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `correlation`.

        Raises:
            AnalysisError: in training, for a batch of one, which the projector's batch norm cannot normalise.
        """
        assert teacher is not None
        assert student.pooled is not None
        assert teacher.pooled is not None
        if self.training and len(student.pooled) < 2:
            raise AnalysisError(
                f"rsd correlates features over a batch of at least 2 samples, but got {len(student.pooled)}"
            )
        projected = self.projector(student.pooled)
        return {"correlation": self.options.weight * rsd_loss(projected, teacher.pooled, kappa=self.options.kappa)}
