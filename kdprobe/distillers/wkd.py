"""Wasserstein distillation: the cost of moving the student's answer onto the teacher's, between like classes less.

Reference:
    J. Lv, H. Yang and P. Li, "Wasserstein distance rivals Kullback-Leibler divergence for knowledge distillation",
    NeurIPS 2024. The authors' code: JiamingLv/WKD on GitHub.

The published costs of the classes are 1 - CKA of samples of each class, which pairs image k of one class with image k
of the other: they depend on the order of the images. Here they are by default 1 - cosine of the rows of the teacher's
classifier, which needs no pass over the data and is an option of the authors' code; `class_distances` and
`method.cost` give the published ones. The decay of the weights is continuous here, and in steps of whole epochs there.
"""

from collections.abc import Mapping
from math import pi
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from kdprobe.config import Section
from kdprobe.distillers.base import Amount, Method, Progress, clamped, cosine, needs_maps, needs_teacher
from kdprobe.distillers.fitnet import Regressor
from kdprobe.distillers.nkd import target_part
from kdprobe.distillers.search import LogUniform, around_weight, ranges
from kdprobe.distillers.vectors import centred, unit
from kdprobe.distillers.widen import widened
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Need, Shapes

#: smallest cost, and what the original adds to its denominators
TINY = 1e-8


@widened
def transport_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    target: Int[Tensor, " batch"],
    cost: Float[Tensor, "classes classes"],
    *,
    temperature: float,
    regularisation: float = 0.05,
    iterations: int = 10,
) -> Float[Tensor, ""]:
    """Cost of the flow between the two networks' probabilities of the classes other than the target, batch mean.

    The flow is what a few of Sinkhorn's iterations give. It is not converged, nor 0 where the two agree. The gradient
    runs through all iterations.

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C].
        target: [B] class numbers.
        cost: of each class and each other [C, C], as from `class_costs`.
        temperature: T > 0.
        regularisation: of the entropy of the flow, above 0.
        iterations: 1 or more.
    """
    cost = cost.to(student_logits.dtype).clamp(min=0) + TINY
    is_target = F.one_hot(target, len(cost)).bool()
    p, q = (
        F.softmax((logits / temperature).masked_fill(is_target, -torch.inf), dim=1)
        for logits in (student_logits, teacher_logits)
    )
    # One kernel for all samples: where p, q and the first u are 0 at the target, so are its row and column of the flow.
    kernel = torch.exp(-cost / regularisation)
    u = (~is_target).to(p.dtype) / (len(cost) - 1)
    for _ in range(iterations):
        v = q / (u @ kernel + TINY)
        u = p / (v @ kernel.mT + TINY)
    return (u * (v @ (kernel * cost).mT)).sum(dim=1).mean()


def class_costs(distances: Float[Tensor, "classes classes"], *, sharpen: float = 1.0) -> Float[Tensor, "_c _c"]:
    """`1 - exp(-sharpen x distance)`, in [0, 1); the distances themselves for 0."""
    return 1 - torch.exp(-sharpen * distances) if sharpen else distances


@widened
def head_distances(weight: Float[Tensor, "classes _d"]) -> Float[Tensor, "classes classes"]:
    """`1 - cosine` of the rows of a classifier's weight."""
    rows = unit(weight, dim=1)
    return 1 - rows @ rows.mT


@widened
def class_distances(features: Float[Tensor, "classes n d"]) -> Float[Tensor, "classes classes"]:
    """`1 - CKA` (linear, biased) of the features of samples of each class, as published.

    Image k of one class is paired with image k of the other, so that the order of the images matters. Save the result
    by `numpy.save` for `method.cost`.

    Args:
        features: [C, n, d], as many samples n of each class, or positions of their maps.
    """
    columns = centred(features, dim=1)
    grams = unit((columns @ columns.mT).flatten(1), dim=1)
    return 1 - grams @ grams.mT


