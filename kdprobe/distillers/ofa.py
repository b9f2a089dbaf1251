"""One for all: compare pairs of any architecture in the space of logits, at several exits.

Reference:
    Z. Hao et al., "One-for-all: bridge the gap between heterogeneous architectures in knowledge
    distillation", NeurIPS 2023.
"""

from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, needs_maps, needs_pooled, needs_teacher
from kdprobe.distillers.pairing import N_STAGES, check_stage, levels, spread
from kdprobe.distillers.search import Uniform, around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Shapes

#: blocks with an exit of a transformer of twelve, counted from 0, as published
OF_TWELVE = (1, 3, 9, 11)
#: side of the grid that token students are merged down to
GRID = 7


@widened
def ofa_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    target: Int[Tensor, " batch"],
    *,
    eps: float,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Cross entropy with the teacher, whose weight on the target grows with its confidence.

    With p the teacher's and q the student's probabilities and m the one-hot target, it is the batch mean of
    `- sum(((p + m)^eps - m) log q)`. For eps 1 that is the cross entropy with p; there is no `T^2`.

    Args:
        student_logits: [B, C], of the network or of one of its exits.
        teacher_logits: [B, C].
        target: [B] class numbers.
        eps: 1 or more; how much a confident teacher is enhanced.
        temperature: T > 0.
    """
    one_hot = F.one_hot(target, student_logits.shape[1])
    weights = (F.softmax(teacher_logits / temperature, dim=1) + one_hot).pow(eps) - one_hot
    return -(weights * F.log_softmax(student_logits / temperature, dim=1)).sum(dim=1).mean()


def conv_exit(channels: int, *, stage: int, n_stages: int, width: int, n_classes: int) -> nn.Sequential:
    """Exit branch of a convolutional student: halve the map until it has the depth of the last stage, classify.

    Args:
        channels: c of the stage's map [B, c, h, w].
        stage: 1 is the shallowest.
        n_stages: stages of the network.
        width: features in front of the classifier.
        n_classes: C.

    Returns:
        a module from maps to logits [B, C].
    """
    n_blocks = n_stages - stage
    widths = [channels * 2**depth for depth in range(n_blocks)] + [width]
    blocks: list[nn.Module] = [SeparableBlock(*pair) for pair in pairwise(widths)]
    layers = blocks or [nn.Conv2d(channels, width, 1)]
    branch = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes))
    _initialise(branch)
    return branch


class SeparableBlock(nn.Sequential):
    """Two depthwise separable convolutions, the first with stride 2: [B, c, h, w] -> [B, c', h/2, w/2]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            *_separable(in_channels, in_channels, stride=2), *_separable(in_channels, out_channels, stride=1)
        )


def _separable(in_channels: int, out_channels: int, *, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels, bias=False),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


class TokenExit(nn.Module):
    """Exit branch of a token student: merge the patches, a few transformer blocks, classify the mean token.

    The original carries the class token past the merging and classifies that; the patches' mean, its choice for
    networks without one, serves all networks here.

    Args:
        channels: c of the stage's map [B, c, h, w].
        side: h and w.
        stage: 1 is the shallowest.
        n_stages: exits of the network.
        n_classes: C.
    """

    def __init__(self, channels: int, side: int, *, stage: int, n_stages: int, n_classes: int) -> None:
        from timm.models.vision_transformer import Block

        super().__init__()
        n_merges = 0
        while side // 2**n_merges >= 2 * GRID and side % 2 ** (n_merges + 1) == 0:
            n_merges += 1
        heads = 4 if channels % 4 == 0 else 1
        # As in the original: of several merges the last one ends without an activation.
        ends = [place == n_merges - 1 > 0 for place in range(n_merges)]
        self.merges = nn.Sequential(*(PatchMerging(channels, channels, activate=not end) for end in ends))
        self.blocks = nn.Sequential(*(Block(channels, heads) for _ in range(max(n_stages - stage, 1))))
        self.classifier = nn.Linear(channels, n_classes)
        _initialise(self)

    def forward(self, maps: Float[Tensor, "batch _c _h _w"]) -> Float[Tensor, "batch _classes"]:
        """Logits of the exit."""
        tokens = self.merges(maps.flatten(2).transpose(1, 2))
        logits: Tensor = self.classifier(self.blocks(tokens).mean(dim=1))
        return logits


