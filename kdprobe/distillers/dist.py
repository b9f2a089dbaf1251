"""DIST: correlation instead of equality, between the classes of a sample and between the samples of a class.

Reference:
    T. Huang, S. You, F. Wang, C. Qian and C. Xu, "Knowledge distillation from a stronger teacher", NeurIPS 2022.
    The authors' code: hunto/DIST_KD and hunto/image_classification_sota on GitHub.
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress
from kdprobe.distillers.search import LogUniform, around_weight, ranges
from kdprobe.distillers.vectors import centred, unit
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features


@widened
def inter_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """`T^2` times one minus the correlation over the classes of the two networks' probabilities, mean over samples.

    A sample whose probabilities are all equal has correlation 0.
    """
    ours, theirs = (F.softmax(logits / temperature, dim=1) for logits in (student_logits, teacher_logits))
    return temperature**2 * (1 - _correlation(ours, theirs).mean())


@widened
def intra_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """`T^2` times one minus the correlation over the samples of the two networks' probabilities, mean over classes.

    A class whose probability is the same for all samples, as in a batch of one, has correlation 0.
    """
    ours, theirs = (F.softmax(logits / temperature, dim=1) for logits in (student_logits, teacher_logits))
    return temperature**2 * (1 - _correlation(ours.mT, theirs.mT).mean())


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's, of each row."""
    return (unit(centred(x, dim=1), dim=1) * unit(centred(y, dim=1), dim=1)).sum(dim=1)


class DISTOptions(Section):
    """Weights and temperature; the defaults are those of the authors' configuration for CIFAR-100.

    Attributes:
        ce_weight: weight of the cross entropy.
        inter_weight: beta, of the relations between the classes of a sample. The authors' code has beta and gamma 1
            and weights their sum by 2, on CIFAR-100 and on ImageNet.
        intra_weight: gamma, of the relations between the samples of a class.
        temperature: T, 4 on CIFAR-100 and 1 on ImageNet.
    """

    ce_weight: float = Field(1.0, ge=0)
    inter_weight: float = Field(2.0, ge=0)
    intra_weight: float = Field(2.0, ge=0)
    temperature: float = Field(4.0, gt=0)


class DIST(Method):
    """One minus the correlation of class probabilities, over a sample's classes and over a class's samples.

    The samples are those of the per-process batch (not gathered across devices).
    """

    Options: ClassVar[type[Section]] = DISTOptions
    reference = "Huang, You, Wang, Qian, Xu 2022"
    source = "the authors' configuration for CIFAR-100"
    published = "71.75 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(inter_weight=around_weight(2.0), intra_weight=around_weight(2.0), temperature=LogUniform(1.0, 16.0))
    options: DISTOptions

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """`inter` and `intra`."""
        assert teacher is not None
        options, pair = self.options, (student.logits, teacher.logits)
        return {
            "inter": options.inter_weight * inter_loss(*pair, temperature=options.temperature),
            "intra": options.intra_weight * intra_loss(*pair, temperature=options.temperature),
        }