@widened
def moments_losses(
    student_maps: Float[Tensor, "batch c hs ws"],
    teacher_maps: Float[Tensor, "batch c ht wt"],
    *,
    grid: int = 1,
    eps: float = 1e-5,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Squared differences of the means and of the standard deviations of each channel over each cell of a grid.

    Args:
        student_maps: [B, c, h, w].
        teacher_maps: [B, c, h', w'].
        grid: side of the grid; no cell may have a single position.
        eps: added to the (unbiased) variances.

    Returns:
        both summed over the channels, mean over samples and cells.
    """
    ours, theirs = (_moments(maps, grid, eps) for maps in (student_maps, teacher_maps))
    means, deviations = (
        F.mse_loss(x, y, reduction="sum") / (grid**2 * len(x)) for x, y in zip(ours, theirs, strict=True)
    )
    return means, deviations


def _moments(maps: Tensor, grid: int, eps: float) -> tuple[Tensor, Tensor]:
    """Means and standard deviations [g^2, B, c]."""
    cells = [maps[:, :, rows, columns].flatten(2) for rows, columns in _cells(maps.shape[2], maps.shape[3], grid)]
    means = torch.stack([cell.mean(dim=2) for cell in cells])
    return means.transpose(0, 1), torch.stack([(cell.var(dim=2) + eps).sqrt() for cell in cells]).transpose(0, 1)


def _cells(height: int, width: int, grid: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the cells, which overlap where the grid does not divide the map, as of adaptive pooling."""
    sides = [
        [slice(place * size // grid, -(-(place + 1) * size // grid)) for place in range(grid)]
        for size in (height, width)
    ]
    return [(rows, columns) for rows in sides[0] for columns in sides[1]]


class WKDOptions(Section):
    """Options of Wasserstein distillation; the defaults are the authors' for ResNet32x4 to ResNet8x4 on CIFAR-100.

    Attributes:
        ce_weight: weight of the cross entropy.
        target_weight: weight of the target's part.
        transport_weight: weight of the cost of the flow (gamma); 200 with `feature_weight`, on ImageNet 25 to 30.
        temperature: T of the flow; 2 on ImageNet.
        regularisation: of the flow.
        iterations: Sinkhorn's.
        cost: `head`, for 1 - cosine of the rows of the teacher's classifier; or a .npy file of distances [C, C] of the
            student's classes, as from `class_distances`.
        sharpen: see `class_costs`.
        feature_weight: weight of the features' part (WKD-F); 0.08 published, without the other two parts or with them.
        mean_ratio: how much more the means of the features count than their standard deviations.
        grid: side of the grid of cells whose means and standard deviations are compared.
        decay_from: fraction of the training after which the weights of the flow and of the features fall to 0, by half
            a cosine; 0 on ImageNet.
    """

    ce_weight: float = Field(1.0, ge=0)
    target_weight: float = Field(1.0, ge=0)
    transport_weight: float = Field(600.0, ge=0)
    temperature: float = Field(8.0, gt=0)
    regularisation: float = Field(0.05, gt=0)
    iterations: int = Field(10, ge=1)
    cost: str = Field("head", description='"head", or a .npy file of distances')
    sharpen: float = Field(1.0, ge=0)
    feature_weight: float = Field(0.0, ge=0)
    mean_ratio: float = Field(4.0, ge=0)
    grid: int = Field(1, ge=1)
    decay_from: float = Field(0.625, ge=0, le=1)


class WKD(Method):
    """Cost of moving the student's class probabilities onto the teacher's, and difference of last maps if asked for.

    The cost is that of a flow found by Sinkhorn's iterations (WKD-L); the difference is that of the means and the
    standard deviations of the last maps' channels (WKD-F).

    A regressor, of one convolution, batch norm and ReLU, leads from the student's map to the teacher's: it suits
    teachers whose maps are not negative, as those of CNNs that end in a ReLU.
    """

    Options: ClassVar[type[Section]] = WKDOptions
    reference = "Lv, Yang, Li 2024"
    source = "the authors' configuration for CIFAR-100, ResNet32x4 to ResNet8x4, but for method.cost"
    published = "76.53 (CIFAR-100, ResNet32x4 to ResNet8x4, cost by CKA)"
    search = ranges(transport_weight=around_weight(600.0), temperature=LogUniform(2.0, 16.0))
    student_needs: tuple[Need, ...] = ()
    teacher_needs: tuple[Need, ...] = ()
    without_logits: ClassVar[Mapping[str, Any]] = {"target_weight": 0, "transport_weight": 0, "feature_weight": 0.08}
    teacher_stages = (-1,)
    options: WKDOptions
    distances: Tensor

    def __init__(self, options: WKDOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        teacher = needs_teacher("wkd", teacher)
        self.compares_rows = bool(options.transport_weight) and options.cost == "head"
        of_logits: tuple[Need, ...] = ("logits",) if options.target_weight or options.transport_weight else ()
        of_features: tuple[Need, ...] = ("maps",) if options.feature_weight else ()
        self.student_needs = (*of_logits, *of_features)
        self.teacher_needs = (*of_logits, *(("head",) if self.compares_rows else ()), *of_features)
        if self.compares_rows and teacher.n_classes and not teacher.linear:
            raise ModelError(
                f"wkd compares the rows of the teacher's linear classifier, which {teacher.model} does not have; give "
                "the distances of the classes as method.cost=FILE.npy"
            )
        if options.transport_weight and not self.compares_rows:
            self.register_buffer("distances", _read_distances(options.cost, student.n_classes))
        if of_features:
            needs_maps("wkd", student, teacher)
            _check_cells(options.grid, student, teacher)
            self.regressor = Regressor((student.maps[-1][0], 1, 1), (teacher.maps[-1][0], 1, 1))

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """`target`, `transport` and `features`, those whose weights are not 0."""
        assert teacher is not None
        options, left, terms = self.options, _left(progress, self.options.decay_from), {}
        if options.target_weight:
            part = target_part(student.logits, teacher.logits, labels)
            terms["target"] = options.target_weight * part.mean()
        if options.transport_weight:
            transport = transport_loss(
                student.logits,
                teacher.logits,
                labels,
                class_costs(self._distances(teacher), sharpen=options.sharpen),
                temperature=options.temperature,
                regularisation=options.regularisation,
                iterations=options.iterations,
            )
            terms["transport"] = left * options.transport_weight * transport
        if options.feature_weight:
            ours, theirs = self.regressor(student.maps[-1]), teacher.maps[-1]
            means, deviations = moments_losses(ours, theirs, grid=options.grid)
            terms["features"] = left * options.feature_weight * (options.mean_ratio * means + deviations)
        return terms

    def _distances(self, teacher: Features) -> Tensor:
        if not self.compares_rows:
            return self.distances
        assert teacher.head is not None
        weight: Tensor = teacher.head.weight  # type: ignore[assignment]
        return head_distances(weight.detach())


def _left(progress: Progress, start: float) -> Amount:
    """1 until this fraction of the training, then half a cosine down to 0."""
    done = progress.epoch / progress.n_epochs
    return 1.0 if start >= 1 else (1 + cosine(pi * clamped(done - start, low=0.0) / (1 - start))) / 2


def _read_distances(path: str, n_classes: int) -> Tensor:
    """Distances of the classes [C, C] from a .npy file."""
    try:
        found = np.load(Path(path).expanduser(), allow_pickle=False)
    except (OSError, ValueError) as error:
        why = "it holds no array" if isinstance(error, ValueError) else error.strerror
        raise ModelError(
            f"method.cost is 'head' or a .npy file of distances of the classes, but {path} cannot be read as one "
            f"({why})"
        ) from error
    if found.shape != (n_classes, n_classes) or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise ModelError(
            f"{path} must hold finite distances [{n_classes}, {n_classes}] of the student's classes, but holds "
            f"{found.dtype} {list(found.shape)}"
        )
    return torch.from_numpy(found).float()


def _check_cells(grid: int, *networks: Shapes) -> None:
    for shapes in networks:
        _, height, width = shapes.maps[-1]
        sizes = [
            (rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in _cells(height, width, grid)
        ]
        if min(sizes) < 2:
            raise ModelError(
                f"wkd needs standard deviations over at least 2 positions, but method.grid={grid} leaves a single one "
                f"of the last map of {shapes.model}, {height} x {width}"
            )
