"""Contrastive representation distillation: tell the teacher's view of an image from its views of others.

Reference:
    Y. Tian, D. Krishnan and P. Isola, "Contrastive representation distillation", ICLR 2020.
    The authors' code: HobbitLong/RepDistiller on GitHub.

The form differs from the authors'. Theirs keeps a memory with a place for each training image, which moves by half
(`nce_m` 0.5) at each visit, and draws 16,384 images of other classes from it for each anchor. Here the negatives are
all embeddings of other classes among the 16,384 most recent, the batch's own included, so that the method needs to
know neither the size of the data set nor an image's place in it. Theirs measures the scale of the similarities once,
on the first batch against a memory that is still random; here it is what that comes to on average. The loss,
with N the number of negatives, and the numbers are the same: weight 0.8, temperature 0.07, 128 dimensions.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_pooled, needs_teacher
from kdprobe.distillers.search import LogUniform, around_weight, ranges
from kdprobe.distillers.vectors import unit
from kdprobe.distillers.widen import widened
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Shapes


@widened
def contrast_loss(
    anchors: Float[Tensor, "batch d"],
    positives: Float[Tensor, "batch d"],
    others: Float[Tensor, "memory d"],
    is_negative: Bool[Tensor, "batch memory"],
    *,
    temperature: float,
    log_scale: float = 0.0,
) -> Float[Tensor, ""]:
    """Noise-contrastive estimation: is a pair of embeddings of the same image, or one of N drawn at random?

    With r = exp(<a, b> / T - log_scale), a pair is of the same image with probability r / (r + N). The loss is
    minus the log-probability of the right answers to all pairs of an anchor, mean over the anchors; an anchor
    without negatives costs nothing.

    Args:
        anchors: unit vectors [B, d] of one network.
        positives: unit vectors [B, d] of the other network, of the same images.
        others: unit vectors [M, d] of the other network.
        is_negative: [B, M], which of them stand against which anchor.
        temperature: T > 0.
        log_scale: subtracted from <a, b> / T.
    """
    n = is_negative.sum(dim=1).to(anchors.dtype)
    offset = log_scale + n.clamp(min=1).log()
    positive = (anchors * positives).sum(dim=1) / temperature - offset
    negative = anchors @ others.mT / temperature - offset[:, None]
    losses = F.softplus(-positive) + (F.softplus(negative) * is_negative).sum(dim=1)
    return (losses * (n > 0)).mean()


class CRDOptions(Section):
    """Options of contrastive distillation; the defaults are those of the authors' code.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the contrastive term.
        dim: width of the embeddings.
        memory: how many recent embeddings of each network are kept.
        temperature: T.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(0.8, ge=0)
    dim: int = Field(128, ge=1)
    memory: int = Field(16384, ge=1)
    temperature: float = Field(0.07, gt=0)


class CRD(Method):
    """Contrastive loss: both networks' embeddings of one image attract, those of images of other classes repel.

    Attributes:
        log_scale: logarithm of the mean of exp(<a, b> / T) over random b of d independent entries with variance 1 / d,
            1 / (2 d T^2), so that r starts at about 1.
    """

    Options: ClassVar[type[Section]] = CRDOptions
    is_static = False  # what it remembers grows
    reference = "Tian, Krishnan, Isola 2020"
    source = "the authors' script for CIFAR-100"
    published = "71.16 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(weight=around_weight(0.8), temperature=LogUniform(0.02, 0.5))
    student_needs = teacher_needs = ("pooled",)
    options: CRDOptions
    student_memory: Tensor
    teacher_memory: Tensor
    label_memory: Tensor

    def __init__(self, options: CRDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("crd", teacher)
        needs_pooled("crd", student, teacher)
        if not student.n_classes:
            raise ModelError("crd tells images of other classes apart, but the data have no labels; rkd needs none")
        self.student_embedding = nn.Linear(student.width, options.dim)
        self.teacher_embedding = nn.Linear(teacher.width, options.dim)
        self.register_buffer("student_memory", torch.zeros(options.memory, options.dim))
        self.register_buffer("teacher_memory", torch.zeros(options.memory, options.dim))
        self.register_buffer("label_memory", torch.full((options.memory,), -1))  # -1: not filled yet
        self.log_scale = 1 / (2 * options.dim * options.temperature**2)

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `contrast`."""
        assert teacher is not None
        assert student.pooled is not None
        assert teacher.pooled is not None
        ours = unit(self.student_embedding(student.pooled).float(), dim=1)
        theirs = unit(self.teacher_embedding(teacher.pooled).float(), dim=1)
        if self.training:
            self._remember(ours.detach(), theirs.detach(), labels)
        is_negative = (self.label_memory >= 0) & (self.label_memory != labels[:, None])
        scales = {"temperature": self.options.temperature, "log_scale": self.log_scale}
        both = contrast_loss(ours, theirs, self.teacher_memory, is_negative, **scales) + contrast_loss(
            theirs, ours, self.student_memory, is_negative, **scales
        )
        return {"contrast": self.options.weight * both}

    @torch.no_grad()
    def _remember(self, ours: Tensor, theirs: Tensor, labels: Tensor) -> None:
        # New tensors, as the old ones may still be wanted for a gradient.
        self.student_memory = torch.cat([ours, self.student_memory])[: self.options.memory]
        self.teacher_memory = torch.cat([theirs, self.teacher_memory])[: self.options.memory]
        self.label_memory = torch.cat([labels, self.label_memory])[: self.options.memory]
