"""Relational distillation: match the distances and angles between the samples of a batch.

Reference:
    W. Park, D. Kim, Y. Lu and M. Cho, "Relational knowledge distillation", CVPR 2019.
"""

from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_pooled, needs_teacher
from kdprobe.distillers.search import around_weight, ranges
from kdprobe.distillers.vectors import unit
from kdprobe.distillers.widen import widened
from kdprobe.errors import AnalysisError
from kdprobe.models.stages import Features, Shapes

#: numbers in one block of difference vectors and cosines, 4 MiB of float32
BLOCK = 2**20


@widened
def distance_loss(student: Float[Tensor, "batch d_s"], teacher: Float[Tensor, "batch d_t"]) -> Float[Tensor, ""]:
    """Smooth L1 distance of the two matrices of distances, each divided by its mean.

    Args:
        student: features [B, d_s]; the gradient also runs through the mean.
        teacher: features [B, d_t].

    Raises:
        AnalysisError: if the batch has fewer than two samples, so that there are no distances.
    """
    if len(student) < 2:
        raise AnalysisError(f"relational distillation needs a batch of at least 2 samples, but got {len(student)}")
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


def _relative_distances(features: Tensor) -> Tensor:
    # From differences, not from a Gram matrix: a common shift costs no digits and duplicates are exactly 0.
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    others = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    # As in the original no two samples are nearer than 1e-6, so that the mean counts every pair.
    distances = distances.clamp(min=1e-6) * others
    return distances / (distances.sum() / others.sum())


@widened
def angle_loss(student: Float[Tensor, "batch d_s"], teacher: Float[Tensor, "batch d_t"]) -> Float[Tensor, ""]:
    """Smooth L1 distance of the cosines of all triples of samples, mean over all B^3.

    The cosines are made in blocks of a bounded size and made again for the gradient: B^3 numbers never
    exist at a time. Legs of length zero (duplicates) count as cosine 0 and give no gradient, where the
    original gives one of order 1e12.

    Args:
        student: features [B, d_s].
        teacher: features [B, d_t].
    """
    n = len(student)
    vertices = max(1, BLOCK // (n * (n + max(student.shape[1], teacher.shape[1]))))
    error = _angle_error if vertices >= n else partial(checkpoint, _angle_error, use_reentrant=False)
    starts = range(0, n, vertices)
    return torch.stack([error(student, teacher, start, start + vertices) for start in starts]).sum() / n**3


def _angle_error(student: Tensor, teacher: Tensor, start: int, stop: int) -> Tensor:
    return F.smooth_l1_loss(_cosines(student, start, stop), _cosines(teacher, start, stop), reduction="sum")


def _cosines(features: Tensor, start: int, stop: int) -> Tensor:
    """[vertices, B, B]: cosine at vertex j between the legs to i and to k."""
    legs = unit(features[None] - features[start:stop, None], dim=2)
    return legs @ legs.mT


class RKDOptions(Section):
    """Weights of the terms; the defaults are those of the CIFAR-100 benchmarks."""

    ce_weight: float = Field(1.0, ge=0)
    distance_weight: float = Field(25.0, ge=0)
    angle_weight: float = Field(50.0, ge=0)


class RKD(Method):
    """Difference of the distances and angles between the pooled features of samples; widths may differ.

    The samples are those of the per-process batch (not gathered across devices).
    """

    Options: ClassVar[type[Section]] = RKDOptions
    reference = "Park, Kim, Lu, Cho 2019"
    source = "RepDistiller's script for CIFAR-100"
    published = "69.61 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(distance_weight=around_weight(25.0), angle_weight=around_weight(50.0))
    student_needs = teacher_needs = ("pooled",)
    options: RKDOptions

    def __init__(self, options: RKDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        needs_pooled("rkd", student, needs_teacher("rkd", teacher))

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """`distance` and `angle`."""
        assert teacher is not None
        ours, theirs = student.pooled, teacher.pooled
        assert ours is not None
        assert theirs is not None
        return {
            "distance": self.options.distance_weight * distance_loss(ours, theirs),
            "angle": self.options.angle_weight * angle_loss(ours, theirs),
        }
