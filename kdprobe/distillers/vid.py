"""Variational information distillation: a Gaussian of learnt variance predicts the teacher's map.

Reference:
    S. Ahn, S. X. Hu, A. Damianou, N. D. Lawrence and Z. Dai, "Variational information distillation for knowledge
    transfer", CVPR 2019.

Layers, initial variance and weight are those of HobbitLong/RepDistiller, from which the published figures come.
mdistiller never trains the variances, which makes it a squared error with the fixed weight 1/10.
"""

from math import expm1, log
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_teacher
from kdprobe.distillers.pairing import Pairs, resized, stage_pairs
from kdprobe.distillers.search import LogUniform, around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features, Shapes

#: least variance, and with it the lowest value that the loss can reach, log(1e-5) / 2 = -5.8
LEAST_VARIANCE = 1e-5


@widened
def vid_loss(
    predicted: Float[Tensor, "batch c h w"],
    teacher: Float[Tensor, "batch c h w"],
    log_scale: Float[Tensor, "c"],
    *,
    eps: float = LEAST_VARIANCE,
) -> Float[Tensor, ""]:
    """Minus the log-likelihood of the teacher's map, without the constant log(2 pi) / 2; mean over all elements.

    Args:
        predicted: means of the Gaussian [B, c, h, w], from the student's map.
        teacher: map [B, c, h, w].
        log_scale: a [c]; a channel's variance is log(1 + exp(a)) + eps.
        eps: least variance.
    """
    variance = (torch.logaddexp(log_scale, torch.zeros_like(log_scale)) + eps)[:, None, None]
    return (((predicted - teacher).square() / variance + variance.log()) / 2).mean()


class MapPredictor(nn.Module):
    """Three 1x1 convolutions that predict a map of the teacher's, and the logarithmic scale of each channel's variance.

    Args:
        channels: of the student's map.
        teacher_channels: of the teacher's.
        variance: the initial one, above `LEAST_VARIANCE`.
    """

    def __init__(self, channels: int, teacher_channels: int, *, variance: float = 5.0) -> None:
        super().__init__()
        self.regressor = nn.Sequential(
            nn.Conv2d(channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        softplus = variance - LEAST_VARIANCE
        self.log_scale = nn.Parameter(torch.full((teacher_channels,), softplus + log(-expm1(-softplus))))

    def forward(
        self, student: Float[Tensor, "batch _cs _hs _ws"], teacher: Float[Tensor, "batch _ct _ht _wt"]
    ) -> Float[Tensor, ""]:
        """The loss of a pair of maps, the larger of which is averaged down to the size of the other."""
        size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
        return vid_loss(self.regressor(resized(student, size)), resized(teacher, size), self.log_scale)


class VIDOptions(Section):
    """Options of variational information distillation; the defaults are those of the CIFAR-100 benchmarks.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the term, summed over the stages.
        variance: the initial one; the larger, the less the first steps ask for.
        stages: pairs of stage numbers (student, teacher); by default the stages at equal relative depths.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(1.0, ge=0)
    variance: float = Field(5.0, gt=LEAST_VARIANCE)
    stages: Pairs | None = Field(None, min_length=1)


class VID(Method):
    """Minus the log-likelihood of the teacher's stage maps, predicted from the student's with channel-wise variance.

    Of a transformer these are the grid of its patch tokens.
    """

    Options: ClassVar[type[Section]] = VIDOptions
    reference = "Ahn et al. 2019"
    source = "RepDistiller's script for CIFAR-100"
    published = "70.38 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(weight=around_weight(1.0), variance=LogUniform(0.5, 10.0))
    student_needs = teacher_needs = ("maps",)
    options: VIDOptions

    def __init__(self, options: VIDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("vid", teacher)
        self.pairs = stage_pairs("vid", student, teacher, options.stages)
        self.teacher_stages = {other for _, other in self.pairs}
        self.predictors = nn.ModuleList(
            MapPredictor(student.maps[own][0], teacher.maps[other][0], variance=options.variance)
            for own, other in self.pairs
        )

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `prediction`."""
        assert teacher is not None
        parts = zip(self.predictors, self.pairs, strict=True)
        losses = [predict(student.maps[own], teacher.maps[other]) for predict, (own, other) in parts]
        return {"prediction": self.options.weight * torch.stack(losses).sum()}
