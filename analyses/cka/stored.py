"""CKA from feature files instead of networks."""

from collections.abc import Sequence
from pathlib import Path

import torch

from analyses.cka.minibatch_classes import warn_of_few_classes
from analyses.cka.result import CKAResult
from analyses.cka.sums import Grams, HSICSums
from analyses.knowledge.groups import SampleGroups
from analyses.similarity.null import enough_permutations
from analyses.stored_pair import StoredNetwork, open_pair
from kdprobe.devices import exact_float32
from kdprobe.features.gram import centred_gram
from kdprobe.features.shared_images import located
from kdprobe.mean_interval import check_confidence
from kdprobe.provenance import provenance


@exact_float32
def files_cka(
    paths: str | Path | Sequence[str | Path],
    *,
    teacher_layers: str | Sequence[str] = "all",
    student_layers: str | Sequence[str] = "all",
    batch_size: int | None = None,
    kernel: str = "linear",
    estimator: str = "unbiased",
    confidence: float = 0.95,
    permutations: int = 0,
    calibrate: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> CKAResult:
    """CKA of stored layers; no more than one minibatch of one layer is held in memory as features.

    Samples of one index in a minibatch, such as several views of one image, are not independent: they count as one
    image, with the mean of their features.

    Args:
        paths: one feature file that holds both networks, or the teacher's and the student's.
        teacher_layers: stored names, globs, `stages` or `all`.
        student_layers: the same for the student.
        batch_size: samples compared at a time; that of the dumps if not given.
        kernel: `linear` or `rbf`.
        estimator: `unbiased` or `biased`.
        confidence: of the intervals.
        permutations: for p values of no similarity; 0 for none.
        calibrate: whether each value is set beside its null, from 200 permutations if not given.
        shard: which of how many processes this is.

    Raises:
        StoreError: if the files do not fit together, or are damaged.
        AnalysisError: if no minibatch has 4 samples, or a stored feature is not finite.

    Example:
        >>> from analyses.cka import files_cka
        >>> from pathlib import Path
        >>> import torch
        >>> from kdprobe.features import Dump, write_dump
        >>> from kdprobe.models import create
        >>> model, loader = create("resnet8", n_classes=10, image_size=16), [torch.rand(8, 3, 16, 16) for _ in range(4)]
        >>> _ = write_dump(Dump.over({"teacher": model, "student": model}, loader, reduce="gap"), "features.h5")
        >>> files_cka([Path("features.h5")]).matrix.diagonal().round(4)
        array([1., 1., 1., 1.])
    """
    check_confidence(confidence)
    n_permutations = enough_permutations(permutations, calibrated=calibrate, alpha=round(1 - confidence, 12))
    sums = HSICSums(kernel, estimator, n_permutations)
    files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    with open_pair(files, grams=True) as pair:
        rows, columns = pair.teacher.layers(teacher_layers), pair.student.layers(student_layers)
        size, n, index = batch_size or pair.store.batch_size, pair.store.n_samples, pair.store.index
        for number in range(shard[0], -(-n // size), shard[1]):
            start = number * size
            images = SampleGroups.of(index[start : start + size], min(size, n - start))
            if sums.accepts(images.count):
                teacher, student = (
                    _grams(side, layers, start, size, images)
                    for side, layers in ((pair.teacher, rows), (pair.student, columns))
                )
                sums.add(teacher, student, number=number)
        warn_of_few_classes(torch.split(pair.store.labels, size), stacklevel=3)
        held = dict.fromkeys(side.store.reduce.replace("whole", "flatten") for side in pair.sides.values())
        facts, origin = pair.facts() | {"reduce": " and ".join(held)}, provenance(**pair.origin())
    if shard[1] > 1:
        sums.gather()
    return sums.result(confidence=confidence, calibrated=calibrate, facts=facts, provenance=origin)


def _grams(side: StoredNetwork, layers: Sequence[str], start: int, size: int, images: SampleGroups) -> Grams:
    found = {}
    for layer in layers:
        values = side.minibatch(layer, start, size)
        with located(f"samples from {start} on of the {side.role}, layer {layer!r}"):
            gram = values if side.store.content == "grams" else centred_gram(values)
            found[layer] = gram if images.single else images.means(images.means(gram).mT)
    return found
