"""`digits`: the 1,797 handwritten digits that come with scikit-learn (8x8 pixels, 17 grey levels)."""

from functools import cache
from importlib.metadata import distribution

import numpy as np
import torch
from torch import Tensor

from kdprobe.data.augment import generator
from kdprobe.data.dataset import DataSet, Split, stratified
from kdprobe.data.decode import resize
from kdprobe.errors import DataError

# Measured over all pixels of the 1,438 training images at 32x32, population standard deviation.
MEAN, STD = 0.3051, 0.3235


def read_digits(spec: str, folder: str, *, image_size: int | None, download: bool, skip_bad: bool = False) -> DataSet:
    """Read the digits, at 32x32 pixels by default, with a fixed stratified split of 80 to 20.

    Raises:
        DataError: if a folder is given: there is none.
    """
    if folder:
        raise DataError(f"digits come with scikit-learn and take no folder, but got {folder!r}")
    levels, labels = _table()
    images = (levels * (255 / 16)).round().to(torch.uint8)[:, None].expand(-1, 3, -1, -1)
    rest, taken = stratified(labels, 0.2, generator(0))
    size = image_size or 32

    def part(index: Tensor) -> Split:
        return Split(resize(images[index], size), labels[index], size)

    return DataSet(spec, part(rest), part(taken), tuple("0123456789"), (MEAN,) * 3, (STD,) * 3, size)


@cache
def _table() -> tuple[Tensor, Tensor]:
    """Grey levels [1797, 8, 8] in 0..16 and labels [1797].

    Read past scikit-learn, which takes long to import.
    """
    path = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = torch.from_numpy(np.loadtxt(str(path), delimiter=","))
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].long()
