"""Centred kernel alignment (CKA) of two networks, layer by layer, over minibatches.

The score of a pair of layers is the mean over minibatches of their unbiased HSIC, divided by the
root of the product of the means of each layer's HSIC with itself; minibatches are weighted by their number of
samples. Each layer's Gram matrix is made inside the forward pass; a minibatch then costs one matrix
product for all pairs of layers, and one wait for the device.

Reference: Nguyen, Raghu, Kornblith (2021), Do wide and deep networks learn the same things?, equation 4.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count, tee
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analyses.arrays import as_tensor, fetched, takes_arrays
from analyses.cka.minibatch_classes import classes_of, warn_of_few_classes
from analyses.cka.result import CKAResult
from analyses.cka.sums import HSICSums
from analyses.similarity.null import enough_permutations
from kdprobe.devices import exact_float32, pick_device
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.gram import centred_gram
from kdprobe.features.gram_capture import GramCapture, LayerGrams
from kdprobe.features.minibatches import SIZE, Forward, Minibatches, moved
from kdprobe.features.numbered import counted_samples, paired_minibatches
from kdprobe.features.shared_images import Views, located
from kdprobe.mean_interval import check_confidence
from kdprobe.models.identity import network_name, network_origin
from kdprobe.provenance import provenance


@exact_float32
@takes_arrays
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

    Example:
        >>> import torch
        >>> from analyses.cka import minibatch_cka
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(20, 64, 8, generator=generator)  # 20 minibatches of 64 samples
        >>> round(minibatch_cka(x, 3 * x + 100), 4)
        1.0
        >>> abs(minibatch_cka(x, torch.randn(20, 64, 8, generator=generator))) < 0.02
        True
    """
    x, y = as_tensor(x, name="x", least=3), as_tensor(y, name="y", least=3)
    if x.shape[:2] != y.shape[:2]:
        raise AnalysisError(
            f"x and y need the same minibatches and samples, but have the shapes {list(x.shape)} and {list(y.shape)}"
        )
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


def check_networks(**networks: object) -> None:
    """Refuse what is no network, such as a loader in the place of one.

    Raises:
        AnalysisError: naming the argument.
    """
    for who, network in networks.items():
        if not isinstance(network, nn.Module):
            raise AnalysisError(
                f"the {who} must be a torch.nn.Module, but is of type {type(network).__name__}; the order is teacher, "
                "student, loader"
            )


@exact_float32
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
    calibrate: bool = False,
    shard: tuple[int, int] = (0, 1),
    forward: Forward | None = None,
    data: str = "a loader",
) -> CKAResult:
    """CKA of chosen layers of two networks on the same images.

    Both networks see each minibatch in turn, so a loader may shuffle. Images of a kdprobe `Batch` are
    normalised for each network; those of other loaders (tensors, tuples that begin with one, or mappings with one
    under a usual name) are taken as they are, apart from uint8 images, which are scaled to 0 to 1. Of a mapping, such
    as transformers' processors give, each network gets the tensors that its `forward` names.

    Args:
        teacher: gives the rows.
        student: gives the columns.
        loader: minibatches of images, in random order; those of fewer than 4 images are left out and counted. The
            samples of a Dataset become minibatches of 64, in one random order.
        teacher_layers: names, globs, `stages`, `leaves`, `all`, as `kdprobe.capture` takes them.
        student_layers: the same for the student.
        device: both networks are moved there; `auto`: the first CUDA device where there is one, else the CPU.
        student_loader: the same images in the size that the student takes, in the same order.
        reduce: what of a layer's output is compared: `flatten`, `gap`, `cls`, `mean`, `tokens` or a function.
        kernel: `linear`, or `rbf` with the median distance of each minibatch as its width.
        estimator: of HSIC, `unbiased` or `biased`.
        confidence: of the intervals, over minibatches.
        permutations: number of random orders of the student's samples, for p values of no similarity; 0 for none.
        calibrate: whether each value is set beside its null, from 200 permutations if not given.
        shard: which of how many processes this is, (r, k): the loaders give minibatches r, r + k, ... and
            the result, the same in all processes, is that of all of them.
        forward: `forward(model, batch)` runs a network, or a part of it, on a minibatch of any form.
        data: what the loader shows, for the record.

    Returns:
        matrix, intervals and their origin.

    Raises:
        AnalysisError: if teacher or student is no network, no minibatch has 4 samples, there are too few permutations
            to calibrate, a feature is not finite, the loaders show different images, or one gives no minibatches.
        CaptureError: for an unknown layer.
        DeviceError: for a device that is not there.

    Example:
        >>> import torch
        >>> from analyses.cka import cka
        >>> from kdprobe.models import create
        >>> _ = torch.manual_seed(0)
        >>> teacher, student = (create(name, n_classes=10, image_size=16) for name in ("resnet14", "resnet8"))
        >>> result = cka(teacher, student, [torch.rand(8, 3, 16, 16) for _ in range(4)], reduce="gap")
        >>> result.matrix.shape, result.teacher_layers, result.student_layers
        ((4, 4), ['act1', 'layer1', 'layer2', 'layer3'], ['act1', 'layer1', 'layer2', 'layer3'])
    """
    check_networks(teacher=teacher, student=student)
    check_confidence(confidence)
    place = pick_device(device)
    n_permutations = enough_permutations(permutations, calibrated=calibrate, alpha=round(1 - confidence, 12))
    sums, classes = HSICSums(kernel, estimator, n_permutations), list[Tensor]()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        one = stack.enter_context(GramCapture(teacher.to(place), teacher_layers, reduce=reduce, forward=forward))
        other = stack.enter_context(GramCapture(student.to(place), student_layers, reduce=reduce, forward=forward))
        pairs = paired_minibatches(loader, student_loader, forward)
        for number, (left, right) in zip(count(*shard), pairs, strict=False):
            n_samples = counted_samples(left, forward)
            if (labels := classes_of(left, n_samples)) is not None:
                classes.append(labels)
            if sums.accepts(n_samples):
                shown = ((one, teacher, moved(left, place)), (other, student, moved(right, place)))
                while not _added(sums, number, n_samples, shown):  # once, unless layers have changed
                    pass
    warn_of_few_classes(classes, stacklevel=3)
    if shard[1] > 1:
        sums.gather()
    facts = {
        "teacher": network_name(teacher),
        "student": network_name(student),
        "data": data,
        "reduce": reduce if isinstance(reduce, str) else getattr(reduce, "__name__", "a function"),
    }
    origin = provenance(teacher=network_origin(teacher), student=network_origin(student), data=data)
    return sums.result(confidence=confidence, calibrated=calibrate, facts=facts, provenance=origin)


