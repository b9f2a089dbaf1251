"""What a data set is: labelled images in two splits, with what a network needs to know of them.

A split's images are either decoded, as one uint8 tensor, or pictures that workers decode batch by batch: files, or
items of a dataset of one's own.
"""

import shlex
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from kdprobe.errors import DataError, near_matches

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DECODINGS = ("exact", "fast")
INTERPOLATIONS = ("bicubic", "bilinear", "nearest", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class View:
    """How image files are shown to a network when nothing is varied; None leaves it to the data set.

    Attributes:
        crop_pct: side of the centred square that is kept, as a fraction of the shorter side.
        interpolation: a name in `INTERPOLATIONS`.
        crop_mode: `center`, or `squash`, which keeps that fraction of both sides and makes it square.
        decode: `exact`, or `fast`, as `decode.decode` says.

    Example:
        >>> from kdprobe.data import View
        >>> View(crop_pct=0.9, interpolation="bicubic")
        View(crop_pct=0.9, interpolation='bicubic', crop_mode=None, decode=None)
    """

    crop_pct: float | None = None
    interpolation: str | None = None
    crop_mode: str | None = None
    decode: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without `decode` where it is open, as earlier files have it."""
        return {key: value for key, value in vars(self).items() if key != "decode" or value is not None}

    def otherwise(self, other: "View") -> "View":
        """This view, and what it leaves open by the other one."""
        return View(
            self.crop_pct if self.crop_pct is not None else other.crop_pct,
            self.interpolation or other.interpolation,
            self.crop_mode or other.crop_mode,
            self.decode or other.decode,
        )


AS_IT_IS = View()


@dataclass(frozen=True)
class Shown:
    """Which images a network is shown, and how.

    Attributes:
        identity: what the images are (`identity.images_identity`); empty if it was not asked for.
        view: how image files are shown, with nothing left open; images in memory have none.

    Example:
        >>> from kdprobe.data import Shown, View
        >>> Shown(view=View(crop_pct=0.9)).view.crop_pct
        0.9
    """

    identity: str = ""
    view: View = AS_IT_IS


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Images that are decoded when they are needed, and how they become squares when nothing is varied.

    Attributes:
        crop_fraction: side of the centred square that is kept, as a fraction of the shorter side.
        skip_bad: leave out what cannot be decoded.
        interpolation: how they are resampled, a name in `INTERPOLATIONS`.
        squash: keep the fraction of both sides instead of a square.
        fast: decode and resample faster, to slightly different pixels (`decode.decode`).

    Example:
        >>> from kdprobe.data import ImageFiles, ImageItems, Pictures
        >>> issubclass(ImageFiles, Pictures), issubclass(ImageItems, Pictures)
        (True, True)
    """

    crop_fraction: float = 1.0
    skip_bad: bool = False
    interpolation: str = "bicubic"
    squash: bool = False
    fast: bool = False

    def __len__(self) -> int:
        raise NotImplementedError

    def take(self, index: Int64[Tensor, " k"]) -> "Pictures":
        """The images at `index`, in that order."""
        raise NotImplementedError

    def name(self, place: int) -> str:
        """What errors call an image."""
        raise NotImplementedError

    def seen(self, view: View) -> "Pictures":
        """The same images, shown as `view` says.

        Raises:
            DataError: for what cannot be done.
        """
        wanted = view.otherwise(self.view)
        fraction, interpolation, mode = wanted.crop_pct, wanted.interpolation, wanted.crop_mode
        assert fraction is not None
        assert interpolation is not None
        if not 0 < fraction <= 1:
            raise DataError(f"crop_pct must be above 0 and at most 1, but is {fraction:g}")
        if interpolation not in INTERPOLATIONS:
            raise DataError(f"no interpolation {interpolation!r}{near_matches(interpolation, INTERPOLATIONS)}")
        if wanted.decode not in (None, *DECODINGS):
            raise DataError(f"images cannot be decoded {wanted.decode!r}{near_matches(wanted.decode, DECODINGS)}")
        if mode not in ("center", "squash"):
            raise DataError(
                f"this network's published accuracy was measured with crop_mode {mode!r}, but images can only be "
                "cropped at their centre or squashed; give --crop-pct, which crops at the centre"
            )
        fast = wanted.decode == "fast"
        return replace(self, crop_fraction=fraction, interpolation=interpolation, squash=mode == "squash", fast=fast)

    @property
    def view(self) -> View:
        """How they are shown; `decode` is said only where it is fast."""
        mode, decode = "squash" if self.squash else "center", "fast" if self.fast else None
        return View(self.crop_fraction, self.interpolation, mode, decode)


@dataclass(frozen=True)
class ImageFiles(Pictures):
    """Image files.

    Attributes:
        paths: one per image.

    Example:
        >>> from PIL import Image
        >>> from kdprobe.data import ImageFiles
        >>> Image.new("RGB", (32, 24), "red").save("red.png")
        >>> len(ImageFiles(("red.png",)))
        1
    """

    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, index: Int64[Tensor, " k"]) -> "Pictures":
        """The files at `index`, in that order."""
        return replace(self, paths=tuple(self.paths[place] for place in index.tolist()))

    def name(self, place: int) -> str:
        """A file's path."""
        return self.paths[place]


