"""`images:DIR`: every image in a folder and below, without labels."""

import torch

from kdprobe.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DataSet, ImageFiles, Split
from kdprobe.data.decode import SUFFIXES, first_side
from kdprobe.data.sources.folder import MOST_PIXELS, folder_of
from kdprobe.data.sources.listing import grouped, list_images
from kdprobe.errors import DataError


def read_images(spec: str, folder: str, *, image_size: int | None, download: bool, skip_bad: bool = False) -> DataSet:
    """Read all images in a folder and below, without labels; without a size, as large as the first one, at most 224 px.

    Raises:
        DataError: if the folder is missing or there are no images in it.
    """
    root = folder_of(spec, folder)
    listing = list_images(root)
    files = ImageFiles(tuple(listing.classes[""]))
    if not len(files):
        said = "".join(f"; {line}" for line in grouped(listing.left_out)[:1])
        raise DataError(f"there are no images in {root} ({', '.join(SUFFIXES)}){said}")
    size = image_size or min(first_side(files, skip_bad=skip_bad), MOST_PIXELS)
    train = Split(files, torch.zeros(len(files), dtype=torch.int64), size)
    nothing = train.take(torch.arange(0))
    return DataSet(spec, train, nothing, (), IMAGENET_MEAN, IMAGENET_STD, size, left_out=tuple(listing.left_out))
