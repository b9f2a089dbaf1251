"""DropKD: dropout in a shared projection space removes specific knowledge, the general rest is transferred.

Reference:
    Lee, Hong, Shin, Ku and Ko, "Dropout connects transformers and CNNs: transfer general knowledge for knowledge
    distillation", WACV 2025, pages 8335-8344, with its supplement.

What the publication states: representations (feature maps and logits) are general plus specific knowledge;
specific knowledge is removed on both sides by dropout in a projection space; there is feature dropout
distillation with a rate for the teacher and one for the student, and logit dropout distillation with two
rates of its own; each network has an encoder, a decoder and a classifier of the same architecture, which
do not share weights; the student costs nothing more at inference; rates of 0.5 came out best.

What is reconstructed here, because the publication does not show it legibly: the layers of encoder, decoder
and classifier, the width of the projection space, how masks of the two networks relate, where logits are
dropped, the form of every loss, the weights, the temperature, the warm-up and the layer choice. Each of
them is an option of `DropKDOptions`.

Gradients: the teacher's encoder, decoder and classifier learn only from its own classification and
reconstruction terms, because the targets of the two distillation terms are constants; otherwise both
encoders could agree on a constant.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.distillers.base import Method, Progress, clamped, needs_teacher
from kdprobe.distillers.kd import kd_loss
from kdprobe.distillers.pairing import at_equal_depth, resized
from kdprobe.distillers.projection import Projection, drop, keep_masks
from kdprobe.distillers.search import Uniform, around_weight, ranges
from kdprobe.distillers.vectors import unit
from kdprobe.distillers.widen import widened
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Need, Shapes

Granularity = Literal["element", "channel", "position"]
Metric = Literal["normalised", "mse", "cosine"]


class DropKDOptions(Section):
    """Every choice of DropKD; rates are probabilities of being dropped, in [0, 1).

    Attributes:
        feature_rate_teacher: rf_T (stated; 0.5 is the published best).
        feature_rate_student: rf_S.
        logit_rate_teacher: rl_T.
        logit_rate_student: rl_S.
        mask: `nested` draws one uniform number per element for both networks, so that equal rates give equal
            masks and unequal rates nested ones; `independent` draws one for each network.
        granularity: what is dropped as a whole in feature maps: an element, a channel, or a position.
        dim: d, width of the projection space.
        encoder: `conv` (1x1 then 3x3 convolution) or `token` (layer norms and linear layers).
        grid: the network whose grid both maps are resized to.
        resize: how they are resized; `pool` averages, `bilinear` interpolates.
        stages: student stages, counted as Python does; the teacher's are those at the same relative depth.
        metric: distance of the feature term: squared distance of channel-normalised vectors per position, mean squared
            error, or one minus the cosine.
        space: where features are compared: `encoder`, or `decoder` (where both networks have equal widths).
        logit_source: whose logits are distilled: `classifier` (of the projection space, which learns the data's
            classes, so that the teacher needs none of its own), `head` (the networks' own, behind a dropped pooled
            vector), or `logits` (masks on the class logits themselves).
        dropped: what a dropped class logit becomes with `logit_source: logits`: `zero`, or `exclude` (the
            distribution is taken over the classes that both networks keep; samples without any are skipped).
        ce_weight: weight of the cross entropy of the student's own logits.
        feature_weight: w_f.
        logit_weight: w_l.
        classifier_weight: w_c.
        reconstruction_weight: w_r.
        temperature: T of the logit term.
        warmup: both distillation terms rise linearly over this fraction of the epochs, at least one epoch.
        pretraining_epochs: epochs in which only the auxiliary modules and the cross entropy are trained.
        detach_auxiliary: keep the student's reconstruction term away from the student and its encoder.
    """

    feature_rate_teacher: float = Field(0.5, ge=0, lt=1)
    feature_rate_student: float = Field(0.5, ge=0, lt=1)
    logit_rate_teacher: float = Field(0.5, ge=0, lt=1)
    logit_rate_student: float = Field(0.5, ge=0, lt=1)
    mask: Literal["nested", "independent"] = "nested"
    granularity: Granularity = "element"
    dim: int = Field(256, ge=1)
    encoder: Literal["conv", "token"] = "conv"
    grid: Literal["student", "teacher"] = "student"
    resize: Literal["pool", "bilinear"] = "pool"
    stages: tuple[int, ...] = Field((-1,), min_length=1, description="numbers of the student's stages")
    metric: Metric = "normalised"
    space: Literal["encoder", "decoder"] = "encoder"
    logit_source: Literal["classifier", "head", "logits"] = "classifier"
    dropped: Literal["zero", "exclude"] = "zero"
    ce_weight: float = Field(1.0, ge=0)
    feature_weight: float = Field(1.0, ge=0)
    logit_weight: float = Field(1.0, ge=0)
    classifier_weight: float = Field(1.0, ge=0)
    reconstruction_weight: float = Field(0.1, ge=0)
    temperature: float = Field(4.0, gt=0)
    warmup: float = Field(0.05, ge=0, le=1)
    pretraining_epochs: float = Field(0.0, ge=0)
    detach_auxiliary: bool = False


@widened
def feature_distance(
    student: Float[Tensor, "batch channels height width"],
    teacher: Float[Tensor, "batch channels height width"],
    *,
    metric: Metric,
) -> Float[Tensor, ""]:
    """How far two maps of equal size are apart, averaged over samples and positions.

    Args:
        student: [B, d, h, w].
        teacher: [B, d, h, w].
        metric: `normalised` is the squared distance of the L2-normalised channel vectors, in [0, 4]; `cosine` is
            half of it; `mse` is the mean squared error over all elements.
    """
    if metric == "mse":
        return F.mse_loss(student, teacher)
    squared = (unit(student, dim=1) - unit(teacher, dim=1)).square().sum(1).mean()
    return squared if metric == "normalised" else squared / 2


@widened
def excluded_kd_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    keep: Bool[Tensor, "batch classes"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """`T^2` times the mean KL(teacher || student) over the kept classes of each sample.

    Samples that keep no class are skipped; the loss is zero where no sample keeps any.
    """
    some = keep.any(1)
    left_out = ~keep & some[:, None]  # without a class there is no distribution: all of them, and a weight of zero
    log_student = (student_logits / temperature).masked_fill(left_out, float("-inf")).log_softmax(1)
    log_teacher = (teacher_logits / temperature).masked_fill(left_out, float("-inf")).log_softmax(1)
    difference = (log_teacher - log_student).masked_fill(~keep, 0.0)
    return (log_teacher.exp() * difference).sum() / some.sum().clamp(min=1) * temperature**2


class DropKD(Method):
    """Difference of features and of logits in a projection space, in which parts of both are dropped at random.

    Terms: `feature`, `logit`, and for each network `classifier_*` and `reconstruction_*`; with several stages,
    each is the mean over the stages. Without labels there are `feature` and `reconstruction_*` alone.
    """

    Options: ClassVar[type[Section]] = DropKDOptions
    reference = "Lee, Hong, Shin, Ku, Ko 2025"
    source = "a choice of this package: the paper's are not known"
    published = "71.97 (CIFAR-100, ResNet56 to ResNet20)"
    search = ranges(
        feature_weight=around_weight(1.0),
        logit_weight=around_weight(1.0),
        feature_rate_teacher=Uniform(0.0, 0.9),
        logit_rate_teacher=Uniform(0.0, 0.9),
    )
    student_needs: tuple[Need, ...] = ("maps",)
    teacher_needs: tuple[Need, ...] = ("maps",)
    without_logits: ClassVar[Mapping[str, Any]] = {"logit_source": "classifier"}
    options: DropKDOptions

    def __init__(self, options: DropKDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("dropkd", teacher)
        if options.logit_source == "head":
            self.student_needs = self.teacher_needs = ("maps", "pooled", "head")
        elif options.logit_source == "logits":
            self.student_needs = self.teacher_needs = ("maps", "logits")
        if not student.n_classes and (options.logit_weight or options.classifier_weight):
            raise ModelError(
                "dropkd distils features alone where the data have no labels; set method.logit_weight=0, "
                "method.classifier_weight=0 and method.ce_weight=0"
            )
        self.pairs = at_equal_depth("dropkd", options.stages, student, teacher)
        self.teacher_stages = {other for _, other in self.pairs}
        self.sizes = []
        for own, other in self.pairs:
            owner = student.maps[own] if options.grid == "student" else teacher.maps[other]
            self.sizes.append(owner[1:])
            self._check_widths(teacher.maps[other][0], student.maps[own][0])
        self.teacher_projections = nn.ModuleList(self._projection(teacher.maps[other]) for _, other in self.pairs)
        self.student_projections = nn.ModuleList(self._projection(student.maps[own]) for own, _ in self.pairs)

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Loss terms of one batch, see the class."""
        assert teacher is not None
        stages = [
            self._stage(index, student.maps[own], teacher.maps[other], labels)
            for index, (own, other) in enumerate(self.pairs)
        ]
        terms = {name: torch.stack([stage[name] for stage in stages]).mean() for name in stages[0]}
        if self.options.logit_source != "classifier":
            terms["logit"] = self._own_logit_term(student, teacher)
        return self._weighted(terms, progress)

    def _stage(self, index: int, student_map: Tensor, teacher_map: Tensor, labels: Tensor) -> dict[str, Tensor]:
        options, size = self.options, self.sizes[index]
        maps = {
            "teacher": resized(teacher_map, size, options.resize),
            "student": resized(student_map, size, options.resize),
        }
        nets: dict[str, Projection] = {
            "teacher": self.teacher_projections[index],  # type: ignore[dict-item]
            "student": self.student_projections[index],  # type: ignore[dict-item]
        }
        encoded = {who: nets[who].encoder(maps[who]) for who in maps}
        dropped = self._drop_features(encoded["teacher"], encoded["student"])
        rebuilt = {who: nets[who].decoder(dropped[who]) for who in maps}
        compared = rebuilt if options.space == "decoder" else dropped
        if options.detach_auxiliary:
            rebuilt = rebuilt | {"student": nets["student"].decoder(dropped["student"].detach())}
        logits = self._classified(nets, dropped)
        terms = {"feature": feature_distance(compared["student"], compared["teacher"].detach(), metric=options.metric)}
        if logits and options.logit_source == "classifier":
            terms["logit"] = kd_loss(logits["student"], logits["teacher"].detach(), temperature=options.temperature)
        for who, target in maps.items():
            if logits:
                terms[f"classifier_{who}"] = F.cross_entropy(logits[who].float(), labels)
            terms[f"reconstruction_{who}"] = F.mse_loss(rebuilt[who].float(), standardised(target.detach()))
        return terms

    def _classified(self, nets: dict[str, Projection], maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits of the projection space's classifiers; none without classes."""
        if not self.student_shapes.n_classes:
            return {}
        pooled = self._drop_vectors(maps["teacher"].mean((2, 3)), maps["student"].mean((2, 3)))
        return {who: nets[who].classify(pooled[who]) for who in maps}

    def _drop_features(self, teacher: Tensor, student: Tensor) -> dict[str, Tensor]:
        options = self.options
        batch, dim, height, width = student.shape
        shapes = {
            "element": (batch, dim, height, width),
            "channel": (batch, dim, 1, 1),
            "position": (batch, 1, height, width),
        }
        rates = (options.feature_rate_teacher, options.feature_rate_student)
        return self._drop(teacher, student, rates, shapes[options.granularity])

    def _drop_vectors(self, teacher: Tensor, student: Tensor) -> dict[str, Tensor]:
        if self.options.logit_source != "classifier":
            return {"teacher": teacher, "student": student}
        return self._drop(teacher, student, self._logit_rates, student.shape)

    def _drop(
        self, teacher: Tensor, student: Tensor, rates: tuple[float, float], shape: Sequence[int]
    ) -> dict[str, Tensor]:
        if not self.training:
            return {"teacher": teacher, "student": student}
        nested = self.options.mask == "nested"
        keep_teacher, keep_student = keep_masks(student, rates=rates, nested=nested, shape=shape)
        return {
            "teacher": drop(teacher, keep_teacher, rates[0]),
            "student": drop(student, keep_student, rates[1]),
        }

    def _own_logit_term(self, student: Features, teacher: Features) -> Tensor:
        options = self.options
        if options.logit_source == "head":
            assert student.pooled is not None and teacher.pooled is not None  # noqa: PT018
            assert student.head is not None and teacher.head is not None  # noqa: PT018
            pooled = self._drop_heads(teacher.pooled, student.pooled)
            teacher_logits = teacher.head(pooled["teacher"]).detach()
            return kd_loss(student.head(pooled["student"]), teacher_logits, temperature=options.temperature)
        if options.dropped == "exclude" and self.training:
            nested = options.mask == "nested"
            masks = keep_masks(student.logits, rates=self._logit_rates, nested=nested)
            return excluded_kd_loss(
                student.logits, teacher.logits, masks[0] & masks[1], temperature=options.temperature
            )
        logits = self._drop(teacher.logits, student.logits, self._logit_rates, student.logits.shape)
        return kd_loss(logits["student"], logits["teacher"], temperature=options.temperature)

    def _drop_heads(self, teacher: Tensor, student: Tensor) -> dict[str, Tensor]:
        # The two pooled vectors live in different spaces and may differ in width: masks cannot be nested.
        if not self.training:
            return {"teacher": teacher, "student": student}
        rates = self._logit_rates
        keep_teacher, _ = keep_masks(teacher, rates=rates, nested=True)
        _, keep_student = keep_masks(student, rates=rates, nested=True)
        return {
            "teacher": drop(teacher, keep_teacher, rates[0]),
            "student": drop(student, keep_student, rates[1]),
        }

    def _weighted(self, terms: dict[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        options = self.options
        after = Progress(clamped(progress.epoch - options.pretraining_epochs, low=0.0), progress.n_epochs)
        ramp = after.ramp(max(options.warmup * progress.n_epochs, 1.0))
        weights = {
            "feature": options.feature_weight * ramp,
            "logit": options.logit_weight * ramp,
            "classifier_teacher": options.classifier_weight,
            "classifier_student": options.classifier_weight,
            "reconstruction_teacher": options.reconstruction_weight,
            "reconstruction_student": options.reconstruction_weight,
        }
        return {name: term * weights[name] for name, term in terms.items()}

    @property
    def _logit_rates(self) -> tuple[float, float]:
        return self.options.logit_rate_teacher, self.options.logit_rate_student

    def _projection(self, size: tuple[int, int, int]) -> Projection:
        n_classes = self.student_shapes.n_classes
        return Projection(size[0], self.options.dim, n_classes, encoder=self.options.encoder)

    def _check_widths(self, teacher: int, student: int) -> None:
        if self.options.space == "decoder" and teacher != student:
            raise ModelError(
                f"dropkd compares decoder outputs only where both networks have equal widths, but the teacher's map "
                f"has {teacher} channels and the student's {student}; use space: encoder"
            )


@widened
def standardised(target: Tensor) -> Tensor:
    """Maps with mean 0 and variance 1 of each channel over samples and positions: what decoders are to give."""
    return F.batch_norm(target, None, None, training=True)
