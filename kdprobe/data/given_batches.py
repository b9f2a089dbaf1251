"""Whether images and labels that a loop of one's own gives are what they must be."""

from collections.abc import Sequence

from torch import Tensor

from kdprobe.errors import DataError

#: how far from 1 the probabilities of an image may add up to, as half precision rounds them
_TOLERANCE = 0.01


def check_shapes(images: Sequence[Tensor], labels: Tensor) -> None:
    """Refuse what is no batch, from its types and shapes alone.

    Args:
        images: the inputs [B, c, h, w] of one batch.
        labels: classes [B], or probabilities [B, C].

    Raises:
        DataError: saying what was given.
    """
    for given in images:
        if not isinstance(given, Tensor) or given.ndim != 4:
            found = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise DataError(f"images must be a tensor [B, c, h, w], but are {found}")
    if not isinstance(labels, Tensor):
        raise DataError(f"labels must be a tensor, of classes [B] or of probabilities [B, C], but are {_kind(labels)}")
    if any(len(given) != len(labels) for given in images):
        raise DataError(f"there are {len(labels)} labels, but {' and '.join(str(len(one)) for one in images)} images")
    if not len(labels):
        raise DataError("there are no images in this batch; leave it out")


def check_images(images: Tensor, n_channels: int) -> None:
    """Refuse images that are not in [0, 1].

    Args:
        images: [B, c, h, w].
        n_channels: those of the student's input.

    Raises:
        DataError: saying what was given.
    """
    if images.shape[1] != n_channels:
        raise DataError(f"the student takes images of {n_channels} channels, but these are {list(images.shape)}")
    if not images.is_floating_point():
        raise DataError(f"images must be floating-point numbers in [0, 1], but are {images.dtype}")
    low, high = images.detach().aminmax()
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"images must be in [0, 1], but are in [{low:.3g}, {high:.3g}]; give standardised ones as "
            "a pair, the student's input and the teacher's"
        )


def check_labels(labels: Tensor, n_classes: int) -> None:
    """Refuse labels that are neither classes nor probabilities.

    Args:
        labels: as of `check_shapes`.
        n_classes: those of the student, C.

    Raises:
        DataError: saying what was given.
    """
    shape = list(labels.shape)
    if not labels.is_floating_point():
        if len(shape) != 1 or not (labels.amin() >= 0 and labels.amax() < n_classes):
            raise DataError(
                f"labels must be classes [B] from 0 to {n_classes - 1}, but are {shape} from {labels.amin()} to "
                f"{labels.amax()}"
            )
        return
    if shape[1:] != [n_classes]:
        raise DataError(f"probabilities must be [B, {n_classes}], one for each class of the student, but are {shape}")
    low, sums = labels.detach().amin(), labels.detach().sum(1)
    if not (low >= 0 and (sums - 1).abs().amax() <= _TOLERANCE):
        raise DataError(
            "probabilities of an image must be at least 0 and add up to 1, but the least is "
            f"{low:.3g} and they add up to {sums.amin():.3g} to {sums.amax():.3g}"
        )


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
