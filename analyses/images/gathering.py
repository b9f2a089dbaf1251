"""What networks make of each test image: answers, margins, places; and thumbnails of some images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from analyses.evaluation.predictions import Opened, answer_order, in_order, open_networks
from analyses.images.projecting import PlaneMethod, facing, project
from analyses.knowledge.examples import pixels
from kdprobe.data import Split
from kdprobe.data.dataset import Pictures
from kdprobe.devices import exact_float32
from kdprobe.errors import AnalysisError
from kdprobe.features.shared_images import shown_batches
from kdprobe.models import Stages
from kdprobe.models.stages import Need
from kdprobe.provenance import provenance
from kdprobe.results import Result

_AT_ONCE = 256  # images that are decoded in their full size


@exact_float32
def images_result(
    teacher: str | Path,
    students: Sequence[str | Path],
    spec: str | None = None,
    *,
    thumbnails: int = 2000,
    side: int = 64,
    projection: PlaneMethod = "pca",
    seed: int = 0,
    quiet: bool = True,
    **options: Any,
) -> Result:
    """Show the test images to a teacher and its students, and keep what each makes of every image.

    Args:
        teacher: whatever `kdprobe.load` takes.
        students: at least one.
        spec: the data set; the one that the teacher names, if not given.
        thumbnails: of how many images there are small pictures, at most; those are drawn at random.
        side: of the pictures in pixels, at most.
        projection: how pooled features become places, as `project` takes it.
        seed: of the draw, and of UMAP.
        quiet: no progress on stderr.
        options: `device`, `trust`, `told` and `view`, as `predictions.open_networks` takes them.

    Returns:
        a result of kind "images" for m networks (the teacher first) and n images: `thumbnails` [k, h, w, 3] uint8 of
        the images `shown` [k]; `targets` [n]; `predictions`, `confidences` and `margins` [m, n] (probability of the
        true class minus the largest of another one); `coordinates` [m, n, 2] and `shares` [m, 2] of the variance.

    Raises:
        AnalysisError: if a network's answers or features are not known or not finite.
        DataError: if the data set has no labels.

    Example:
        >>> from pathlib import Path
        >>> from analyses.images import images_result
        >>> from kdprobe.models import create, save
        >>> for name in ("teacher", "student"):
        ...     save(create("resnet8", n_classes=10, image_size=8), Path(f"{name}.safetensors"))
        >>> result = images_result("teacher.safetensors", ["student.safetensors"], "digits", thumbnails=3)
        >>> result.arrays["predictions"].shape, result.arrays["thumbnails"].shape
        ((2, 359), (3, 8, 8, 3))
    """
    found = [
        (one, *_seen(one, quiet=quiet)) for one in open_networks([teacher, *students], spec, quiet=quiet, **options)
    ]
    networks, logits, pooled = zip(*found, strict=True)
    data = networks[0].data
    targets = data.test.labels
    shown = _drawn(len(targets), thumbnails, seed)
    places = [project(features.numpy(), method=projection, seed=seed) for features in pooled]
    arrays = {
        "thumbnails": _thumbnails(data.test, shown, side),
        "shown": shown,
        "targets": targets.numpy(),
        "predictions": np.stack([one.argmax(1).numpy() for one in logits]),
        **_certainty(logits, targets),
        "coordinates": np.stack([places[0][0], *(facing(one, places[0][0]) for one, _ in places[1:])]),
        "shares": np.stack([shares for _, shares in places]),
    }
    images = data.test.images
    facts = {
        "names": [one.name for one in networks],
        "roles": ["teacher", *["student"] * (len(networks) - 1)],
        "classes": list(data.classes),
        "data": data.spec,
        "evaluated_on": data.evaluated_on,
        "projection": projection,
        "n_images": len(targets),
        "seed": seed,
        **({"paths": [images.name(n) for n in range(len(images))]} if isinstance(images, Pictures) else {}),
    }
    return Result("images", arrays, facts, provenance(data=data.spec, models=[_origin(one) for one in networks]))


@torch.inference_mode()
def _seen(one: Opened, *, quiet: bool) -> tuple[Float[Tensor, "n C"], Float[Tensor, "n d"]]:
    """A network's logits, in the order of the data set's classes, and what its classifier gets, in one pass."""
    needs: tuple[Need, ...] = ("pooled",)
    order, network = answer_order(one), Stages(one.model, needs=needs)
    logits, pooled = [], []
    shown = shown_batches(one.data.test, batch_size=256, workers=2, device=one.device, label=one.info.name, quiet=quiet)
    for batch in shown:
        features = network(one.info.normalise(batch.images))
        assert features.pooled is not None
        logits.append(features.logits.float().cpu())
        pooled.append(features.pooled.float().cpu())
    found = torch.cat(pooled)
    if not found.isfinite().all():
        raise AnalysisError(f"the features of {one.checkpoint} are NaN or infinite for images of {one.spec}")
    return in_order(one, torch.cat(logits), order), found


def _certainty(logits: Sequence[Tensor], targets: Tensor) -> dict[str, ndarray]:
    """Probability of each answer, and how far that of the true class is above all others."""
    shares = [one.double().softmax(1) for one in logits]
    true = [one.gather(1, targets[:, None]) for one in shares]
    others = [one.scatter(1, targets[:, None], -1.0).amax(1, keepdim=True).clamp(min=0) for one in shares]
    margins = [(one - other)[:, 0].numpy() for one, other in zip(true, others, strict=True)]
    return {"confidences": np.stack([one.amax(1).numpy() for one in shares]), "margins": np.stack(margins)}


def _drawn(n_images: int, most: int, seed: int) -> NDArray[np.int64]:
    """Places of the images that have a thumbnail."""
    order = np.random.default_rng(seed).permutation(n_images)[: max(1, most)]
    return np.sort(order)


def _thumbnails(split: Split, index: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
    """Small pictures [k, h, w, 3]."""
    return np.concatenate(list(_small(split, index, side)))


def _small(split: Split, index: NDArray[np.int64], side: int) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(index), _AT_ONCE):
        images = pixels(split, torch.from_numpy(index[start : start + _AT_ONCE]))
        if max(images.shape[1:3]) > side:
            images = np.stack([_shrunk(image, side) for image in images])
        yield images


def _shrunk(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    small = Image.fromarray(image)
    small.thumbnail((side, side))
    return np.asarray(small)


def _origin(one: Opened) -> dict[str, Any]:
    info = one.info
    found = {"name": one.name, "model": info.name, "checkpoint": one.checkpoint, "sha256": info.sha256}
    return found | ({"remark": info.remark} if info.remark else {})
