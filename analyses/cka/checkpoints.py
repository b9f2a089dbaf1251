"""CKA of two checkpoints on the test images of a data set."""

from typing import Any

import torch

from analyses.cka.networks import cka
from analyses.cka.result import CKAResult
from kdprobe.features.shared_images import Views


def views_cka(
    views: Views,
    *,
    batch_size: int | None = None,
    passes: int = 1,
    part: tuple[int, int] = (0, 1),
    device: str | torch.device = "cpu",
    quiet: bool = True,
    **options: Any,
) -> CKAResult:
    """CKA of a teacher and a student, each on the same images in its own input size.

    Args:
        views: with the roles `teacher` and `student`.
        batch_size: samples compared at a time; 64 if not given.
        passes: over the images, each further one in another random order; see `cka` for what they are good for.
        part: which of how many processes this is.
        device: where to compute.
        quiet: no progress on standard error.
        options: as `analyses.cka.networks.cka` takes them.

    Raises:
        AnalysisError: if there are fewer than 4 images, or a feature is not finite.
        CaptureError: for an unknown layer.
    """
    size = batch_size or 64
    loaders = views.loaders(
        batch_size=size, passes=passes, shard=part, device=device, label="cka", quiet=quiet or part[0] > 0
    )
    return cka(
        views.models["teacher"],
        views.models["student"],
        loaders["teacher"],
        student_loader=None if views.shared else loaders["student"],
        device=device,
        pass_length=-(-views.n_samples // size) if passes > 1 else None,
        part=part,
        data=views.data,
        **options,
    )