@runtime_checkable
class Items(Protocol):
    """What a `torch.utils.data.Dataset` with a length has: items by their number."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class ImageItems(Pictures):
    """Images of a dataset of one's own, each taken from it when it is needed (`items.item_picture`).

    Attributes:
        dataset: gives an item by its number, the same one each time.
        numbers: int64 [n], of the items that are meant.
        column: the place or key of the image in an item; None where an item is an image.
        called: what errors call the dataset.

    Example:
        >>> import torch
        >>> from kdprobe.data import ImageItems
        >>> images = [(torch.zeros(3, 8, 8), 0), (torch.ones(3, 8, 8), 1)]
        >>> len(ImageItems(images, torch.arange(2)))
        2
    """

    dataset: Items
    numbers: Tensor
    column: int | str | None = 0
    called: str = "the dataset"

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, index: Int64[Tensor, " k"]) -> "Pictures":
        """The items at `index`, in that order."""
        return replace(self, numbers=self.numbers[index])

    def name(self, place: int) -> str:
        """The item's number and the dataset's name."""
        return f"item {self.numbers[place]} of {self.called}"


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images.

    Attributes:
        images: uint8 [n, 3, r, r], which batches show at `image_size` (r may be smaller to save
            memory), or pictures to be decoded.
        labels: int64 [n].
        image_size: side of the yielded images in pixels.
        n_skipped: images that could not be decoded and are not among these.
        student_size: side at which the student sees them, where a teacher sees more (`kdprobe.data.views`);
            `augment.padding` is measured in its pixels.

    Example:
        >>> import torch
        >>> from kdprobe.data import Split, evaluation_batches
        >>> split = Split(torch.zeros(6, 3, 8, 8, dtype=torch.uint8), torch.arange(6) % 2, image_size=8)
        >>> [len(batch.labels) for batch in evaluation_batches(split, batch_size=4)]
        [4, 2]
    """

    images: Tensor | Pictures
    labels: Tensor
    image_size: int
    n_skipped: int = 0
    student_size: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.images, Tensor) and (
            self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3
        ):
            shape = list(self.images.shape)
            raise DataError(f"images must be uint8 [n, 3, s, s], but are {self.images.dtype} {shape}")
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise DataError(f"labels must be int64 [n], but are {self.labels.dtype} {list(self.labels.shape)}")
        if len(self.images) != len(self.labels):
            raise DataError(
                f"each image of a split needs a label, but there are {len(self.images)} images and "
                f"{len(self.labels)} labels"
            )

    def __len__(self) -> int:
        return len(self.images)

    def on(self, device: torch.device) -> "Split":
        """The same split, with images in memory on a device; the labels stay."""
        return replace(self, images=self.images.to(device)) if isinstance(self.images, Tensor) else self

    def take(self, index: Int64[Tensor, " k"]) -> "Split":
        """The images at `index`, in that order."""
        images = self.images[index] if isinstance(self.images, Tensor) else self.images.take(index)
        return replace(self, images=images, labels=self.labels[index])


