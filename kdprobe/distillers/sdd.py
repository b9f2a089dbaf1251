"""Scale-decoupled distillation: a loss of logits for each region of the image, more where it disagrees with the whole.

Reference:
    S. Wei, C. Luo and Y. Luo, "Scaled decoupled distillation", CVPR 2024.
    The authors' code: shicaiwei123/SDD-CVPR2024 on GitHub.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_cells, needs_places, needs_teacher
from kdprobe.distillers.dkd import check_classes, split_logits
from kdprobe.distillers.kd import divergences
from kdprobe.distillers.nkd import nkd_parts
from kdprobe.distillers.search import Choice, around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Shapes

Base = Literal["kd", "dkd", "nkd"]
#: side of the grid that the authors average a map onto before anything else
FINEST = 4


@widened
def regions(
    maps: Float[Tensor, "batch channels h w"], scales: Sequence[int] = (1, 2, 4), *, nested: bool = True
) -> Float[Tensor, "batch channels _n"]:
    """Means of a map over the cells of grids of several scales, coarse to fine, each grid row by row.

    Args:
        maps: [B, c, h, w].
        scales: sides of the grids; 1 is the whole map.
        nested: whether the map is averaged onto 4 x 4 first, as in the original. Of a map whose sides are no multiples
            of 4, such as 7 x 7, these cells overlap, and the whole is not the plain mean of the map.
    """
    maps = F.adaptive_avg_pool2d(maps, FINEST) if nested else maps
    return torch.cat([F.adaptive_avg_pool2d(maps, scale).flatten(2) for scale in scales], dim=2)


def region_logits(regions: Float[Tensor, "batch channels n"], head: nn.Module) -> Float[Tensor, "batch _classes n"]:
    """A classifier applied to each region."""
    logits: Tensor = head(regions.mT)
    return logits.mT


@widened
def region_weights(
    teacher_regions: Float[Tensor, "batch classes n"], target: Int[Tensor, " batch"], *, complementary: float = 2.0
) -> Float[Tensor, "batch n"]:
    """What each region counts: `complementary` where the teacher is right on it or on the whole alone, elsewhere 1.

    Args:
        teacher_regions: logits [B, C, N]; the first region is the whole.
        target: [B] class numbers.
        complementary: weight of the regions that disagree with the whole.
    """
    is_right = teacher_regions.argmax(dim=1) == target[:, None]
    return 1 + (complementary - 1) * (is_right != is_right[:, :1]).to(teacher_regions.dtype)


@widened
def sdd_loss(
    student_regions: Float[Tensor, "batch classes n"],
    teacher_regions: Float[Tensor, "batch classes n"],
    target: Int[Tensor, " batch"],
    *,
    base: Base = "dkd",
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
    complementary: float = 2.0,
    target_among_others: bool = False,
) -> Float[Tensor, ""]:
    """A loss of logits for each region, weighted by `region_weights` (but not divided by their sum), mean over all.

    Args:
        student_regions: logits [B, C, N], from `region_logits`.
        teacher_regions: logits [B, C, N]; the first region is the whole.
        target: [B] class numbers.
        base: which loss of logits.
        temperature: T > 0.
        alpha: weight of the target's part of `dkd`.
        beta: weight of the others' part of `dkd` and of `nkd`, where it is called gamma.
        complementary: see `region_weights`.
        target_among_others: whether the others of `nkd` include the target, as in the authors' code; what they
            publish as SDD-NKD is this.

    Raises:
        AnalysisError: of `dkd`, if there are only two classes.
    """
    ours, theirs = (logits.mT.flatten(0, 1) for logits in (student_regions, teacher_regions))
    targets = target.repeat_interleave(student_regions.shape[2])
    if base == "kd":
        losses = temperature**2 * divergences(*(F.log_softmax(x / temperature, dim=1) for x in (ours, theirs)))
    elif base == "dkd":
        check_classes(ours.shape[1], "the bases kd and nkd are")
        parts = zip(*(split_logits(x / temperature, targets) for x in (ours, theirs)), strict=True)
        of_target, of_others = (temperature**2 * divergences(*part) for part in parts)
        losses = alpha * of_target + beta * of_others
    else:
        of_target, of_others = nkd_parts(ours, theirs, targets, temperature=temperature)
        if target_among_others:
            of_others = temperature**2 * F.cross_entropy(
                ours / temperature, F.softmax(theirs / temperature, dim=1), reduction="none"
            )
        losses = of_target + beta * of_others
    weights = region_weights(teacher_regions, target, complementary=complementary)
    return (weights.flatten() * losses).mean()


def _begins_with_the_whole(scales: tuple[int, ...]) -> tuple[int, ...]:
    if not scales or scales[0] != 1 or min(scales) < 1 or len(set(scales)) < len(scales):
        raise ValueError("must be sides of grids, each once, that begin with 1, the whole map, such as [1, 2]")
    return scales


class SDDOptions(Section):
    """Options of scale-decoupled distillation; the defaults are those of the authors' code over `dkd` on CIFAR-100.

    Attributes:
        ce_weight: weight of the cross entropy of the whole image; 0.1 over `kd`.
        weight: weight of the regions' term; 0.9 over `kd`.
        base: the loss of logits for each region, `kd`, `dkd` or `nkd`.
        scales: sides of the grids; the authors take 1 and 2 for pairs of alike networks.
        nested: see `regions`.
        complementary: see `region_weights`.
        temperature: T; 1 on ImageNet.
        alpha: weight of the target's part of `dkd`.
        beta: weight of the others' part of `dkd` and `nkd` (2 for pairs of ResNets for CIFAR, 0.5 on ImageNet).
        target_among_others: see `sdd_loss`; the published figures of SDD-NKD need it.
        warmup_epochs: whole epochs over which the regions' term rises, in the authors' way 1/N in the first; 0 over
            `kd`, 1 on ImageNet.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(1.0, ge=0)
    base: Base = "dkd"
    scales: Annotated[tuple[int, ...], AfterValidator(_begins_with_the_whole)] = (1, 2, 4)
    nested: bool = True
    complementary: float = Field(2.0, ge=0)
    temperature: float = Field(4.0, gt=0)
    alpha: float = Field(1.0, ge=0)
    beta: float = Field(8.0, ge=0)
    target_among_others: bool = False
    warmup_epochs: int = Field(20, ge=0)


