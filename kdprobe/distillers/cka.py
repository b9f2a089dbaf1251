"""Similarity as a loss: the student is trained towards a high CKA with its teacher, stage by stage.

What it optimises is linear CKA, the cosine between the two networks' centred matrices of inner products of samples.
These have the size of a batch, so that the maps may have any channels and grids and no projector stands between them.
HSIC is the unbiased one, and CKA the ratio of its averages over recent batches, as in `kdprobe cka`. In a simulation
whose CKA is 0.68, the biased estimate is 0.95 at batches of 4 and 0.75 at 64; the mean of the unbiased CKAs of single
batches is 0.54 and 0.68, with deviations of 0.58 and 0.02; from averages it is 0.68 at both. At batches of 4, averages
also make the largest of 100 gradients four times smaller.

Where it fails, with a ViT of 98.6 % as teacher on the digits:

- CKA is high as soon as the few directions of most variance agree. The 2 strongest principal components of the ViT's
  pooled features have a CKA of 0.83 with all 96, and the 4 strongest of 0.94, while linear classifiers on them reach
  52 and 84 %.
- It starts high and says nothing of classes: in its first epoch ResNet8 has 0.80, with 16 % of answers right.
- CKA can rise without accuracy. After 8 epochs (one seed) it is 0.90 with a weight of 1 and 0.93 with 10, but the
  accuracy 97.2 and 95.5 %, beside 98.3 % of plain training. A network so trained must be judged by another measure.
- Rotations and scales of all features change nothing, so that the teacher's classifier cannot read the student's.
- Averages lag behind features that grow; a momentum of 0 does without. Batches of fewer than 4 samples are left out,
  as unbiased HSIC is not defined for them.

Reference:
    S. Kornblith, M. Norouzi, H. Lee and G. Hinton, "Similarity of neural network representations revisited", ICML 2019;
    T. Nguyen, M. Raghu and S. Kornblith, "Do wide and deep networks learn the same things?", ICLR 2021, equation 4.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_teacher
from kdprobe.distillers.pairing import Pairs, stage_pairs
from kdprobe.distillers.search import Choice, around_weight, ranges
from kdprobe.distillers.vectors import centred
from kdprobe.distillers.widen import widened
from kdprobe.features.hsic import MIN_SAMPLES, comparable
from kdprobe.models.stages import Features, Shapes


@widened
def batch_hsic(student: Float[Tensor, "batch ..."], teacher: Float[Tensor, "batch ..."]) -> Float[Tensor, "3"]:
    """Unbiased HSIC of student and teacher, of the student with itself and of the teacher with itself.

    Zeros without a gradient for fewer than 4 samples, for which it is not defined.

    Args:
        student: features [B, ...].
        teacher: features [B, ...].

    Returns:
        float64.
    """
    if len(student) < MIN_SAMPLES:
        return student.flatten()[:0].sum().to(torch.float64).expand(3)
    x, y = (comparable(_centred_gram(features)) for features in (student, teacher))
    return torch.stack([(x * y).sum(), (x * x).sum(), (y * y).sum()])


def _centred_gram(features: Tensor) -> Tensor:
    rows = centred(features.flatten(1), dim=0)
    return rows @ rows.mT


def cka_loss(hsic: Float[Tensor, "*stages 3"], averages: Float[Tensor, "*stages 3"]) -> Float[Tensor, "*stages"]:
    """One minus the minibatch CKA of averages over batches, with the gradient of one of these batches.

    That is the derivative of HSIC_xy / sqrt(HSIC_xx HSIC_yy) by this batch's values at the averages. A batch of its own
    (averages equal to hsic) gives the gradient of its CKA. It is 1 without a gradient where a network does not vary.

    Args:
        hsic: of a batch, from `batch_hsic`.
        averages: of several batches, this one among them.
    """
    xy, xx, yy = averages.detach().unbind(-1)
    varies = (xx > 0) & (yy > 0)
    scale = torch.where(varies, xx * yy, 1).sqrt()
    cka = torch.where(varies, xy / scale, 0)
    direction = hsic[..., 0] / scale - cka * hsic[..., 1] / (2 * torch.where(varies, xx, 1))
    direction = torch.where(varies, direction, 0)
    return 1 - cka - (direction - direction.detach())


class CKAOptions(Section):
    """Options of similarity as a loss.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the term, a mean over the stages between 0 and 2. With 10 images of each digit (60 epochs,
            batches of 20, mean of three seeds) ResNet8 reaches 92.9 %, with plain training 91.6 % and with kd 96.5 %.
        momentum: of the running averages of HSIC; with 0 each batch stands for itself.
        stages: pairs of stage numbers (student, teacher); by default the stages at equal relative depths.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(1.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    stages: Pairs | None = Field(None, min_length=1)


class CKA(Method):
    """One minus linear CKA, a similarity of features, between stage maps, averaged over recent batches.

    By unbiased HSIC, over batches each of which is the per-process batch (not gathered across devices).
    """

    Options: ClassVar[type[Section]] = CKAOptions
    reference = "after Kornblith et al. 2019; kdprobe's own"
    source = "a choice of this package, tried on the digits"
    search = ranges(weight=around_weight(1.0), momentum=Choice((0.0, 0.9)))
    student_needs = teacher_needs = ("maps",)
    options: CKAOptions
    averages: Tensor

    def __init__(self, options: CKAOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        self.pairs = stage_pairs("cka", student, needs_teacher("cka", teacher), options.stages)
        self.teacher_stages = {other for _, other in self.pairs}
        self.register_buffer("averages", torch.zeros(len(self.pairs), 3, dtype=torch.float64))

    def agree(self, join: Callable[[Tensor], list[int]]) -> None:
        """Give all processes the mean of their averages, so that a resumed run goes on as an uninterrupted one."""
        bits = torch.tensor(join(self.averages.flatten().view(torch.int64)))
        of_all = bits.view(torch.float64).view(-1, *self.averages.shape)
        self.averages.copy_(of_all.mean(dim=0))

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `cka`."""
        assert teacher is not None
        hsic = torch.stack([batch_hsic(student.maps[own], teacher.maps[other]) for own, other in self.pairs])
        averages = self.averages.lerp(hsic.detach(), 1 - self.options.momentum)
        if self.training and len(labels) >= MIN_SAMPLES:
            self.averages.copy_(averages)
        loss = cka_loss(hsic, averages).mean()
        return {"cka": self.options.weight * loss.to(torch.promote_types(student.maps[0].dtype, torch.float32))}