@dataclass(frozen=True)
class DataSet:
    """Training and evaluation images of the same classes.

    Attributes:
        spec: the SPEC that was asked for.
        train: images to learn from.
        test: images to evaluate on; none if the data set has none of its own, so some must be held out.
        classes: names, in the order of the labels; none where there are no labels, which then are all 0.
        mean, std: mean and standard deviation of the training images' channels, for images in [0, 1].
        image_size: side of the yielded images in pixels.
        evaluated_on: whether `test` is the data set's own test split or a part held out of the training images.
        left_out: paths beside the images that are not counted, each with the reason.
        shared: files of `test` that are also files of `train`, if asked for.
        sha256: sha256 of its content (`identity.content_sha256`), if asked for.
        shown: what `test` holds, if asked for, and how it is shown.

    Example:
        >>> from kdprobe.data import load_data
        >>> digits = load_data("digits")
        >>> digits.n_classes, digits.image_size, digits.evaluated_on
        (10, 32, 'test')
    """

    spec: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    evaluated_on: Literal["test", "holdout"] = "test"
    left_out: tuple[tuple[str, str], ...] = ()
    shared: tuple[str, ...] = ()
    sha256: str = ""
    shown: Shown = Shown()

    def __post_init__(self) -> None:
        if not len(self.train):
            raise DataError(f"{self.spec} has no training images")
        for split in filter(len, (self.train, self.test)):
            low, high = int(split.labels.min()), int(split.labels.max())
            if not self.classes and (low, high) == (0, 0):
                continue
            if low < 0 or high >= self.n_classes:
                raise DataError(
                    f"labels of {self.spec} must be 0 to {self.n_classes - 1} for {self.n_classes} classes, "
                    f"but run from {low} to {high}"
                )

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def check_labelled(self, what: str) -> None:
        """Check that there are labels.

        Args:
            what: what needs them, as the subject of a sentence.

        Raises:
            DataError: if there are none.
        """
        if not self.classes:
            raise DataError(f"{what} needs labels, but {self.spec} has none; give labelled images, such as folder:DIR")

    @property
    def notes(self) -> list[str]:
        """What a user of the data set should know, one line each."""
        more, found = shlex.join(["kdprobe", "data", "check", self.spec]), []
        if self.left_out:
            (reason, most), *others = Counter(reason for _, reason in self.left_out).most_common()
            why = f"{most} as {reason!r}, the others for other reasons" if others else reason
            count = len(self.left_out)
            what = "1 file or folder of {} is" if count == 1 else f"{count} files or folders of {{}} are"
            found.append(f"{what.format(self.spec)} left out ({why}); see {more}")
        if self.shared:
            found.append(
                f"{len(self.shared)} of {len(self.test)} evaluation images are also training images (the first is "
                f"{self.shared[0]}), so the accuracy is overstated; see {more}"
            )
        return found


def stratified(
    labels: Int64[Tensor, " n"], fraction: float, generator: torch.Generator
) -> tuple[Int64[Tensor, " rest"], Int64[Tensor, " taken"]]:
    """Divide samples at random so that every class gives the same fraction.

    Args:
        labels: class of each sample.
        fraction: the part of each class that is taken, in (0, 1).
        generator: decides which samples.

    Returns:
        indices of the rest and of the taken samples, ascending.

    Raises:
        DataError: if a class would have no images on one side.
    """
    taken = []
    for label in labels.bincount().nonzero().flatten().tolist():
        members = (labels == label).nonzero().flatten()
        count = round(fraction * len(members))
        if not 0 < count < len(members):
            raise DataError(
                f"a fraction of {fraction:g} cannot be taken from class {label}, which has {len(members)} images: "
                f"{count} would be taken"
            )
        taken.append(members[torch.randperm(len(members), generator=generator)[:count]])
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.cat(taken)] = True
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()


def few_of_each(split: Split, per_class: int, generator: torch.Generator) -> Split:
    """A limited number of images of each class, in the split's order.

    Args:
        split: the images to choose from.
        per_class: the most images of each class; all of a smaller class.
        generator: decides which images.
    """
    order = torch.randperm(len(split), generator=generator)
    labels = split.labels[order]
    taken = [order[labels == label][:per_class] for label in labels.bincount().nonzero().flatten().tolist()]
    return split.take(torch.cat(taken).sort().values)


def hold_out(data: DataSet, fraction: float, generator: torch.Generator) -> DataSet:
    """Evaluate on a stratified fraction of the training images, which are no longer learned from.

    Raises:
        DataError: if a class would have no images on one side.
    """
    rest, held = stratified(data.train.labels, fraction, generator)
    test = replace(data.train.take(held), n_skipped=0)  # what was left out before counts once, for training
    return replace(data, train=data.train.take(rest), test=test, evaluated_on="holdout")
