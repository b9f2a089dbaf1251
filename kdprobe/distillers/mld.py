"""Multi-level logit distillation: align single predictions, samples and classes.

Reference:
    Y. Jin, J. Wang and D. Lin, "Multi-level logit distillation", CVPR 2023.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from kdprobe.config import Section
from kdprobe.data.loaders import Batch
from kdprobe.distillers.base import Method, Progress
from kdprobe.distillers.kd import divergences
from kdprobe.distillers.search import around_weight, ranges
from kdprobe.distillers.strong_view import strong_view
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features

Logits = Float[Tensor, "batch classes"]
#: the first stands for the temperature of plain distillation
TEMPERATURES = (4.0, 3.0, 5.0, 2.0, 6.0)


@widened
def instance_loss(student_logits: Logits, teacher_logits: Logits, *, temperature: float) -> Float[Tensor, ""]:
    """`T^2` times the batch mean of KL(teacher || student)."""
    return _instance(student_logits, teacher_logits, temperature).mean()


@widened
def batch_loss(student_logits: Logits, teacher_logits: Logits, *, temperature: float) -> Float[Tensor, ""]:
    """Squared difference of the [B, B] matrices of inner products of the samples' probabilities, over B."""
    return _batch(student_logits, teacher_logits, temperature).mean()


@widened
def class_loss(student_logits: Logits, teacher_logits: Logits, *, temperature: float) -> Float[Tensor, ""]:
    """Squared difference of the [C, C] matrices of inner products of the classes' probabilities, over C."""
    return _class(student_logits, teacher_logits, temperature).mean()


def _instance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """[B]: one loss for each sample."""
    log_p, log_q = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return divergences(log_p, log_q) * temperature**2


def _batch(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """[B]: one row of the difference for each sample."""
    ours, theirs = (F.softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return (theirs @ theirs.mT - ours @ ours.mT).square().sum(dim=1)


def _class(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """[C]: one row of the difference for each class."""
    ours, theirs = (F.softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return (theirs.mT @ theirs - ours.mT @ ours).square().sum(dim=1)


def uncertain(teacher_logits: Logits) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " classes"]]:
    """Which samples the teacher is not surer of than the median, which classes it predicts no more often."""
    probabilities = F.softmax(teacher_logits, dim=1)
    confidence, frequency = probabilities.amax(dim=1), probabilities.sum(dim=0)
    return confidence <= confidence.quantile(0.5), frequency <= frequency.quantile(0.5)


@widened
def mld_parts(
    student_views: tuple[Logits, Logits],
    teacher_views: tuple[Logits, Logits],
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    variant: Literal["reference", "clean"] = "reference",
) -> dict[str, Float[Tensor, ""]]:
    """The three levels, summed over the temperatures.

    Args:
        student_views: logits of the weakly and of the strongly augmented images, [B, C] each.
        teacher_views: the same of the teacher.
        temperatures: five for `reference`.
        variant: `reference` is what the published code adds up: a mask multiplies a loss that is
            already a mean, so it only scales it; the strong view enters in the instance level
            alone, and at the last two temperatures the weak view takes its place. `clean` averages
            the losses of the uncertain samples and classes over both views.

    Returns:
        `instance`, `batch` and `class`.
    """
    levels = _reference if variant == "reference" else _clean
    return levels(student_views, teacher_views, temperatures)


_Views = tuple[Tensor, Tensor]
Level = Callable[[Tensor, Tensor, float], Tensor]


def _clean(student: _Views, teacher: _Views, temperatures: Sequence[float]) -> dict[str, Tensor]:
    samples, classes = uncertain(teacher[0])
    levels: dict[str, tuple[Level, Tensor]] = {
        "instance": (_instance, samples),
        "batch": (_batch, samples),
        "class": (_class, classes),
    }
    return {
        name: _sum(
            (level(ours, theirs, temperature) * mask).mean() / 2
            for ours, theirs in zip(student, teacher, strict=True)
            for temperature in temperatures
        )
        for name, (level, mask) in levels.items()
    }


def _reference(student: _Views, teacher: _Views, temperatures: Sequence[float]) -> dict[str, Tensor]:
    (weak, strong), (teacher_weak, teacher_strong) = student, teacher
    samples, classes = (mask.to(weak.dtype).mean() for mask in uncertain(teacher_weak))

    def total(level: Level, kept: Sequence[float] = temperatures) -> Tensor:
        return _sum(level(weak, teacher_weak, temperature).mean() for temperature in kept)

    strong_instance = _sum(_instance(strong, teacher_strong, temperature).mean() for temperature in temperatures[:3])
    return {
        "instance": samples * total(_instance) + strong_instance + total(_instance, temperatures[3:]),
        "batch": samples * total(_batch),
        "class": classes * total(_class),
    }


def _sum(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()


class MLDOptions(Section):
    """Options of multi-level logit distillation.

    Attributes:
        ce_weight: weight of the cross entropy of each of the two views.
        weight: weight of each of the three levels.
        temperatures: summed over; five of them for `reference`.
        variant: `reference` is the published code, from which the published numbers come; `clean` is what it seems
            to mean (see `mld_parts`). On the digits, from a ViT to ResNet8 (8 epochs, one seed, learning rate 0.1),
            `reference` reaches 96.1 % and `clean` 58.2 %; 90.3 % without its masks, which leave half the samples to
            the labels.
    """

    ce_weight: float = Field(0.1, ge=0)
    weight: float = Field(0.9, ge=0)
    temperatures: tuple[float, ...] = Field(TEMPERATURES, min_length=1)
    variant: Literal["reference", "clean"] = "reference"

    @model_validator(mode="after")
    def _check(self) -> Any:
        if any(temperature <= 0 for temperature in self.temperatures):
            raise ValueError("temperatures must be positive")
        if self.variant == "reference" and len(self.temperatures) != 5:
            raise ValueError("the reference variant takes five temperatures")
        return self


class MLD(Method):
    """Difference of class probabilities of each sample, and of their products between samples and between classes.

    Both networks see each image twice: as it comes, and strongly augmented. The two views make up one batch of twice
    the size, so that batch norm sees both together; the published code runs them one after the other.
    """

    Options: ClassVar[type[Section]] = MLDOptions
    n_views = 2
    reference = "Jin, Wang, Lin 2023"
    source = "the authors' configuration for CIFAR-100"
    published = "72.19 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(weight=around_weight(0.9))
    options: MLDOptions

    @property
    def ce_weight(self) -> float:
        """The cross entropy is a mean over the two views, the weight is that of each."""
        return 2 * self.options.ce_weight

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The batch, followed by its strongly augmented view."""
        images = torch.cat([batch.images, strong_view(batch.images)])
        return images, images, batch.labels.repeat(2)

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """`instance`, `batch` and `class`."""
        assert teacher is not None
        weak, strong = student.logits.chunk(2)
        teacher_weak, teacher_strong = teacher.logits.chunk(2)
        parts = mld_parts(
            (weak, strong),
            (teacher_weak, teacher_strong),
            temperatures=self.options.temperatures,
            variant=self.options.variant,
        )
        return {name: self.options.weight * part for name, part in parts.items()}
