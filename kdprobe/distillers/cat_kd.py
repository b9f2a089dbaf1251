"""Class attention transfer: where in the image each class is seen.

Reference:
    Z. Guo, H. Yan, H. Li and X. Lin, "Class attention transfer based knowledge distillation", CVPR 2023.
    The authors' code: GzyAftermath/CAT-KD on GitHub.

The authors take the bias out of both networks' classifiers. Here the networks stay what they are: the maps are made
without the bias, and the logits with it.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_cells, needs_places, needs_teacher
from kdprobe.distillers.search import Choice, around_weight, ranges
from kdprobe.distillers.vectors import unit
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features, Shapes


@widened
def class_maps(
    maps: Float[Tensor, "batch channels h w"], classifier: Float[Tensor, "classes channels"]
) -> Float[Tensor, "batch classes h w"]:
    """Class activation maps: the weight of a linear classifier applied at each place, without its bias."""
    return torch.einsum("kc,bchw->bkhw", classifier, maps)


@widened
def cat_loss(
    student_maps: Float[Tensor, "batch classes hs ws"],
    teacher_maps: Float[Tensor, "batch classes ht wt"],
    *,
    resolution: int = 2,
    normalised: bool = False,
) -> Float[Tensor, ""]:
    """Mean squared difference of the class activation maps, both averaged onto a grid of `resolution` x `resolution`.

    Args:
        student_maps: [B, C, h, w].
        teacher_maps: [B, C, h', w'].
        resolution: side of the grid.
        normalised: whether each map is divided by its length first; a map of zeros stays zero and gives no gradient,
            where the original gives one of order 1e12.
    """
    ours, theirs = (F.adaptive_avg_pool2d(maps, resolution).flatten(2) for maps in (student_maps, teacher_maps))
    return F.mse_loss(unit(ours, dim=2), unit(theirs, dim=2)) if normalised else F.mse_loss(ours, theirs)


class CATKDOptions(Section):
    """Options of class attention transfer; the defaults are the authors' for ResNet50 to MobileNetV2 on CIFAR-100.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the maps' term, beta. The authors change it with the pair, from 0.5 to 600, and advise to make
            the term 1 to 50 after the first epoch; of maps that are not normalised it depends on their scale.
        resolution: side of the grid that the maps are averaged onto.
        normalised: whether the maps are normalised; not for most of the authors' pairs of alike networks.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(40.0, ge=0)
    resolution: int = Field(2, ge=1)
    normalised: bool = True


class CATKD(Method):
    """Distance of class activation maps, of networks that classify the plain mean of the last map by a linear layer.

    Their last maps may differ in width and size.
    """

    Options: ClassVar[type[Section]] = CATKDOptions
    reference = "Guo, Yan, Li, Lin 2023"
    source = "the authors' configuration for CIFAR-100, ResNet50 to MobileNetV2"
    published = "76.91 (CIFAR-100, ResNet32x4 to ResNet8x4)"
    search = ranges(weight=around_weight(40.0), resolution=Choice((1, 2, 4)))
    student_needs = teacher_needs = ("maps", "head")
    teacher_stages = (-1,)
    options: CATKDOptions

    def __init__(self, options: CATKDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("cat_kd", teacher)
        needs_places("cat_kd", student, teacher)
        needs_cells("cat_kd", "resolution", options.resolution, student, teacher)

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `maps`."""
        assert teacher is not None
        options = self.options
        ours, theirs = (self._class_maps(features) for features in (student, teacher))
        loss = cat_loss(ours, theirs, resolution=options.resolution, normalised=options.normalised)
        return {"maps": options.weight * loss}

    def _class_maps(self, features: Features) -> Tensor:
        assert features.head is not None
        weight: Tensor = features.head.weight  # type: ignore[assignment]
        # Averaged first, which commutes with the classifier, so that C maps of full size never exist.
        return class_maps(F.adaptive_avg_pool2d(features.maps[-1], self.options.resolution), weight)
