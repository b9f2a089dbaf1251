"""Items of a `torch.utils.data.Dataset` of one's own: what in them is the image, and what the label.

An item is `(image, label)`, a mapping with an image and a label, as Hugging Face's datasets have it, or an image alone.
What the images may be is said in `rgb.rgb_of`; labels are whole numbers from 0.
"""

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from kdprobe.data.dataset import ImageItems, Items
from kdprobe.data.rgb import rgb_of
from kdprobe.errors import DataError, KdprobeError

#: keys of a mapping that hold the image and the label, where several could
_IMAGES, _LABELS = ("image", "img", "pixel_values"), ("label", "labels", "target")


class Columns(NamedTuple):
    """Places or keys in an item.

    Attributes:
        image: the image; None where the item is the image.
        label: the label; None where there is none.
    """

    image: int | str | None
    label: int | str | None


def item_of(dataset: Items, number: int, name: str) -> Any:
    """An item.

    Args:
        dataset: the dataset.
        number: which item.
        name: what errors call it.

    Raises:
        DataError: with the type and text of whatever the dataset raises.
    """
    try:
        return dataset[number]
    except KdprobeError:
        raise
    except Exception as error:  # the user's own code
        said = " ".join(str(error).split())
        raise DataError(f"{name} cannot be read ({type(error).__name__}{f': {said:.200}' if said else ''})") from error


def item_picture(items: ImageItems, place: int) -> Image.Image:
    """The image of an item, in red, green and blue of 8 bits.

    Raises:
        DataError: naming the item, if it cannot be read, or has no image or one that is not understood.
    """
    name = items.name(place)
    image = _part(item_of(items.dataset, int(items.numbers[place]), name), items.column, name)
    try:
        return rgb_of(image, name)
    except DataError:
        raise
    except Exception as error:  # Pillow decodes late, and its plugins raise what they like
        raise DataError(f"{name} cannot be decoded as an image ({type(error).__name__})") from error


def item_label(item: Any, column: int | str, name: str) -> int:
    """The label in an item.

    Raises:
        DataError: if it is not a whole number.
    """
    label = _part(item, column, name)
    try:
        return operator.index(label)
    except TypeError:
        shown = f"{label!r:.80}"
    raise DataError(f"{name} has the label {shown}, which must be a whole number: that of its class, from 0")


def _part(item: Any, column: int | str | None, name: str) -> Any:
    if column is None:
        return item
    try:
        return item[column]
    except (LookupError, TypeError) as error:
        raise DataError(f"{name} is not like the first item: it has no {column!r}") from error


def columns_of(dataset: Items, first: Any, called: str) -> Columns:
    """Where image and label are.

    Args:
        dataset: perhaps one of Hugging Face's, which says what its columns are.
        first: an item.
        called: what errors call the dataset.

    Raises:
        DataError: if that cannot be known.
    """
    if _is_image(first):
        return Columns(None, None)
    if isinstance(first, tuple | list) and first:
        return Columns(0, 1 if len(first) > 1 else None)
    if not isinstance(first, Mapping):
        raise DataError(
            f"an item of {called} must be (image, label), a mapping of these, or an image, but is of type "
            f"{type(first).__name__}"
        )
    images = [key for key, value in first.items() if _is_image(value)]
    features = features_of(dataset)
    classes = [key for key in first if hasattr(features.get(key), "names")]
    return Columns(
        _chosen(images, _IMAGES, "images", called, keys=list(first)),
        _chosen(classes, _LABELS, "labels", called)
        if classes
        else next((key for key in _LABELS if key in first), None),
    )


def features_of(dataset: object) -> Mapping[str, Any]:
    """What the columns of a dataset of Hugging Face's are; empty for any other."""
    features = getattr(dataset, "features", None)
    return features if isinstance(features, Mapping) else {}


def _chosen(found: list[str], usual: tuple[str, ...], what: str, called: str, *, keys: list[str] | None = None) -> str:
    """The one key, or of several the one with a usual name."""
    if not found:
        raise DataError(f"items of {called} have the keys {', '.join(map(repr, keys or []))}, but none holds {what}")
    best = found if len(found) == 1 else [key for key in usual if key in found][:1]
    if not best:
        raise DataError(
            f"items of {called} have several {what}, {' and '.join(map(repr, found))}; leave only one of them, or "
            f"call it {usual[0]!r}"
        )
    return best[0]


def _is_image(value: Any) -> bool:
    return isinstance(value, Image.Image) or (isinstance(value, Tensor | np.ndarray) and value.ndim > 1)
