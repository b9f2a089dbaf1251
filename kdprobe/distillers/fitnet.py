"""Hint regression: a small convolution turns one student map into the teacher's.

Reference:
    A. Romero et al., "FitNets: hints for thin deep nets", 2015, in the joint form of the CIFAR-100
    benchmarks (hint and classification are trained together).
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_teacher
from kdprobe.distillers.pairing import stage_pairs
from kdprobe.distillers.search import around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Shapes

Shape = tuple[int, int, int]


@widened
def hint_loss(student: Float[Tensor, "batch c h w"], teacher: Float[Tensor, "batch c h w"]) -> Float[Tensor, ""]:
    """Mean squared difference of the regressed student map and the teacher map."""
    return F.mse_loss(student, teacher)


class Regressor(nn.Module):
    """Convolution, batch norm and ReLU from the student's shape to the teacher's.

    The convolution halves, doubles (transposed) or trims (without padding) the map, as the sizes ask.

    Args:
        student: (c, h, w).
        teacher: (c, h, w).

    Raises:
        ModelError: if no single such convolution leads from one size to the other.
    """

    def __init__(self, student: Shape, teacher: Shape) -> None:
        super().__init__()
        self.conv = _convolution(student, teacher)
        self.bn = nn.BatchNorm2d(teacher[0])

    def forward(self, maps: Float[Tensor, "batch _c _h _w"]) -> Float[Tensor, "batch _ct _ht _wt"]:
        """Regress the teacher's map."""
        out: Tensor = F.relu(self.bn(self.conv(maps)))
        return out


def _convolution(student: Shape, teacher: Shape) -> nn.Module:
    (channels, h, w), (out_channels, h_t, w_t) = student, teacher
    if (h, w) == (2 * h_t, 2 * w_t):
        return nn.Conv2d(channels, out_channels, 3, stride=2, padding=1)
    if (2 * h, 2 * w) == (h_t, w_t):
        return nn.ConvTranspose2d(channels, out_channels, 4, stride=2, padding=1)
    if h >= h_t and w >= w_t:
        return nn.Conv2d(channels, out_channels, (1 + h - h_t, 1 + w - w_t))
    raise ModelError(
        f"fitnet cannot regress a map of {h_t}x{w_t} from one of {h}x{w}: the student's may be larger, "
        "equal or exactly half; choose another stage, or at or rkd, which take any sizes"
    )


class FitNetOptions(Section):
    """Options of hint regression.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the hint term.
        stages: numbers of the student's and the teacher's stage; by default the second of the pairs at equal
            relative depths, as in the benchmarks.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(100.0, ge=0)
    stages: tuple[int, int] | None = Field(None, description="[student's stage, teacher's]")


class FitNet(Method):
    """Mean squared difference of one stage map, the student's brought to the teacher's shape by a convolution."""

    Options: ClassVar[type[Section]] = FitNetOptions
    reference = "Romero et al. 2015"
    source = "RepDistiller's script for CIFAR-100"
    published = "69.21 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(weight=around_weight(100.0))
    student_needs = teacher_needs = ("maps",)
    options: FitNetOptions

    def __init__(self, options: FitNetOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("fitnet", teacher)
        chosen = None if options.stages is None else (options.stages,)
        self.pair = stage_pairs("fitnet", student, teacher, chosen)[:2][-1]
        self.teacher_stages = {self.pair[1]}
        self.regressor = Regressor(student.maps[self.pair[0]], teacher.maps[self.pair[1]])

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `hint`."""
        assert teacher is not None
        regressed = self.regressor(student.maps[self.pair[0]])
        return {"hint": self.options.weight * hint_loss(regressed, teacher.maps[self.pair[1]])}
