"""What a data set is by its content, wherever it is stored: one sha256 of images, labels and classes in their order.

Of images in memory all pixels count. Of image files their names below the folder that holds them all, their sizes and
their bytes count; where the files are more than 4 GiB together, the bytes of 1,024 of them at equal distances, so that
a run on ImageNet need not read all of it first. Then an image replaced by another one of the same size in bytes can go
unnoticed; anything added, removed, renamed, moved to another class, cut short or encoded again cannot.
Of a dataset of one's own the pixels of its images count, or by the same rule those of 1,024 images.
Nothing is cached: the hash is always of what was just read.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

from kdprobe.data.dataset import DataSet, ImageFiles, ImageItems, Split
from kdprobe.data.items import item_picture
from kdprobe.errors import DataError
from kdprobe.terminal.progress import progress

WHOLE = 4 * 2**30  # bytes of files that are read as a whole
SAMPLED = 1024
_READERS, _CHUNK = 8, 256

_Found = TypeVar("_Found")


def content_sha256(data: DataSet) -> str:
    """The hexadecimal sha256 of a data set's images, labels and classes.

    Args:
        data: the data set as it was read, before images are held out, decoded or left out.

    Raises:
        DataError: naming a file that cannot be read.
    """
    return _digest("kdprobe-data", data.classes, (data.train, data.test))


def images_identity(split: Split, classes: Sequence[str]) -> str:
    """What images are shown: the sha256 of one split, and of pixels in memory the side that they were made for.

    Pixels that were made for another side cannot be compared by their hash; image files can.

    Args:
        split: before it is decoded.
        classes: names, in the order of the labels.

    Raises:
        DataError: naming a file that cannot be read.
    """
    digest = _digest("kdprobe-images", classes, (split,))
    return f"{digest} at {split.image_size} px" if isinstance(split.images, Tensor) else digest


def _digest(kind: str, classes: Sequence[str], splits: Sequence[Split]) -> str:
    found = hashlib.sha256(json.dumps([kind, 1, list(classes)]).encode())
    root = _root([path for split in splits if isinstance(split.images, ImageFiles) for path in split.images.paths])
    for split in splits:
        found.update(json.dumps([len(split), *split.labels.tolist()]).encode())
        if isinstance(split.images, Tensor):
            pixels = split.images.contiguous()
            found.update(json.dumps(list(pixels.shape)).encode())
            found.update(pixels.numpy().data)
        elif isinstance(split.images, ImageItems):
            found.update(json.dumps(_pixels(split.images)).encode())
        else:
            found.update(json.dumps(_described(split, root)).encode())
    return found.hexdigest()


def shared_files(data: DataSet) -> tuple[str, ...]:
    """Evaluation images whose files are training images too: by a link, or by a folder that is read as both splits.

    Args:
        data: before images are decoded.
    """
    train, test = _files(data)
    known = set(_of_each(train, _place)) - {None} if test else set()
    return tuple(path for path, place in zip(test, _of_each(test, _place), strict=True) if place in known)


def copied_files(data: DataSet) -> tuple[tuple[str, str], ...]:
    """Evaluation images that are copies of training images, byte by byte, each with the first one that it copies.

    Args:
        data: before images are decoded.
    """
    sizes = [dict(zip(paths, _of_each(paths, _n_bytes), strict=True)) for paths in _files(data)]
    both = set(sizes[0].values()) & set(sizes[1].values()) - {None}
    alike = [[path for path, size in found.items() if size in both] for found in sizes]
    known: dict[str, str] = {}
    for path, digest in zip(alike[0], _of_each(alike[0], _sha256), strict=True):
        known.setdefault(digest, path)
    digests = zip(alike[1], _of_each(alike[1], _sha256), strict=True)
    return tuple((path, known[digest]) for path, digest in digests if digest in known)


def _files(data: DataSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths of the training and of the evaluation images; none of images that are no files."""
    train, test = (
        split.images.paths if isinstance(split.images, ImageFiles) else () for split in (data.train, data.test)
    )
    return train, test


def _n_bytes(path: str) -> int | None:
    """None of what is not there or may not be read, which decoding reports."""
    try:
        return os.stat(path).st_size if os.access(path, os.R_OK) else None
    except OSError:
        return None


def _place(path: str) -> tuple[int, int] | None:
    """Which file it is, by whatever name; None where there is none, which decoding reports."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _root(paths: list[str]) -> str:
    """The folder that holds them all."""
    folders = {os.path.dirname(path) for path in paths}
    return os.path.commonpath(folders) if folders else ""


def _described(split: Split, root: str) -> list[list[object]]:
    """Name, size and content's hash of each file; none of those that are not read, or may be skipped."""
    assert isinstance(split.images, ImageFiles)
    paths = split.images.paths
    sizes = _of_each(paths, _n_bytes if split.images.skip_bad else lambda path: os.stat(path).st_size)
    every = 1 if sum(size or 0 for size in sizes) <= WHOLE else -(-len(paths) // SAMPLED)
    read = [place for place in range(0, len(paths), every) if sizes[place] is not None]
    hashes = dict(zip(read, _of_each([paths[place] for place in read], _sha256), strict=True))
    names = [os.path.relpath(path, root).replace(os.sep, "/") for path in paths]
    return [[name, size, hashes.get(place)] for place, (name, size) in enumerate(zip(names, sizes, strict=True))]


def _pixels(items: ImageItems) -> list[str | None]:
    """The hash of the pixels of each image; None for those that are not read, or that cannot be and may be skipped."""
    every = max(-(-len(items) // SAMPLED), 1)
    with progress("identifying", len(items)) as shown:

        def digests(places: Iterable[int]) -> Iterator[tuple[int, str | None, int]]:
            for place in places:
                yield place, *_pixels_of(items, place)
                shown(1)

        found = list(digests(range(0, len(items), every)))
        if sum(size for *_, size in found) * every <= WHOLE:
            found += digests(place for place in range(len(items)) if place % every)
    hashes = {place: digest for place, digest, _ in found}
    return [hashes.get(place) for place in range(len(items))]


def _pixels_of(items: ImageItems, place: int) -> tuple[str | None, int]:
    """The hash and the number of an image's bytes."""
    try:
        image = item_picture(items, place)
    except DataError:
        if not items.skip_bad:
            raise
        return None, 0
    pixels = image.tobytes()
    return hashlib.sha256(json.dumps(image.size).encode() + pixels).hexdigest(), len(pixels)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _of_each(paths: Sequence[str], look: Callable[[str], _Found]) -> list[_Found]:
    """What is found of each file, by several threads, which a network's file system needs.

    Raises:
        DataError: naming a file that cannot be read.
    """

    def found(chunk: Sequence[str]) -> list[_Found]:
        try:
            return [look(path) for path in chunk]
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(_READERS) as pool:
        return [one for part in pool.map(found, chunks) for one in part]