class SDD(Method):
    """Loss of each region's logits, of networks that classify the plain mean of the last map by a linear layer.

    Regions that disagree with the whole count for more; the two maps may differ in size.
    """

    Options: ClassVar[type[Section]] = SDDOptions
    reference = "Wei, Luo, Luo 2024"
    source = "the authors' configuration for CIFAR-100, over dkd"
    published = "77.59 (CIFAR-100, ResNet32x4 to ShuffleNetV1)"
    search = ranges(weight=around_weight(1.0), base=Choice(("kd", "dkd", "nkd")), warmup_epochs=Choice((0, 20)))
    student_needs = teacher_needs = ("maps", "head")
    teacher_stages = (-1,)
    options: SDDOptions

    def __init__(self, options: SDDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("sdd", teacher)
        needs_places("sdd", student, teacher)
        if options.nested and max(options.scales) > FINEST:
            raise ModelError(
                f"sdd averages maps onto a grid of {FINEST} x {FINEST} first; method.scales above {FINEST} need "
                "method.nested=false"
            )
        needs_cells("sdd", "scales", max(options.scales), student, teacher)
        if options.base == "dkd":
            check_classes(student.n_classes, "method.base=kd and method.base=nkd are")

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `regions`."""
        assert teacher is not None
        options = self.options
        loss = sdd_loss(
            self._logits(student),
            self._logits(teacher),
            labels,
            base=options.base,
            temperature=options.temperature,
            alpha=options.alpha,
            beta=options.beta,
            complementary=options.complementary,
            target_among_others=options.target_among_others,
        )
        return {"regions": options.weight * progress.warmup(options.warmup_epochs) * loss}

    def _logits(self, features: Features) -> Tensor:
        assert features.head is not None
        cells = regions(features.maps[-1], self.options.scales, nested=self.options.nested)
        return region_logits(cells, features.head)
