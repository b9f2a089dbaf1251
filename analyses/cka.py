"""Centred kernel alignment (CKA) of two networks, layer by layer, over minibatches.

The score of a pair of layers is the mean over minibatches of their unbiased HSIC, divided by the
root of the product of the means of each layer's HSIC with itself. Each layer's Gram matrix is made
inside the forward pass; a minibatch then costs one matrix product for all pairs of layers.

Reference: Nguyen, Raghu, Kornblith (2021), Do wide and deep networks learn the same things?, equation 4.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from analyses.cka_result import Array, CKAResult
from analyses.hsic import MIN_SAMPLES, centred_gram, comparable
from analyses.intervals import ratio_intervals
from kdprobe.capture import Capture, capture
from kdprobe.data import Batch
from kdprobe.errors import AnalysisError, CaptureError
from kdprobe.models.create import describe, unwrap
from kdprobe.results import provenance

__all__ = ["CKAResult", "HSICSums", "cka", "minibatch_cka"]

Grams = dict[str, Tensor]


def minibatch_cka(x: Float[Tensor, "k n dx"], y: Float[Tensor, "l m dy"]) -> float:
    """CKA of two feature sets over k minibatches, with the unbiased estimator.

    Args:
        x: features of k minibatches of n samples; n is at least 4.
        y: features of the same samples.

    Returns:
        near 0 for independent features, 1 for features equal up to rotation, scale and shift;
        an unbiased numerator can make it slightly negative.

    Raises:
        AnalysisError: for other shapes, fewer than 4 samples, or features that do not vary.
    """
    if x.shape[:2] != y.shape[:2]:
        raise AnalysisError(f"both need the same minibatches and samples, but got {list(x.shape)} and {list(y.shape)}")
    sums = HSICSums()
    for one, other in zip(x, y, strict=True):
        sums.add({"x": centred_gram(one)}, {"y": centred_gram(other)})
    result = sums.result()
    if result.undefined:
        raise AnalysisError(f"CKA is undefined: {result.undefined[0]['reason']}")
    return float(result.matrix[0, 0])


def cka(
    teacher: nn.Module,
    student: nn.Module,
    loader: Iterable[Any],
    *,
    teacher_layers: str | Sequence[str] = "stages",
    student_layers: str | Sequence[str] = "stages",
    device: str | torch.device = "cpu",
    student_loader: Iterable[Any] | None = None,
    reduce: str | Callable[[Tensor], Tensor] = "flatten",
    kernel: str = "linear",
    estimator: str = "unbiased",
    confidence: float = 0.95,
    data: str = "",
) -> CKAResult:
    """CKA of chosen layers of two networks on the same images.

    Both networks see each minibatch in turn, so that a loader may shuffle. Images of a kdprobe `Batch` are
    normalised for each network; those of other loaders (tensors, or tuples that begin with one) are
    taken as they are.

    Args:
        teacher: gives the rows.
        student: gives the columns.
        loader: minibatches of images; those with fewer than 4 are left out and counted.
        teacher_layers: names, globs, `stages`, `leaves`, `all`, as `kdprobe.capture` takes them.
        student_layers: the same for the student.
        device: both networks are moved there.
        student_loader: the same images in the size that the student takes, in the same order.
        reduce: what of a layer's output is compared: `flatten`, `gap`, `cls`, `mean`, `tokens` or a function.
        kernel: `linear`, or `rbf` with the median distance of each minibatch as its width.
        estimator: of HSIC, `unbiased` or `biased`.
        confidence: of the bootstrap intervals, over minibatches.
        data: what the loader shows, for the record.

    Returns:
        matrix, intervals and their origin.

    Raises:
        AnalysisError: if no minibatch has 4 samples, a feature is not finite, or the loaders differ.
        CaptureError: for an unknown layer.
    """
    sums = HSICSums(kernel, estimator)
    taken = "gram" if reduce == "flatten" else reduce  # made inside the hook where nothing else is left out
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        one = stack.enter_context(capture(teacher.to(device), teacher_layers, reduce=taken))
        other = stack.enter_context(capture(student.to(device), student_layers, reduce=taken))
        for left, right in _pairs(loader, student_loader):
            if sums.accepts(len(_images(left))):
                for model, batch in ((teacher, left), (student, right)):
                    _show(model, batch, device, minibatch=len(sums.sizes))
                sums.add(*(_grams(features, made=taken == "gram") for features in (one, other)))
    facts = {
        "teacher": _name(teacher),
        "student": _name(student),
        "data": data,
        "reduce": reduce if isinstance(reduce, str) else getattr(reduce, "__name__", "a function"),
    }
    origin = provenance(teacher=_origin(teacher), student=_origin(student), data=data)
    return sums.result(confidence=confidence, facts=facts, provenance=origin)


@dataclass
class HSICSums:
    """HSIC of all pairs of layers, minibatch by minibatch.

    Attributes:
        kernel: `linear` or `rbf`.
        estimator: `unbiased` or `biased`.
        sizes: samples of each minibatch added.
        n_left_out: samples in minibatches too small to be added.
    """

    kernel: str = "linear"
    estimator: str = "unbiased"
    sizes: list[int] = field(default_factory=list)
    n_left_out: int = 0
    teacher_layers: list[str] = field(default_factory=list)
    student_layers: list[str] = field(default_factory=list)
    _xy: list[Array] = field(default_factory=list)
    _xx: list[Array] = field(default_factory=list)
    _yy: list[Array] = field(default_factory=list)

    def accepts(self, n: int) -> bool:
        """Whether n samples are enough for a minibatch; if not they are counted as left out."""
        if n < MIN_SAMPLES:
            self.n_left_out += n
        return n >= MIN_SAMPLES

    def add(self, teacher: Grams, student: Grams) -> None:
        """Add one minibatch.

        Args:
            teacher: Gram matrix [n, n] of each layer.
            student: the same samples' Gram matrices of the student's layers.

        Raises:
            AnalysisError: for fewer than 4 samples, or other layers than in the minibatch before.
        """
        self._expect(list(teacher), list(student))
        rows = self._comparable(teacher)  # [Lt, n*n]
        columns = self._comparable(student)  # [Ls, n*n]
        self.sizes.append(len(next(iter(teacher.values()))))
        self._xy.append((rows @ columns.T).cpu().numpy())
        self._xx.append((rows * rows).sum(1).cpu().numpy())
        self._yy.append((columns * columns).sum(1).cpu().numpy())

    def result(
        self, *, confidence: float = 0.95, facts: dict[str, Any] | None = None, provenance: dict[str, Any] | None = None
    ) -> CKAResult:
        """Matrix and intervals of what was added, with further facts and their origin.

        Raises:
            AnalysisError: if nothing was added.
        """
        if not self.sizes:
            raise AnalysisError(
                f"CKA needs a minibatch of at least {MIN_SAMPLES} samples, but there were {self.n_left_out} samples"
            )
        xy, xx, yy = np.stack(self._xy), np.stack(self._xx), np.stack(self._yy)
        mean_xx, mean_yy = xx.mean(0), yy.mean(0)
        undefined = self._undefined(mean_xx, mean_yy)
        product = np.outer(mean_xx, mean_yy)
        defined = product > 0
        matrix = np.where(defined, xy.mean(0), np.nan) / np.sqrt(np.where(defined, product, 1.0))
        low, high = ratio_intervals(xy, xx, yy, confidence=confidence)
        known = {
            "n_samples": sum(self.sizes),
            "batch_size": max(self.sizes),
            "n_minibatches": len(self.sizes),
            "n_left_out": self.n_left_out,
            "kernel": self.kernel,
            "estimator": self.estimator,
            "confidence": confidence,
        }
        return CKAResult(
            *(matrix, low, high, self.teacher_layers, self.student_layers, undefined, xy, xx, yy),
            facts={**known, **(facts or {})},
            provenance=provenance or {},
        )

    def _expect(self, teacher: list[str], student: list[str]) -> None:
        if not self.sizes:
            self.teacher_layers, self.student_layers = teacher, student
        elif (teacher, student) != (self.teacher_layers, self.student_layers):
            raise AnalysisError(f"minibatch {len(self.sizes)} has other layers than those before it")

    def _comparable(self, grams: Grams) -> Tensor:
        return torch.stack([comparable(gram, self.kernel, self.estimator).flatten() for gram in grams.values()])

    def _undefined(self, mean_xx: Array, mean_yy: Array) -> list[dict[str, str]]:
        teacher, student = self.teacher_layers, self.student_layers
        rows = {name: f"teacher layer {name!r}" for name, value in zip(teacher, mean_xx, strict=True) if value <= 0}
        columns = {name: f"student layer {name!r}" for name, value in zip(student, mean_yy, strict=True) if value <= 0}
        return [
            {
                "teacher_layer": row,
                "student_layer": column,
                "reason": f"{rows.get(row) or columns[column]} is the same for all samples: its HSIC with itself is 0",
            }
            for row in teacher
            for column in student
            if row in rows or column in columns
        ]


def _pairs(loader: Iterable[Any], student_loader: Iterable[Any] | None) -> Iterator[tuple[Any, Any]]:
    if student_loader is None:
        yield from ((batch, batch) for batch in loader)
        return
    for one in (loader, student_loader):
        if isinstance(one, DataLoader) and isinstance(one.sampler, RandomSampler):
            raise AnalysisError(
                "two loaders that shuffle show different images; give both a fixed order, or one loader"
            )
    for number, (left, right) in enumerate(zip_longest(loader, student_loader)):
        if left is None or right is None or not _same_samples(left, right):
            raise AnalysisError(f"minibatch {number} holds other images for the student than for the teacher")
        yield left, right


def _same_samples(left: Any, right: Any) -> bool:
    if isinstance(left, Batch) and isinstance(right, Batch):
        return torch.equal(left.index.cpu(), right.index.cpu())
    return len(_images(left)) == len(_images(right))


def _show(model: nn.Module, batch: Any, device: str | torch.device, *, minibatch: int) -> None:
    images = _images(batch).to(device)
    try:
        model(describe(model).normalise(images) if isinstance(batch, Batch) else images)
    except (AnalysisError, CaptureError) as error:
        raise type(error)(f"minibatch {minibatch} of {_name(model)}: {error}") from error


def _grams(features: Capture, *, made: bool) -> Grams:
    return {layer: feature if made else centred_gram(feature) for layer, feature in features.items()}


def _images(batch: Any) -> Tensor:
    images = batch.images if isinstance(batch, Batch) else batch
    images = images[0] if isinstance(images, tuple | list) else images
    if not isinstance(images, Tensor):
        raise AnalysisError(f"a minibatch must be a tensor or begin with one, but is {type(batch).__name__}")
    return images


def _name(model: nn.Module) -> str:
    info = getattr(unwrap(model), "kdprobe_info", None)
    return info.name if info else type(unwrap(model)).__name__


def _origin(model: nn.Module) -> dict[str, Any]:
    info = getattr(unwrap(model), "kdprobe_info", None)
    return {**info.to_json(), "sha256": info.sha256} if info else {"name": _name(model)}
