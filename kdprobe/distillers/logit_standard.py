"""Logit standardisation: the student learns the relations of the teacher's logits, not their size.

Reference:
    S. Sun, W. Ren, J. Li, R. Wang and X. Cao, "Logit standardization in knowledge distillation", CVPR 2024.
    The authors' code: sunshangquan/logit-standardization-KD on GitHub.
"""

from math import sqrt
from typing import ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress
from kdprobe.distillers.kd import kd_loss
from kdprobe.distillers.search import LogUniform, around_weight, ranges
from kdprobe.distillers.vectors import centred, unit
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features


@widened
def standardised_logits(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    """Logits of mean 0 and standard deviation 1 (unbiased) for each sample; equal logits become 0."""
    degrees_of_freedom = logits.shape[1] - 1
    return unit(centred(logits, dim=1), dim=1) * sqrt(degrees_of_freedom)


class LogitStandardOptions(Section):
    """Weights and temperature; the defaults are those of the authors' code.

    They hold for ResNet56 to ResNet20 and for ResNet110 to ResNet32; by the names of the authors' logs, ResNet110 to
    ResNet20 had temperature 4 and weight 12, and some other pairs temperature 3. On ImageNet `ce_weight` is 1.

    Attributes:
        ce_weight: weight of the cross entropy.
        kd_weight: weight of the divergence of the standardised logits.
        temperature: T, in standard deviations of the logits.
    """

    ce_weight: float = Field(0.1, ge=0)
    kd_weight: float = Field(9.0, ge=0)
    temperature: float = Field(2.0, gt=0)


class LogitStandard(Method):
    """KL divergence between class probabilities from logits that are standardised for each sample."""

    Options: ClassVar[type[Section]] = LogitStandardOptions
    reference = "Sun, Ren, Li, Wang, Cao 2024"
    source = "the authors' script for CIFAR-100"
    published = "71.43 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(kd_weight=around_weight(9.0), temperature=LogUniform(0.5, 8.0))
    options: LogitStandardOptions

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `kd`."""
        assert teacher is not None
        ours, theirs = standardised_logits(student.logits), standardised_logits(teacher.logits)
        return {"kd": self.options.kd_weight * kd_loss(ours, theirs, temperature=self.options.temperature)}
