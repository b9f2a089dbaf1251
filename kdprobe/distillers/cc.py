"""Correlation congruence: the samples of a batch should be related for the student as they are for the teacher.

Reference:
    B. Peng et al., "Correlation congruence for knowledge distillation", ICCV 2019.

Two different losses go by this name. `kernel` compares matrices of similarities, as the name says. `adjacent` is the
form behind the published figures: HobbitLong/RepDistiller has it from the authors, and Hao840/OFAKD repeats it.
"""

from collections.abc import Collection, Mapping
from math import exp, factorial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_pooled, needs_teacher
from kdprobe.distillers.search import LogUniform, around_weight, ranges
from kdprobe.distillers.vectors import unit
from kdprobe.distillers.widen import widened
from kdprobe.errors import AnalysisError
from kdprobe.models.stages import Features, Shapes


@widened
def congruence_loss(
    student: Float[Tensor, "batch d_s"],
    teacher: Float[Tensor, "batch d_t"],
    *,
    gamma: float = 0.4,
    order: int = 2,
    normalised: bool = True,
) -> Float[Tensor, ""]:
    """Mean squared difference of two matrices of similarities, by the Taylor series of a Gaussian kernel.

    For vectors of length one `exp(-g |x - y|^2)` is `exp(-2 g)` times the sum over p of `(2 g)^p (x, y)^p / p!`. A
    sample whose features are all zero passes no gradient; the loss is 0 in a batch of one.

    Args:
        student: features [B, d_s].
        teacher: features [B, d_t].
        gamma: g, of the kernel.
        order: of the last term of the series.
        normalised: whether vectors get length one first. The series is unbounded for others.
    """
    ours, theirs = (unit(x, dim=1) if normalised else x for x in (student, teacher))
    return F.mse_loss(_kernel(ours, gamma, order), _kernel(theirs, gamma, order))


def _kernel(features: Tensor, gamma: float, order: int) -> Tensor:
    products = features @ features.mT
    factors = [exp(-2 * gamma) * (2 * gamma) ** p / factorial(p) for p in range(order + 1)]
    return torch.stack([factor * products**p for p, factor in enumerate(factors)]).sum(dim=0)


@widened
def adjacent_loss(student: Float[Tensor, "batch d"], teacher: Float[Tensor, "batch d"]) -> Float[Tensor, ""]:
    """Mean over neighbours in the batch of the products of their absolute differences between the networks.

    It depends on the order of the batch, and it is no correlation: each factor is the size of a difference. Where both
    embeddings are trained, as in the benchmarks, they can make it small by shrinking together.

    Args:
        student: embeddings [B, d].
        teacher: embeddings [B, d]; they get a gradient too.

    Raises:
        AnalysisError: if the batch has fewer than two samples, so that none has a neighbour.
    """
    if len(student) < 2:
        raise AnalysisError(f"cc multiplies neighbours in a batch of at least 2 samples, but got {len(student)}")
    differences = (student - teacher).abs()
    return (differences[:-1] * differences[1:]).sum(dim=1).mean()


class CCOptions(Section):
    """Options of correlation congruence.

    Attributes:
        ce_weight: weight of the cross entropy.
        form: `kernel`, with gamma 0.4 and terms up to the second order, or `adjacent`, which repeats the published
            figures.
        kernel_weight: `kernel`: weight of the term, as in AberHu/Knowledge-Distillation-Zoo, where two CNNs are alike
            from the start. With a ViT as teacher on the digits (8 epochs, one seed) ResNet8 reaches 18.9 %, and 96.7 %
            with 3.
        gamma: `kernel`: of the Gaussian.
        order: `kernel`: of the last term of its series.
        adjacent_weight: `adjacent`: weight of the term, as in the CIFAR-100 benchmarks.
        dim: `adjacent`: width of the embeddings.
    """

    ce_weight: float = Field(1.0, ge=0)
    form: Literal["kernel", "adjacent"] = "kernel"
    kernel_weight: float = Field(100.0, ge=0)
    gamma: float = Field(0.4, gt=0)
    order: int = Field(2, ge=1)
    adjacent_weight: float = Field(0.02, ge=0)
    dim: int = Field(128, ge=1)


class CC(Method):
    """Difference of the similarities between the images of a batch, by their pooled features.

    With form `adjacent`, products of neighbours' differences, behind embeddings. The batch is the per-process batch
    (not gathered across devices).
    """

    Options: ClassVar[type[Section]] = CCOptions
    reference = "Peng et al. 2019"
    source = "Knowledge-Distillation-Zoo (`kernel`), RepDistiller's script for CIFAR-100 (`adjacent`)"
    published = "69.63 (CIFAR-100, ResNet56 to ResNet20, form adjacent)"
    search = ranges(kernel_weight=around_weight(100.0), gamma=LogUniform(0.1, 1.6), adjacent_weight=around_weight(0.02))
    student_needs = teacher_needs = ("pooled",)
    options: CCOptions

    @classmethod
    def idle(cls, options: Mapping[str, Any]) -> Collection[str]:
        """Each form has its own options."""
        return ("kernel_weight", "gamma") if options["form"] == "adjacent" else ("adjacent_weight",)

    def __init__(self, options: CCOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("cc", teacher)
        needs_pooled("cc", student, teacher)
        self.is_adjacent = options.form == "adjacent"
        if self.is_adjacent:
            self.student_embedding = nn.Linear(student.width, options.dim)
            self.teacher_embedding = nn.Linear(teacher.width, options.dim)

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `congruence`."""
        assert teacher is not None
        ours, theirs = student.pooled, teacher.pooled
        assert ours is not None
        assert theirs is not None
        options = self.options
        if self.is_adjacent:
            loss = adjacent_loss(self.student_embedding(ours), self.teacher_embedding(theirs))
            return {"congruence": options.adjacent_weight * loss}
        loss = congruence_loss(ours, theirs, gamma=options.gamma, order=options.order)
        return {"congruence": options.kernel_weight * loss}
