"""A data set made of a `torch.utils.data.Dataset` of one's own, or of anything with a length and items by number.

Given are a dataset to learn from, a pair of it and one to evaluate on, or both by name (`train`; `test`, `validation`
or `val`), as Hugging Face's `DatasetDict` has them. Items are read only when they are needed, by workers in
training, and must be the same each time: variations are `data.augment`'s.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdprobe.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DataSet, ImageItems, Items, Split
from kdprobe.data.decode import first_side
from kdprobe.data.items import Columns, columns_of, features_of, item_label, item_of, item_picture
from kdprobe.data.sources.folder import MOST_PIXELS
from kdprobe.errors import DataError
from kdprobe.terminal.progress import progress

_TRIED = 8  # items that are read twice
_TESTS = ("test", "validation", "val")


def own_data(given: object, spec: str, *, image_size: int | None, skip_bad: bool = False) -> DataSet:
    """A data set made of what the user gave; without a size, images are shown as large as the first, at most at 224 px.

    Args:
        given: a dataset, a pair of them or a mapping, as above.
        spec: what it is called.
        image_size: side in pixels at which networks see the images.
        skip_bad: leave out items that cannot be read.

    Raises:
        DataError: if it is something else, or if an item is not what it should be.
    """
    train, test = _pair(given, spec)
    parts = {"train": train} if test is None or not len(test) else {"train": train, "test": test}
    readers = {name: _Reader(dataset, _called(spec, name, parts), skip_bad=skip_bad) for name, dataset in parts.items()}
    one = readers["train"]
    if len({reader.columns.label is None for reader in readers.values()}) > 1:
        without = next(reader.called for reader in readers.values() if reader.columns.label is None)
        raise DataError(f"{without} has no labels, but the other images of {spec} have")
    size = image_size or min(one.side(), MOST_PIXELS)
    splits = {name: reader.split(size) for name, reader in readers.items()}
    classes = _classes({name: reader.dataset for name, reader in readers.items()}, one.columns, splits, spec)
    nothing = Split(splits["train"].images, splits["train"].labels, size).take(torch.arange(0))
    return DataSet(spec, splits["train"], splits.get("test", nothing), classes, IMAGENET_MEAN, IMAGENET_STD, size)


def is_dataset(value: object) -> bool:
    """Whether something has a length and items by number, and is no text, tensor or mapping."""
    plain = (str, bytes, Mapping, Tensor, np.ndarray)
    return isinstance(value, Items) and not isinstance(value, plain)


def name_of(given: object) -> str:
    """What a data set is called that was given as an object, by its class."""
    if isinstance(given, Mapping) and "train" in given:
        return name_of(given["train"])
    kind = type(given[0] if isinstance(given, tuple) and given else given)
    return f"{kind.__module__}.{kind.__qualname__}"


def _pair(given: object, spec: str) -> tuple[Items, Items | None]:
    """What to learn from, and what to evaluate on."""
    found: Any = given
    if isinstance(given, Mapping) and "train" in given:
        found = (given["train"], next((given[name] for name in _TESTS if name in given), None))
    train, test = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    for part in (train,) if test is None else (train, test):
        if not is_dataset(part):
            raise DataError(
                f"{spec} must be a dataset with a length and items by number, a pair (train, test) of them, or a "
                f"mapping with the key 'train', but is of type {type(part).__name__}"
            )
    return train, test


def _called(spec: str, name: str, parts: Mapping[str, Items]) -> str:
    return spec if len(parts) == 1 else f"{spec} ({name})"


class _Reader:
    """Reads what must be known of a dataset before its images are.

    Args:
        dataset: the dataset.
        called: what errors call it.
        skip_bad: leave out items that cannot be read.

    Raises:
        DataError: if it is empty, or its items are not what they should be, or vary.
    """

    def __init__(self, dataset: Items, called: str, *, skip_bad: bool) -> None:
        self.dataset, self.called, self.skip_bad = dataset, called, skip_bad
        if not len(dataset):
            raise DataError(f"{called} is empty")
        place, first = next(self.items(range(len(dataset))), (0, None))
        if first is None:
            raise DataError(f"none of the {len(dataset)} items of {called} can be read")
        self.columns = columns_of(dataset, first, called)
        self.first = place
        self._check_same()

    def items(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Items that can be read, with their numbers."""
        for number in numbers:
            try:
                yield number, item_of(self.dataset, number, f"item {number} of {self.called}")
            except DataError:
                if not self.skip_bad:
                    raise

    def side(self) -> int:
        """The shorter side of the first image in pixels."""
        return first_side(self._images(range(len(self.dataset))), skip_bad=self.skip_bad)

    def split(self, image_size: int) -> Split:
        """The images, with their labels."""
        numbers, labels = self._labels()
        return Split(self._images(numbers), labels, image_size, n_skipped=len(self.dataset) - len(numbers))

    def _images(self, numbers: Sequence[int]) -> ImageItems:
        return ImageItems(self.dataset, torch.tensor(numbers), self.columns.image, self.called, skip_bad=self.skip_bad)

    def _check_same(self) -> None:
        """Read some items twice; what cannot be read is reported where it is needed."""
        numbers = range(self.first, len(self.dataset), max(len(self.dataset) // _TRIED, 1))
        images = self._images(numbers)
        for place, number in enumerate(numbers):
            try:
                one, other = (item_picture(images, place).tobytes() for _ in range(2))
            except DataError:
                continue
            if one != other:
                raise DataError(
                    f"item {number} of {self.called} is another image when it is read again; give the images as they "
                    "are, and vary them by data.augment"
                )

    def _labels(self) -> tuple[list[int], Tensor]:
        """The numbers of the items that can be read, and their labels; all 0 where there are none."""
        column, count = self.columns.label, len(self.dataset)
        if column is None:
            return list(range(count)), torch.zeros(count, dtype=torch.int64)
        listed = _listed(self.dataset, column)
        if listed is not None and self._agree(listed, column):
            return list(range(count)), listed
        numbers, labels = [], []
        with progress("reading labels", count) as shown:
            for number, item in self.items(range(count)):
                numbers.append(number)
                labels.append(item_label(item, column, f"item {number} of {self.called}"))
                shown(1)
        return numbers, torch.tensor(labels)

    def _agree(self, listed: Tensor, column: int | str) -> bool:
        """Whether the first item of each class has the label that is listed for it: none is changed on the way."""
        _, first = np.unique(listed.numpy(), return_index=True)
        return all(
            item_label(item, column, f"item {number} of {self.called}") == listed[number]
            for number, item in self.items(first.tolist())
        )


def _listed(dataset: Any, column: int | str) -> Tensor | None:
    """Labels that a dataset lists beside its images; None where it lists none, one for each item.

    torchvision's datasets have `targets` or `labels`, TensorDatasets their tensors, Hugging Face's their columns.
    """
    if isinstance(dataset, torch.utils.data.Subset):
        inner = _listed(dataset.dataset, column)
        return None if inner is None else inner[torch.as_tensor(dataset.indices, dtype=torch.int64)]
    found: Any
    if column in features_of(dataset):
        found = list(dataset.with_format(None)[column])
    elif isinstance(dataset, torch.utils.data.TensorDataset):
        found = dataset.tensors[1]
    else:
        found = getattr(dataset, "targets", getattr(dataset, "labels", None))
    try:
        labels = torch.as_tensor(found)
    except (TypeError, ValueError, RuntimeError):
        return None
    fits = labels.shape == (len(dataset),) and not labels.is_floating_point() and labels.dtype != torch.bool
    return labels.long() if fits else None


def _classes(
    datasets: Mapping[str, Items], columns: Columns, splits: Mapping[str, Split], spec: str
) -> tuple[str, ...]:
    """Names of the classes, as the dataset has them; else numbers."""
    if columns.label is None:
        return ()
    names = {name: _names(dataset, columns.label, spec) for name, dataset in datasets.items()}
    if named := names["train"]:
        other = names.get("test")
        if other and other != named:
            raise DataError(
                f"the classes of {spec} are {', '.join(named):.100} in training, but {', '.join(other):.100} in testing"
            )
        return named
    found = sorted(set(splits["train"].labels.tolist()))
    absent = next((label for label, other in enumerate(found) if other > label), None)
    if absent is not None:
        raise DataError(
            f"class {absent} of {spec} has no training images, though labels go up to {found[-1]}; number the classes "
            "from 0 without gaps, or let the dataset name them all by `classes`"
        )
    return tuple(map(str, range(found[-1] + 1)))


def _names(dataset: Any, column: int | str, spec: str) -> tuple[str, ...]:
    """Names of the classes; none where the dataset does not say.

    Raises:
        DataError: if datasets that it joins say different things.
    """
    while isinstance(dataset, torch.utils.data.Subset):
        dataset = dataset.dataset
    if isinstance(dataset, torch.utils.data.ConcatDataset):
        named = list(dict.fromkeys(filter(None, (_names(part, column, spec) for part in dataset.datasets))))
        if len(named) > 1:
            one, other = (", ".join(names)[:100] for names in named[:2])
            raise DataError(
                f"the datasets that {spec} joins have different classes, {one} and {other}, so that one label means "
                "two things; join datasets of the same classes in the same order"
            )
        return named[0] if named else ()
    found = getattr(features_of(dataset).get(str(column)), "names", None) or getattr(dataset, "classes", None)
    return tuple(map(str, found)) if isinstance(found, list | tuple) else ()