def views_cka(
    views: Views,
    *,
    batch_size: int | None = None,
    shard: tuple[int, int] = (0, 1),
    device: str | torch.device = "cpu",
    quiet: bool = True,
    **options: Any,
) -> CKAResult:
    """CKA of a teacher and a student on the same test images, each in its own input size.

    Args:
        views: with the roles `teacher` and `student`.
        batch_size: samples compared at a time; 64 if not given.
        shard: which of how many processes this is.
        device: where to compute.
        quiet: no progress on standard error.
        options: as `cka` takes them.

    Raises:
        AnalysisError: if there are fewer than 4 images, or a feature is not finite.
        CaptureError: for an unknown layer.

    Example:
        >>> from analyses.cka import views_cka
        >>> from kdprobe.features.shared_images import open_views
        >>> views_cka(open_views({"teacher": "runs/vit", "student": "runs/resnet8"}))  # doctest: +SKIP
    """
    seen = views.minibatches(batch_size=batch_size or SIZE, shard=shard, device=device, label="cka", quiet=quiet)
    rows, columns = (seen, None) if views.shared else tee(seen)
    return cka(
        views.models["teacher"],
        views.models["student"],
        (batches["teacher"] for batches in rows),
        student_loader=columns and (batches["student"] for batches in columns),
        device=device,
        shard=shard,
        data=views.data,
        **options,
    )


def _check_rows(made: LayerGrams, n_samples: int) -> None:
    """Refuse features of other rows than samples, which nothing else sees where a minibatch holds no tensors."""
    if made.layers and made.grams.shape[-1] != n_samples:
        raise AnalysisError(
            f"layers give {made.grams.shape[-1]} rows for {n_samples} samples, not one row per sample; choose others, "
            "or give minibatches of tensors"
        )


def _added(sums: HSICSums, number: int, n_samples: int, shown: Sequence[tuple[GramCapture, nn.Module, Any]]) -> bool:
    """Show a minibatch to both networks and add it, unless it has to be shown again; this waits for the device once."""
    made = []
    for taken, model, batch in shown:
        with located(f"minibatch {number} of {network_name(model)}"):
            made.append(taken.pending(batch))
            _check_rows(made[-1], n_samples)
    terms = sums.terms(*made)
    *numbers, first, second = fetched(*terms.values, *(one.right for one in made))
    accepted = [taken.accepts(right > 0) for (taken, *_), right in zip(shown, (first, second), strict=True)]
    if all(accepted):
        sums.add_terms(terms, numbers, number=number)
    return all(accepted)
