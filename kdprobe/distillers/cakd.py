"""Cross-architecture distillation: a ViT teaches a CNN in the space of attention and in that of tokens.

Reference:
    Y. Liu, J. Cao, B. Li, W. Hu, J. Ding and L. Li, "Cross-architecture knowledge distillation", ACCV 2022.

Two presets, because the authors' code differs from their paper in many places. `paper`: queries, keys and values
come from 3x3 convolutions and are mixed with the teacher's at random; attention outputs and value relations are
matched. `code`: they come from one linear layer and attention scores before the softmax are matched. In neither
are the teacher's prefix tokens used for attention. Where the paper leaves a norm open, it is a mean here.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.data.loaders import Batch
from kdprobe.devices import sent
from kdprobe.distillers.adversary import adversarial_terms, score_discriminator, token_discriminator
from kdprobe.distillers.base import Amount, Method, Progress, clamped, needs_maps, needs_pooled, needs_teacher
from kdprobe.distillers.pairing import check_stage, levels, resized
from kdprobe.distillers.search import around_weight, ranges
from kdprobe.distillers.strong_view import strong_view
from kdprobe.distillers.widen import widened
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Need, Shapes

#: side of the squares of positions that share one linear layer
SIDE = 4


@widened
def scores_loss(
    student_scores: Float[Tensor, "batch n n"],
    student_values: Float[Tensor, "batch n n"],
    teacher_scores: Float[Tensor, "batch n n"],
    teacher_values: Float[Tensor, "batch n n"],
) -> Float[Tensor, ""]:
    """Preset `code`: 0.2 times the mean squared difference of QK scores plus 0.05 times that of VV scores."""
    return 0.2 * F.mse_loss(student_scores, teacher_scores) + 0.05 * F.mse_loss(student_values, teacher_values)


@widened
def attention_loss(
    student: Float[Tensor, "3 batch heads n d"], teacher: Float[Tensor, "3 batch heads n d"], *, mixing: float
) -> Float[Tensor, ""]:
    """Preset `paper`, equations 2 to 4: attention outputs, and inner products of values.

    Args:
        student: queries, keys and values.
        teacher: the same.
        mixing: probability that an element of the student's is replaced by the teacher's in front of the attention.
    """
    replaced = torch.rand_like(student) < mixing
    ours = F.scaled_dot_product_attention(*torch.where(replaced, teacher, student))
    theirs = F.scaled_dot_product_attention(*teacher)
    scale = student.shape[-1] ** -0.5
    values = [qkv[2] @ qkv[2].mT * scale for qkv in (student, teacher)]
    return F.mse_loss(ours, theirs) + F.mse_loss(values[0], values[1])


@widened
def scores(qkv: Float[Tensor, "3 batch heads n d"], *, scale_values: bool) -> tuple[Tensor, Tensor]:
    """Attention scores of queries with keys and of values with values, mean over heads, [B, n, n] each.

    Queries are divided by the root of d; values only where asked for.
    """
    scale = qkv.shape[-1] ** -0.5
    queries_keys = (qkv[0] @ qkv[1].mT).mean(dim=1) * scale
    values = (qkv[2] @ qkv[2].mT).mean(dim=1)
    return queries_keys, values * scale if scale_values else values


def group_index(height: int, width: int) -> Int[Tensor, " n"]:
    """For each position of a grid, row by row, the number of the 4x4 square that it lies in."""
    rows, columns = torch.arange(height) // SIDE, torch.arange(width) // SIDE
    return (rows[:, None] * -(-width // SIDE) + columns).flatten()


class GroupLinear(nn.Module):
    """One linear layer for each 4x4 square of positions: tokens [B, n, c] -> [B, n, out].

    Args:
        channels: c.
        out: width of the teacher's tokens.
        size: (h, w) with n = h w.
        dropout: rate of the dropout in front of it.
    """

    index: Tensor

    def __init__(self, channels: int, out: int, size: tuple[int, int], *, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("index", group_index(*size), persistent=False)
        n_groups = int(self.index[-1]) + 1
        bound = channels**-0.5
        self.weight = nn.Parameter(torch.empty(n_groups, out, channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_groups, out).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "batch n c"]) -> Float[Tensor, "batch n _out"]:
        """Each token through the layer of its square."""
        product = torch.einsum("bnc,noc->bno", self.dropout(tokens), self.weight[self.index])
        return product + self.bias[self.index]


class LinearQKV(nn.Module):
    """Queries, keys and values of each position by one linear layer: [B, c, h, w] -> [3, B, heads, n, c / heads]."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)

    def forward(self, maps: Float[Tensor, "batch c h w"]) -> Float[Tensor, "3 batch heads n d"]:
        """Project and split."""
        tokens = self.qkv(maps.flatten(2).transpose(1, 2))
        batch, n, width = tokens.shape
        split: Tensor = tokens.reshape(batch, n, 3, self.heads, width // (3 * self.heads))
        return split.permute(2, 0, 3, 1, 4)


class ConvQKV(nn.Module):
    """The same by three 3x3 convolutions, with the teacher's number and width of heads."""

    def __init__(self, channels: int, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.convs = nn.ModuleList(nn.Conv2d(channels, heads * width, 3, padding=1) for _ in range(3))

    def forward(self, maps: Float[Tensor, "batch c h w"]) -> Float[Tensor, "3 batch heads n d"]:
        """Convolve and split."""
        split = [conv(maps).flatten(2).unflatten(1, (self.heads, -1)).mT for conv in self.convs]
        return torch.stack(split)


def ramp(epoch: Amount) -> Amount:
    """Preset `code`: weight of all terms but the cross entropy; rises from epoch 25 to 0.2 at epoch 35."""
    return clamped((epoch - 25) / 50, low=0.0, high=0.2)


class CAKDOptions(Section):
    """Options of cross-architecture distillation.

    Attributes:
        preset: `paper` or `code`: the losses as the paper prints them, or as the authors' code has them.
        ce_weight: weight of the cross entropy.
        attention_weight: weight of the attention term. 1 as printed, with means for norms, is much at a learning rate
            of 0.1: on the digits (8 epochs, one seed) ResNet8 reaches 33.7 %, and 94.2 % with 0.04, which is the
            authors' code's 0.2 times the 0.2 that its ramp ends at.
        token_weight: weight of the terms of tokens (and, in `code`, logits and the class token).
        adversarial_weight: weight of the generator's term; by default 0.1 in `paper` and 1 in `code`.
        discriminator_weight: weight of the discriminator's term, which no other term sees: with SGD, its learning rate
            as a fraction of the student's (0.01 in the authors' code; 1 diverged at rate 0.1).
        mixing: `paper`: fraction of elements replaced by the teacher's.
        dropout: `paper`: rate of the dropout in front of the group-wise linear layers.
        heads: `code`: attention heads of the student, by default the largest divisor of its width up to 16.
        saturating: `paper`: the generator minimises log(1 - D), as printed, which has no lower bound, instead
            of -log D.
        dead_generator: cut the generator's gradient off, as the authors' readable code does.
        perturb: probability that the student sees a strongly augmented view of an image.
        warmup: `code`: rise of the weights over the epochs (see `ramp`).
        stage: the student's; by default the one whose grid is nearest to the teacher's.
    """

    preset: Literal["paper", "code"] = "paper"
    ce_weight: float = Field(1.0, ge=0)
    attention_weight: float = Field(1.0, ge=0)
    token_weight: float = Field(1.0, ge=0)
    adversarial_weight: float | None = Field(None, ge=0)
    discriminator_weight: float = Field(0.01, ge=0)
    mixing: float = Field(0.5, ge=0, le=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    heads: int | None = Field(None, ge=1)
    saturating: bool = False
    dead_generator: bool = False
    perturb: float = Field(0.5, ge=0, le=1)
    warmup: bool = True
    stage: int | None = None


class CAKD(Method):
    """Difference from a ViT's attention and tokens of those projected from a stage map, and an adversarial loss.

    A discriminator, trained alongside, tells the student's tokens from the teacher's.
    """

    Options: ClassVar[type[Section]] = CAKDOptions
    reference = "Liu et al. 2022"
    source = "the authors' code (`code`); a choice of this package (`paper`)"
    published = "76.21 (ImageNet, ViT-B/16 to ResNet50)"
    search = ranges(attention_weight=around_weight(1.0), token_weight=around_weight(1.0))
    student_needs: tuple[Need, ...] = ("maps", "pooled")
    teacher_needs: tuple[Need, ...] = ("tokens", "qkv")
    without_logits: ClassVar[Mapping[str, Any]] = {"preset": "paper"}
    options: CAKDOptions

    def __init__(self, options: CAKDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("cakd", teacher)
        needs_maps("cakd", student)
        needs_pooled("cakd", student)
        if not _attends_to_its_grid(teacher):
            raise ModelError(
                f"cakd learns from the last attention of a ViT and is not defined for the teacher {teacher.model}; "
                "ofa and dropkd take any pair"
            )
        self.grid = teacher.maps[-1][1:]
        if options.stage is not None:
            check_stage("cakd", options.stage, student)
        self.stage = _nearest_stage(student, self.grid[0]) if options.stage is None else options.stage
        assert teacher.tokens is not None
        assert teacher.qkv is not None
        channels, width = student.maps[self.stage][0], teacher.tokens[1]
        self.is_paper = options.preset == "paper"
        dropout = options.dropout if self.is_paper else 0.0
        self.projector = GroupLinear(channels, width, self.grid, dropout=dropout)
        self.attention: nn.Module
        if self.is_paper:
            self.attention = ConvQKV(channels, teacher.qkv[0], teacher.qkv[2])
            self.discriminator = token_discriminator(width)
        else:
            if teacher.class_token is None:
                raise ModelError(
                    f"cakd with method.preset=code learns from a class token, which the teacher {teacher.model} is not "
                    "known to have; take method.preset=paper"
                )
            self.class_token = teacher.class_token
            self.student_needs = (*self.student_needs, "logits")
            self.teacher_needs = (*self.teacher_needs, "logits")
            self.attention = LinearQKV(channels, _heads(channels, options.heads))
            self.discriminator = score_discriminator()
            self.class_projector = nn.Linear(student.width, width)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The student sees some images strongly augmented, the teacher as they come."""
        perturbed = (torch.rand(len(batch.images)) < self.options.perturb).nonzero().flatten()
        images = batch.images
        if len(perturbed):
            images, places = images.clone(), sent(perturbed, images.device)
            images[places] = strong_view(batch.images[places])
        return images, batch.images, batch.labels

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """`attention`, `tokens`, `generator`, `discriminator`; in `code` also `logits` and `class_token`."""
        assert teacher is not None
        assert teacher.tokens is not None
        assert teacher.qkv is not None
        maps = resized(student.maps[self.stage], self.grid)
        tokens = self.projector(maps.flatten(2).transpose(1, 2))
        patches, qkv = teacher.tokens[:, teacher.n_prefix :], teacher.qkv[..., teacher.n_prefix :, :]
        terms = {"tokens": F.mse_loss(tokens.float(), patches.float())}
        step = self._paper if self.is_paper else self._code
        terms |= step(self.attention(maps), qkv, tokens, patches)
        if not self.is_paper:
            terms["tokens"] = 0.05 * terms["tokens"]
            terms["logits"] = F.mse_loss(student.logits.float(), teacher.logits.float())
            terms["class_token"] = F.mse_loss(
                self.class_projector(student.pooled).float(), teacher.tokens[:, self.class_token].float()
            )
        return self._weighted(terms, progress)

    def _paper(self, own: Tensor, qkv: Tensor, tokens: Tensor, patches: Tensor) -> dict[str, Tensor]:
        mixing = self.options.mixing if self.training else 0.0
        attention = attention_loss(own, qkv, mixing=mixing)
        generator, discriminator = self._adversaries(patches.mean(dim=1), tokens.mean(dim=1))
        return {"attention": attention, "generator": generator, "discriminator": discriminator}

    def _code(self, own: Tensor, qkv: Tensor, tokens: Tensor, patches: Tensor) -> dict[str, Tensor]:
        ours, theirs = scores(own, scale_values=True), scores(qkv, scale_values=False)
        generator, discriminator = self._adversaries(theirs[0][:, None], ours[0][:, None])
        return {"attention": scores_loss(*ours, *theirs), "generator": generator, "discriminator": discriminator}

    def _adversaries(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return adversarial_terms(
            self.discriminator,
            real,
            fake,
            saturating=self.is_paper and self.options.saturating,
            dead=self.options.dead_generator,
        )

    def _weighted(self, terms: dict[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        options = self.options
        rise = 1.0 if self.is_paper or not options.warmup else ramp(progress.epoch)
        adversarial = options.adversarial_weight
        if adversarial is None:
            adversarial = 0.1 if self.is_paper else 1.0
        weights: dict[str, Any] = {
            "attention": rise * options.attention_weight,
            "generator": rise * adversarial,
            "discriminator": options.discriminator_weight,
        }
        return {name: term * weights.get(name, rise * options.token_weight) for name, term in terms.items()}


def _attends_to_its_grid(teacher: Shapes) -> bool:
    """Whether the last attention's queries, keys and values are of all tokens: the prefix and the last map's places."""
    if teacher.qkv is None or teacher.tokens is None or not teacher.maps:
        return False
    n_tokens = teacher.n_prefix + teacher.maps[-1][1] * teacher.maps[-1][2]
    return teacher.qkv[1] == teacher.tokens[0] == n_tokens


def _nearest_stage(student: Shapes, side: int) -> int:
    """The deepest of the stages whose grids are nearest in size."""
    return min(reversed(levels(student)), key=lambda stage: abs(student.maps[stage][1] - side))


def _heads(channels: int, chosen: int | None) -> int:
    if chosen is None:
        return max(heads for heads in range(1, 17) if channels % heads == 0)
    if channels % chosen:
        raise ModelError(f"cakd: {chosen} heads do not divide the {channels} channels of the student's stage")
    return chosen
