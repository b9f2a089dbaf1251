"""Erasing attention consistency: an erased image and its mirror must be looked at alike.

Reference:
    Y. Zhang, C. Wang, X. Ling and W. Deng, "Learn from all: erasing attention consistency for noisy label facial
    expression recognition", ECCV 2022.
"""

from collections.abc import Collection
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import AfterValidator, Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.data.dataset import IMAGENET_MEAN
from kdprobe.data.loaders import Batch
from kdprobe.devices import sending
from kdprobe.distillers.base import Method, Progress, needs_maps
from kdprobe.distillers.cat_kd import class_maps
from kdprobe.distillers.search import around_weight, ranges
from kdprobe.distillers.strong_view import in_channels
from kdprobe.distillers.widen import widened
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Shapes


@widened
def attention_maps(
    maps: Float[Tensor, "batch channels h w"], classifier: Float[Tensor, "classes channels"]
) -> Float[Tensor, "batch classes h w"]:
    """Class activation maps, without the bias; the classifier's weight is a constant here."""
    return class_maps(maps, classifier.detach())


@widened
def consistency_loss(
    attention: Float[Tensor, "batch classes h w"], mirrored: Float[Tensor, "batch classes h w"]
) -> Float[Tensor, ""]:
    """Mean squared difference of the attention of an image and that of its mirror, flipped back.

    Args:
        attention: that of the images [B, C, h, w].
        mirrored: that of the mirrored images; it gets a gradient too.
    """
    return F.mse_loss(attention, mirrored.flip(3))


def _fractions(area: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= area[0] <= area[1] <= 1:
        raise ValueError("must be the smallest and the largest fraction of an image, such as [0.02, 0.25]")
    return area


class EACOptions(Section):
    """Options of erasing attention consistency.

    Attributes:
        ce_weight: weight of the cross entropy of the erased images; their mirrors are not classified.
        weight: weight of the consistency. It makes an image and its mirror the same to the classifier, which suits
            faces and little else: on the digits (8 epochs, one seed) ResNet8 reaches 55.2 %, with weight 0 95.8 %.
        noisy_labels: set it for labels that are known to be noisy: the mirror is that of the unerased image, with an
            erased rectangle of its own; otherwise it is the exact mirror of what is classified.
        erase: probability that a rectangle of an image is erased.
        area: smallest and largest fraction of the image that is erased.
        noise: probability of Gaussian noise on an image.
        noise_std: standard deviation of the noise, for images in [0, 1].
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(5.0, ge=0)
    noisy_labels: bool = False
    erase: float = Field(0.5, ge=0, le=1)
    area: Annotated[tuple[float, float], AfterValidator(_fractions)] = (0.02, 0.25)
    noise: float = Field(0.5, ge=0, le=1)
    noise_std: float = Field(30**0.5 / 255, ge=0)


class EAC(Method):
    """Cross entropy of erased images, and squared difference of their attention from that of their mirror images.

    It has no teacher.
    """

    Options: ClassVar[type[Section]] = EACOptions
    uses_teacher = False
    labels_may_be: ClassVar[Collection[str]] = ()  # it classifies by a term of its own
    n_views = 2
    reference = "Zhang, Wang, Ling, Deng 2022"
    source = "the authors' code for RAF-DB"
    published = "89.99 (RAF-DB, ResNet18)"
    search = ranges(weight=around_weight(5.0))
    student_needs = ("maps", "head", "logits")
    teacher_needs = ()
    options: EACOptions

    def __init__(self, options: EACOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        needs_maps("eac", student)
        if not student.averaged:
            raise ModelError(
                "eac needs a network that classifies the plain mean of its last map by a linear layer and is not "
                f"defined for {student.model}; scn takes any network with pooled features"
            )

    @property
    def ce_weight(self) -> float:
        """Zero: only the first of the two views is classified, by a term of its own."""
        return 0.0

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Erased images, followed by the mirrors that they are compared with; the noise comes before the erasing."""
        from torchvision.transforms import v2

        colour, options = in_channels(IMAGENET_MEAN, batch.images.shape[1]), self.options
        eraser = v2.RandomErasing(p=options.erase, scale=list(options.area), value=list(colour))
        with sending(batch.images.device):
            erased = torch.stack([eraser(self._noisy(image)) for image in batch.images])
            shown = torch.stack([eraser(image) for image in batch.images]) if options.noisy_labels else erased
        images = torch.cat([erased, shown.flip(3)])
        return images, images, batch.labels.repeat(2)

    def _noisy(self, image: Tensor) -> Tensor:
        if float(torch.rand(())) >= self.options.noise:
            return image
        return (image + self.options.noise_std * torch.randn_like(image)).clamp(0, 1)

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """`classification` and `consistency`."""
        assert student.head is not None
        weight: Tensor = student.head.weight  # type: ignore[assignment]
        attention, mirrored = attention_maps(student.maps[-1], weight).chunk(2)
        logits, classes = student.logits.chunk(2)[0].float(), labels.chunk(2)[0]
        return {
            "classification": self.options.ce_weight * F.cross_entropy(logits, classes),
            "consistency": self.options.weight * consistency_loss(attention, mirrored),
        }