class PatchMerging(nn.Module):
    """Joins 2x2 neighbouring tokens of a square grid: [B, n, d] -> [B, n/4, out]; with a GELU if it is to activate."""

    def __init__(self, dim: int, out: int, *, activate: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, out, bias=False)
        self.activation = nn.GELU() if activate else nn.Identity()

    def forward(self, tokens: Float[Tensor, "batch n d"]) -> Float[Tensor, "batch _n _out"]:
        """Merge, normalise, reduce, activate."""
        side = round(tokens.shape[1] ** 0.5)
        # Rows 2i + a and columns 2j + b; the four neighbours follow each other with a running fastest.
        grid = tokens.reshape(len(tokens), side // 2, 2, side // 2, 2, -1)
        joined = grid.permute(0, 1, 3, 4, 2, 5).flatten(3).flatten(1, 2)
        activated: Tensor = self.activation(self.reduction(self.norm(joined)))
        return activated


def _initialise(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
        if isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


class OFAOptions(Section):
    """Options of one-for-all distillation.

    Attributes:
        ce_weight: weight of the cross entropy.
        weight: weight of the term of the network's own logits.
        exit_weight: weight of the terms of the exits.
        eps: enhancement of the network's own term (1.5 for DeiT-T to ResNet18 on ImageNet).
        exit_eps: eps of each exit, shallow to deep; a single value is for all.
        temperature: T.
        stages: numbers of the student's stages with an exit; by default four, at equal distances but for the blocks 2,
            4, 10 and 12 of a transformer of twelve.
    """

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(1.0, ge=0)
    exit_weight: float = Field(1.0, ge=0)
    eps: float = Field(1.0, ge=1)
    exit_eps: Annotated[tuple[Annotated[float, Field(ge=1)], ...], BeforeValidator(_several)] = (1.0,)
    temperature: float = Field(1.0, gt=0)
    stages: tuple[int, ...] | None = Field(None, min_length=1, description="numbers of the student's stages")


class OFA(Method):
    """Cross entropy of the student and of exits at its stages with the teacher's probabilities, the target's raised.

    Of the teacher, the logits alone are read.
    """

    Options: ClassVar[type[Section]] = OFAOptions
    reference = "Hao et al. 2023"
    source = "the authors' script"
    search = ranges(weight=around_weight(1.0), exit_weight=around_weight(1.0), eps=Uniform(1.0, 2.0))
    student_needs = ("maps", "logits")
    options: OFAOptions

    def __init__(self, options: OFAOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("ofa", teacher)
        needs_maps("ofa", student)
        needs_pooled("ofa", student, teacher)
        for stage in options.stages or ():
            check_stage("ofa", stage, student)
        self.stages = options.stages or _usual_stages(student)
        eps = options.exit_eps
        self.exit_eps = eps * len(self.stages) if len(eps) == 1 else eps
        if len(self.exit_eps) != len(self.stages):
            raise ModelError(f"ofa: there are {len(self.exit_eps)} exit_eps for {len(self.stages)} exits")
        width = max(student.width, teacher.width)
        self.exits = nn.ModuleList(
            _exit(student, stage, place, len(self.stages), width) for place, stage in enumerate(self.stages, start=1)
        )

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """`logits`, and `exits` summed over the stages."""
        assert teacher is not None
        options = self.options

        def loss(logits: Tensor, eps: float) -> Tensor:
            return ofa_loss(logits, teacher.logits, labels, eps=eps, temperature=options.temperature)

        parts = zip(self.exits, self.stages, self.exit_eps, strict=True)
        exits = torch.stack([loss(branch(student.maps[stage]), eps) for branch, stage, eps in parts])
        return {
            "logits": options.weight * loss(student.logits, options.eps),
            "exits": options.exit_weight * exits.sum(),
        }


def _usual_stages(student: Shapes) -> tuple[int, ...]:
    found = levels(student)
    if student.tokens is not None and len(found) == 12:
        return OF_TWELVE
    return spread(found, min(N_STAGES, len(found)))


def _exit(student: Shapes, stage: int, place: int, n_stages: int, width: int) -> nn.Module:
    channels, side, _ = student.maps[stage]
    if student.tokens is not None:
        return TokenExit(channels, side, stage=place, n_stages=n_stages, n_classes=student.n_classes)
    return conv_exit(channels, stage=place, n_stages=n_stages, width=width, n_classes=student.n_classes)
