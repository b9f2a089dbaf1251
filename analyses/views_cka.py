"""CKA of two checkpoints on the test images of a data set."""

from typing import Any

import torch

from analyses.cka import cka
from analyses.cka_result import CKAResult
from kdprobe.views import Views


def views_cka(
    views: Views,
    *,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    quiet: bool = True,
    **options: Any,
) -> CKAResult:
    """CKA of a teacher and a student, each on the same images in its own input size.

    Args:
        views: with the roles `teacher` and `student`.
        batch_size: samples compared at a time; 64 if not given.
        device: where to compute.
        quiet: no progress on standard error.
        options: as `analyses.cka.cka` takes them.

    Raises:
        AnalysisError: if there are fewer than 4 images, or a feature is not finite.
        CaptureError: for an unknown layer.
    """
    loaders = views.loaders(batch_size=batch_size or 64, device=device, label="cka", quiet=quiet)
    return cka(
        views.models["teacher"],
        views.models["student"],
        loaders["teacher"],
        student_loader=None if views.shared else loaders["student"],
        device=device,
        data=views.data,
        **options,
    )
