"""Dynamic prior knowledge: some of the teacher's features are given to the student before it must match them.

Reference:
    Z. Qiu et al., "Better teacher better student: dynamic prior knowledge for knowledge distillation", ICLR 2023.

The authors' code was never published. Stated are: a hybrid map, in which random places hold the teacher's
features and the others the student's; an encoder and a decoder on it; a reconstruction loss towards the
teacher's map; and a fraction of the teacher's features that grows with the gap between the two networks, measured
by minibatch CKA. Reconstructed are the layers (window attention), the running mean of CKA, that a place is
taken from the teacher with probability 1 - CKA, and every weight.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_teacher
from kdprobe.distillers.cka import batch_hsic
from kdprobe.distillers.pairing import Pairs, resized, stage_pairs
from kdprobe.distillers.search import Choice, around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features, Shapes

WINDOW = 4


def hybrid(
    student: Float[Tensor, "batch c h w"], teacher: Float[Tensor, "batch c h w"], from_teacher: Bool[Tensor, "h w"]
) -> Float[Tensor, "batch c h w"]:
    """The teacher's features at the marked places, the student's elsewhere."""
    return torch.where(from_teacher, teacher, student)


def similarity(student: Float[Tensor, "n ..."], teacher: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """Linear CKA of the samples of a batch, from unbiased HSIC, clamped to [0, 1] to serve as a probability.

    NaN for fewer than 4 samples, or where one side does not vary: it is not defined there.
    """
    xy, xx, yy = batch_hsic(student, teacher)
    return torch.where((xx > 0) & (yy > 0), (xy / (xx * yy).sqrt()).clamp(0, 1), torch.nan)


@widened
def prior_loss(predicted: Float[Tensor, "batch c h w"], teacher: Float[Tensor, "batch c h w"]) -> Float[Tensor, ""]:
    """Mean squared difference to the teacher's map, whose channel vectors are standardised at each place."""
    target = F.layer_norm(teacher.permute(0, 2, 3, 1), teacher.shape[1:2]).permute(0, 3, 1, 2)
    return F.mse_loss(predicted, target)


class WindowAttention(nn.Sequential):
    """Blocks of attention within windows, every other one shifted: [B, h, w, c] -> [B, h, w, c]."""

    def __init__(self, channels: int, size: tuple[int, int], n_blocks: int) -> None:
        from timm.models.swin_transformer import SwinTransformerBlock

        heads = 4 if channels % 4 == 0 else 1
        blocks = [
            SwinTransformerBlock(
                channels, size, num_heads=heads, window_size=WINDOW, shift_size=WINDOW // 2 * (i % 2), drop_path=0.2
            )
            for i in range(n_blocks)
        ]
        super().__init__(*blocks)


class PriorBlock(nn.Module):
    """Projections, two encoders and a decoder for one pair of stages.

    Args:
        student: (c, h, w) of the student's map, which also gives the common grid and width.
        teacher_channels: channels of the teacher's map.
        n_blocks: attention blocks of each encoder and of the decoder.
    """

    def __init__(self, student: tuple[int, int, int], teacher_channels: int, *, n_blocks: int) -> None:
        super().__init__()
        channels, size = student[0], student[1:]
        self.student_encoder = self._encoder(channels, channels, size, n_blocks)
        self.teacher_encoder = self._encoder(teacher_channels, channels, size, n_blocks)
        self.decoder = WindowAttention(channels, size, n_blocks)
        self.output = nn.Linear(channels, teacher_channels)

    @staticmethod
    def _encoder(in_channels: int, channels: int, size: tuple[int, int], n_blocks: int) -> nn.Sequential:
        projection = nn.Sequential(nn.LayerNorm(in_channels), nn.Linear(in_channels, channels, bias=False))
        return nn.Sequential(projection, WindowAttention(channels, size, n_blocks))

    def encode(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both maps [B, c, h, w] in the common space, [B, c_S, h, w]."""
        ours = self.student_encoder(student.permute(0, 2, 3, 1))
        theirs = self.teacher_encoder(teacher.permute(0, 2, 3, 1))
        return ours.permute(0, 3, 1, 2), theirs.permute(0, 3, 1, 2)

    def decode(self, mixed: Tensor) -> Tensor:
        """[B, c_S, h, w] -> the prediction of the teacher's map [B, c_T, h, w]."""
        out: Tensor = self.output(self.decoder(mixed.permute(0, 2, 3, 1)))
        return out.permute(0, 3, 1, 2)


class DPKOptions(Section):
    """Options of dynamic prior knowledge.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the reconstruction of each pair of stages.
        n_blocks: attention blocks of each encoder and of the decoder.
        prior_ratio: fraction of places taken from the teacher; by default one minus the running mean of CKA.
        momentum: momentum of the running mean.
        n_stages: how many of the pairs at equal relative depths, counted from the deepest.
        stages: pairs of stage numbers (student, teacher) to use instead.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(1.0, ge=0)
    n_blocks: int = Field(2, ge=1)
    prior_ratio: float | None = Field(None, ge=0, le=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    n_stages: int = Field(2, ge=1)
    stages: Pairs | None = Field(None, min_length=1)


class DPK(Method):
    """Mean squared difference between the teacher's maps and those rebuilt from a mixture of both networks'.

    The teacher's share of the mixture falls as the student learns.
    """

    Options: ClassVar[type[Section]] = DPKOptions
    reference = "Qiu et al. 2023"
    source = "a choice of this package: the paper's are not known"
    search = ranges(weight=around_weight(1.0), n_stages=Choice((1, 2)))
    student_needs = teacher_needs = ("maps",)
    options: DPKOptions
    similarity: Tensor

    def __init__(self, options: DPKOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("dpk", teacher)
        pairs = stage_pairs("dpk", student, teacher, options.stages)
        self.pairs = pairs if options.stages is not None else pairs[-options.n_stages :]
        self.teacher_stages = {other for _, other in self.pairs}
        self.blocks = nn.ModuleList(
            PriorBlock(student.maps[own], teacher.maps[other][0], n_blocks=options.n_blocks)
            for own, other in self.pairs
        )
        self.register_buffer("similarity", torch.full((len(self.pairs),), 0.5))

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `prior`, summed over the pairs."""
        assert teacher is not None
        losses = [
            self._pair_loss(place, student.maps[own], teacher.maps[other])
            for place, (own, other) in enumerate(self.pairs)
        ]
        return {"prior": self.options.weight * torch.stack(losses).sum()}

    def _pair_loss(self, place: int, student: Tensor, teacher: Tensor) -> Tensor:
        block: PriorBlock = self.blocks[place]  # type: ignore[assignment]
        teacher = resized(teacher, (student.shape[2], student.shape[3]))
        ours, theirs = block.encode(student, teacher)
        if self.training:
            self._update(place, ours, theirs)
        ratio = 1 - self.similarity[place] if self.options.prior_ratio is None else self.options.prior_ratio
        from_teacher = torch.rand(ours.shape[2:], device=ours.device) < ratio
        return prior_loss(block.decode(hybrid(ours, theirs, from_teacher)), teacher)

    @torch.no_grad()
    def _update(self, place: int, ours: Tensor, theirs: Tensor) -> None:
        mean, found = self.similarity[place], similarity(ours, theirs).to(self.similarity.dtype)
        mean.copy_(torch.where(found.isnan(), mean, mean.lerp(found, 1 - self.options.momentum)))
