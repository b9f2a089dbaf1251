"""Centred kernel alignment (CKA) of two networks, layer by layer, over minibatches.

The score of a pair of layers is the mean over minibatches of their unbiased HSIC, divided by the
root of the product of the means of each layer's HSIC with itself; a minibatch counts by its number of
samples. Each layer's Gram matrix is made inside the forward pass; a minibatch then costs one matrix
product for all pairs of layers.

Reference: Nguyen, Raghu, Kornblith (2021), Do wide and deep networks learn the same things?, equation 4.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from analyses.cka.minibatches import Forward, Minibatches, as_minibatches, as_tensor, feed, n_samples
from analyses.cka.result import CKAResult
from analyses.cka.sums import Grams, HSICSums
from kdprobe.data import Batch
from kdprobe.devices import pick_device
from kdprobe.errors import AnalysisError, CaptureError, Undefined
from kdprobe.features.capturing import Capture, capture
from kdprobe.features.hsic import centred_gram
from kdprobe.models.creation import unwrap
from kdprobe.results import provenance

__all__ = ["CKAResult", "HSICSums", "cka", "minibatch_cka"]


def minibatch_cka(x: Float[Tensor, "k n dx"], y: Float[Tensor, "l m dy"]) -> float:
    """CKA of two feature sets over k minibatches, with the unbiased estimator.

    Args:
        x: features of k minibatches of n samples; n is at least 4.
        y: features of the same samples.

    Returns:
        near 0 for independent features, 1 for features equal up to rotation, scale and shift;
        an unbiased numerator can make it slightly negative.

    Raises:
        AnalysisError: for other shapes or fewer than 4 samples.
        Undefined: for features that do not vary by more than rounding.
    """
    x, y = as_tensor(x, name="x", least=3), as_tensor(y, name="y", least=3)
    if x.shape[:2] != y.shape[:2]:
        raise AnalysisError(f"both need the same minibatches and samples, but got {list(x.shape)} and {list(y.shape)}")
    sums = HSICSums()
    for one, other in zip(_near_one(x), _near_one(y), strict=True):
        sums.add({"x": centred_gram(one)}, {"y": centred_gram(other)})
    result = sums.result()
    if result.undefined:
        raise Undefined(f"CKA is undefined: {result.undefined[0]['reason']}")
    return float(result.matrix[0, 0])


def _near_one(features: Tensor) -> Tensor:
    """The same features, times a power of 2 where their products would leave float64."""
    largest = float(features.abs().amax()) if features.numel() else 0.0
    if not math.isfinite(largest) or largest == 0 or 1e-60 < largest < 1e60:
        return features
    return torch.ldexp(features.double(), torch.tensor(-math.frexp(largest)[1], dtype=torch.float64))


def cka(
    teacher: nn.Module,
    student: nn.Module,
    loader: Minibatches,
    *,
    teacher_layers: str | Sequence[str] = "stages",
    student_layers: str | Sequence[str] = "stages",
    device: str | torch.device = "cpu",
    student_loader: Minibatches | None = None,
    reduce: str | Callable[[Tensor], Tensor] = "flatten",
    kernel: str = "linear",
    estimator: str = "unbiased",
    confidence: float = 0.95,
    permutations: int = 0,
    until: float | None = None,
    pass_length: int | None = None,
    part: tuple[int, int] = (0, 1),
    forward: Forward | None = None,
    data: str = "",
) -> CKAResult:
    """CKA of chosen layers of two networks on the same images.

    Both networks see each minibatch in turn, so that a loader may shuffle. Images of a kdprobe `Batch` are
    normalised for each network; those of other loaders (tensors, tuples that begin with one, or mappings with one
    under a usual name) are taken as they are, those of uint8 as 0 to 1.

    Args:
        teacher: gives the rows.
        student: gives the columns.
        loader: minibatches of images; those with fewer than 4 are left out and counted. The samples of a Dataset
            become minibatches of 64.
        teacher_layers: names, globs, `stages`, `leaves`, `all`, as `kdprobe.capture` takes them.
        student_layers: the same for the student.
        device: both networks are moved there; `auto`: the first CUDA device where there is one, else the CPU.
        student_loader: the same images in the size that the student takes, in the same order.
        reduce: what of a layer's output is compared: `flatten`, `gap`, `cls`, `mean`, `tokens` or a function.
        kernel: `linear`, or `rbf` with the median distance of each minibatch as its width.
        estimator: of HSIC, `unbiased` or `biased`.
        confidence: of the bootstrap intervals, over minibatches.
        permutations: for p values of no similarity: the student's samples are permuted so many times.
        until: stop as soon as every interval is at most so wide.
        pass_length: minibatches of one pass, of a loader that shows the samples several times, each time in other
            minibatches. Further passes take noise from the value; intervals keep the width of the first pass, whose
            p values and number of samples the result has.
        part: which of how many processes this is: the loaders give minibatches part, part + parts, ... and
            the result, the same in all processes, is that of all of them.
        forward: `forward(model, batch)` runs a network on a minibatch of another form.
        data: what the loader shows, for the record.

    Returns:
        matrix, intervals and their origin.

    Raises:
        AnalysisError: if no minibatch has 4 samples, a feature is not finite, the loaders differ, or one gives no
            minibatches.
        CaptureError: for an unknown layer.
        DeviceError: for a device that is not there.
    """
    place = pick_device(device)
    sums = HSICSums(kernel, estimator, permutations=permutations, pass_length=pass_length)
    taken = "gram" if reduce == "flatten" else reduce  # made inside the hook where nothing else is left out
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        one = stack.enter_context(capture(teacher.to(place), teacher_layers, reduce=taken))
        other = stack.enter_context(capture(student.to(place), student_layers, reduce=taken))
        for count, (left, right) in enumerate(_pairs(loader, student_loader, forward)):
            number = part[0] + count * part[1]
            samples = n_samples(left, forward)
            if samples is None or sums.accepts(samples, number=number):
                for model, batch in ((teacher, left), (student, right)):
                    show(model, batch, place, minibatch=number, forward=forward)
                sums.add(*(_grams(features, made=taken == "gram") for features in (one, other)), number=number)
            if until is not None and sums.narrow(until, confidence):
                break
    if part[1] > 1:
        sums.gather()
    facts = {
        "teacher": _name(teacher),
        "student": _name(student),
        "data": data,
        "until": until,
        "reduce": reduce if isinstance(reduce, str) else getattr(reduce, "__name__", "a function"),
    }
    origin = provenance(teacher=_origin(teacher), student=_origin(student), data=data)
    return sums.result(confidence=confidence, facts=facts, provenance=origin)


def _pairs(
    loader: Minibatches, student_loader: Minibatches | None, forward: Forward | None
) -> Iterator[tuple[Any, Any]]:
    if student_loader is None:
        yield from ((batch, batch) for batch in as_minibatches(loader))
        return
    left_loader, right_loader = as_minibatches(loader), as_minibatches(student_loader, name="student_loader")
    for one in (left_loader, right_loader):
        if isinstance(one, DataLoader) and isinstance(one.sampler, RandomSampler):
            raise AnalysisError(
                "two loaders that shuffle show different images; give both a fixed order, or one loader"
            )
    for number, (left, right) in enumerate(zip_longest(left_loader, right_loader)):
        if left is None or right is None or not _same_samples(left, right, forward):
            raise AnalysisError(f"minibatch {number} holds other images for the student than for the teacher")
        yield left, right


def _same_samples(left: Any, right: Any, forward: Forward | None) -> bool:
    if isinstance(left, Batch) and isinstance(right, Batch):
        return torch.equal(left.index.cpu(), right.index.cpu())
    return n_samples(left, forward) == n_samples(right, forward)


def show(model: nn.Module, batch: Any, device: torch.device, *, minibatch: int, forward: Forward | None = None) -> None:
    """Run a network on a minibatch; an error in a captured feature names both."""
    try:
        feed(model, batch, device, forward)
    except (AnalysisError, CaptureError) as error:
        raise type(error)(f"minibatch {minibatch} of {_name(model)}: {error}") from error


def _grams(features: Capture, *, made: bool) -> Grams:
    return {layer: feature if made else centred_gram(feature) for layer, feature in features.items()}


def _name(model: nn.Module) -> str:
    info = getattr(unwrap(model), "kdprobe_info", None)
    return info.name if info else type(unwrap(model)).__name__


def _origin(model: nn.Module) -> dict[str, Any]:
    info = getattr(unwrap(model), "kdprobe_info", None)
    return info.origin() if info else {"name": _name(model)}
