"""Knowledge review: fuse the student's stages from deep to shallow, match each with a pyramid.

Reference:
    P. Chen, S. Liu, H. Zhao and J. Jia, "Distilling knowledge via knowledge review", CVPR 2021.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_pooled, needs_teacher
from kdprobe.distillers.pairing import Pairs, stage_pairs
from kdprobe.distillers.search import Choice, around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features, Need, Shapes

Size = tuple[int, int]


@widened
def hcl_loss(
    student_maps: Sequence[Float[Tensor, "batch _c _h _w"]],
    teacher_maps: Sequence[Float[Tensor, "batch _c _h _w"]],
) -> Float[Tensor, ""]:
    """Mean squared difference at full size and averaged down to 4x4, 2x2 and 1x1, summed over the maps.

    The sizes weigh 1, 1/2, 1/4, 1/8 in the order of their use; a size not below the map's is skipped.

    Args:
        student_maps: [B, c, h, w] for each level.
        teacher_maps: the same shapes.
    """
    pairs = zip(student_maps, teacher_maps, strict=True)
    return torch.stack([_pyramid_loss(student, teacher) for student, teacher in pairs]).sum()


def _pyramid_loss(student: Tensor, teacher: Tensor) -> Tensor:
    losses = [F.mse_loss(student, teacher)]
    for size in (4, 2, 1):
        if size < student.shape[2]:
            losses.append(F.mse_loss(F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)))
    weights = [0.5**level for level in range(len(losses))]
    return torch.stack([w * loss for w, loss in zip(weights, losses, strict=True)]).sum() / sum(weights)


class FusionBlock(nn.Module):
    """Fuses a student's map with what came from the deeper level, and predicts the teacher's map.

    Args:
        in_channels: channels of the student's map.
        mid_channels: channels of what is passed from level to level.
        out_channels: channels of the teacher's map.
        fuse: false for the deepest level, which has nothing to fuse with.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int, *, fuse: bool) -> None:
        super().__init__()
        self.conv1 = _conv_norm(in_channels, mid_channels, kernel=1)
        self.conv2 = _conv_norm(mid_channels, out_channels, kernel=3)
        self.att_conv = nn.Sequential(nn.Conv2d(2 * mid_channels, 2, 1), nn.Sigmoid()) if fuse else None

    def forward(
        self,
        maps: Float[Tensor, "batch _c _h _w"],
        deeper: Float[Tensor, "batch _mid _hd _wd"] | None = None,
        size: int | Size | None = None,
    ) -> tuple[Float[Tensor, "batch _out _ho _wo"], Float[Tensor, "batch _mid _ho _wo"]]:
        """Fuse, and resize to the teacher's size.

        Args:
            maps: the student's map.
            deeper: what the deeper block handed on.
            size: (h, w) of the teacher's map, or its side; the student's own if not given.

        Returns:
            the prediction of the teacher's map, and what the next shallower level fuses with.
        """
        fused = self.conv1(maps)
        if self.att_conv is not None:
            assert deeper is not None
            deeper = F.interpolate(deeper, fused.shape[2:], mode="nearest")
            gates = self.att_conv(torch.cat([fused, deeper], dim=1))
            fused = fused * gates[:, :1] + deeper * gates[:, 1:]
        if size not in (None, fused.shape[2:]):
            fused = F.interpolate(fused, size, mode="nearest")
        return self.conv2(fused), fused


def _conv_norm(in_channels: int, out_channels: int, *, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class FusionChain(nn.Module):
    """One fusion block for each level, from deep to shallow.

    Args:
        in_channels: channels of the student's maps, shallow to deep.
        out_channels: channels of the teacher's maps, shallow to deep.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
        super().__init__()
        mid = min(512, in_channels[-1])
        pairs = list(zip(in_channels, out_channels, strict=True))
        self.blocks = nn.ModuleList(
            FusionBlock(ours, mid, theirs, fuse=level + 1 < len(pairs)) for level, (ours, theirs) in enumerate(pairs)
        )

    def forward(self, maps: Sequence[Tensor], sizes: Sequence[Size]) -> list[Tensor]:
        """Predict the teacher's maps of the given sizes; everything shallow to deep."""
        predictions, deeper = [], None
        for block, own, size in reversed(list(zip(self.blocks, maps, sizes, strict=True))):
            prediction, deeper = block(own, deeper, size)
            predictions.append(prediction)
        return predictions[::-1]


class ReviewKDOptions(Section):
    """Options of knowledge review.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the pyramid term (0.6 for ResNet56 to ResNet20, 1 for ResNet110 to ResNet32 and on ImageNet,
            5 to 8 for wider pairs).
        warmup_epochs: whole epochs over which the term rises.
        warmup_from: what the first epoch counts as, 1 or 0 (see `Progress.warmup`).
        student_preacts: take the student's maps before their last activation too (the ImageNet setting).
        stages: pairs of stage numbers (student, teacher); by default the stages at equal relative depths.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(1.0, ge=0)
    warmup_epochs: int = Field(20, ge=0)
    warmup_from: Literal[0, 1] = 1
    student_preacts: bool = False
    stages: Pairs | None = Field(None, min_length=1)


class ReviewKD(Method):
    """Mean squared difference, at several scales, of the teacher's stage maps from those fused from the student's.

    The teacher's maps are those before their last activation; the pooled features are a further stage.
    """

    Options: ClassVar[type[Section]] = ReviewKDOptions
    reference = "Chen, Liu, Zhao, Jia 2021"
    source = "the authors' script for CIFAR-100"
    published = "71.89 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(weight=around_weight(1.0), warmup_epochs=Choice((0, 20)))
    student_needs: tuple[Need, ...] = ("maps", "pooled")
    teacher_needs = ("preacts", "pooled")
    options: ReviewKDOptions

    def __init__(self, options: ReviewKDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("reviewkd", teacher)
        needs_pooled("reviewkd", student, teacher)
        if options.student_preacts:
            self.student_needs = ("preacts", "pooled")
        self.pairs = stage_pairs("reviewkd", student, teacher, options.stages)
        self.teacher_stages = {other for _, other in self.pairs}
        ours = [student.maps[own][0] for own, _ in self.pairs]
        theirs = [teacher.maps[other][0] for _, other in self.pairs]
        self.sizes = [teacher.maps[other][1:] for _, other in self.pairs]
        self.chain = FusionChain([*ours, student.width], [*theirs, teacher.width])

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `review`."""
        assert teacher is not None
        options = self.options
        own = student.preacts if options.student_preacts else student.maps
        ours = [own[pair[0]] for pair in self.pairs]
        theirs = [teacher.preacts[pair[1]] for pair in self.pairs]
        predicted = self.chain([*ours, _as_map(student.pooled)], [*self.sizes, (1, 1)])
        loss = hcl_loss(predicted, [*theirs, _as_map(teacher.pooled)])
        return {"review": options.weight * progress.warmup(options.warmup_epochs, first=options.warmup_from) * loss}


def _as_map(pooled: Tensor | None) -> Tensor:
    assert pooled is not None
    return pooled[..., None, None]
