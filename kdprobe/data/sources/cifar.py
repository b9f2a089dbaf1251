"""`cifar10:DIR` and `cifar100:DIR`: 50,000 + 10,000 images of 32x32, read by torchvision."""

from pathlib import Path
from typing import Any

import torch

from kdprobe.data.dataset import DataSet, Split
from kdprobe.data.decode import fits, resize
from kdprobe.errors import DataError

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
#: mean and deviation of the channels of the 50,000 training images, by the number of classes; those of CIFAR-100 as
#: every distillation recipe has them
STATISTICS: dict[int, Statistics] = {
    10: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    100: ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def read_cifar10(spec: str, folder: str, *, image_size: int | None, download: bool, skip_bad: bool = False) -> DataSet:
    """Read CIFAR-10 from DIR or from the `cifar-10-batches-py` in it."""
    train, test = _read("CIFAR10", spec, folder, download=download)
    return _data_set(spec, train, test, image_size or 32, STATISTICS[10])


def read_cifar100(spec: str, folder: str, *, image_size: int | None, download: bool, skip_bad: bool = False) -> DataSet:
    """Read CIFAR-100 (fine classes) from DIR or from the `cifar-100-python` in it."""
    train, test = _read("CIFAR100", spec, folder, download=download)
    return _data_set(spec, train, test, image_size or 32, STATISTICS[100])


def _read(name: str, spec: str, folder: str, *, download: bool) -> tuple[Any, Any]:
    from torchvision import datasets

    reader = getattr(datasets, name)
    if not folder:
        raise DataError(f"{name.lower()} needs a folder: {name.lower()}:DIR")
    root = Path(folder)
    if root.name == reader.base_folder:
        root = root.parent
    try:
        return reader(root, train=True, download=download), reader(root, train=False, download=download)
    except RuntimeError as error:
        raise DataError(
            f"there is no {name} in {root}: {reader.base_folder} is missing or damaged; "
            "give the folder that holds it, or fetch it with --download"
        ) from error
    except OSError as error:
        what = "fetched into" if download else "read from"
        raise DataError(f"{name} could not be {what} {root}: {error}") from error


def _data_set(spec: str, train: Any, test: Any, size: int, statistics: Statistics) -> DataSet:
    small = fits(len(train) + len(test), size)

    def split(part: Any) -> Split:
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        return Split(resize(images, size) if small else images, torch.tensor(part.targets), size)

    return DataSet(spec, split(train), split(test), tuple(train.classes), *statistics, size)
