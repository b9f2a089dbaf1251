"""Reading a data set by its SPEC.

A SPEC is `digits`, `cifar10:DIR`, `cifar100:DIR`, `folder:DIR`, `images:DIR`, `imagenet:DIR`, `rafdb:DIR`,
`rafdb-compound:DIR`, `ferplus:DIR` (and its siblings, as `sources.ferplus` says), or `module:callable`, a function of
yours that returns a `DataSet`, a `torch.utils.data.Dataset`, or a pair or a mapping of these (as `sources.own` says).
"""

import os
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Literal

from torch import Tensor

from kdprobe.config import AugmentConfig
from kdprobe.data.augment import generator
from kdprobe.data.dataset import AS_IT_IS, DataSet, Pictures, Shown, Split, View, few_of_each, hold_out
from kdprobe.data.decode import fits, into_memory
from kdprobe.data.identity import content_sha256, images_identity, shared_files
from kdprobe.data.sources.cifar import read_cifar10, read_cifar100
from kdprobe.data.sources.digits import read_digits
from kdprobe.data.sources.ferplus import NAMES as FERPLUS
from kdprobe.data.sources.ferplus import read_ferplus
from kdprobe.data.sources.folder import read_folder, read_imagenet
from kdprobe.data.sources.images import read_images
from kdprobe.data.sources.own import name_of, own_data
from kdprobe.data.sources.rafdb import read_rafdb, read_rafdb_compound
from kdprobe.errors import ConfigError, DataError, KdprobeError, NoTestImages, near_matches
from kdprobe.packages import installed, offered
from kdprobe.user_code import is_missing, is_name, not_ending, own_object, place_in

Storage = Literal["auto", "memory", "files"]

DATASETS: dict[str, Callable[..., DataSet]] = {
    "digits": read_digits,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "folder": read_folder,
    "images": read_images,
    "imagenet": read_imagenet,
    "rafdb": read_rafdb,
    "rafdb-compound": read_rafdb_compound,
    **dict.fromkeys(FERPLUS, read_ferplus),
}


def load_data(
    spec: object,
    *,
    image_size: int | None = None,
    storage: Storage = "auto",
    holdout: float = 0.0,
    per_class: int | None = None,
    seed: int = 0,
    download: bool = False,
    augment: AugmentConfig | None = None,
    skip_bad: bool = False,
    named_by: str | Path | None = None,
    view: View = AS_IT_IS,
    identified: bool = False,
    shown: bool = False,
    decode: bool | Literal["test"] = True,
    everything: bool | None = None,
) -> DataSet:
    """Read a data set.

    Args:
        spec: `digits`, `cifar10:DIR`, `folder:DIR`, `module:callable`, ...; or a dataset itself: whatever the function
            of a `module:callable` may return.
        image_size: side in pixels at which networks see the images; the data set's own if not given.
        storage: `memory` decodes everything now; `files` leaves that to the workers; `auto` takes memory
            where all decoded images stay within 1 GiB and nothing asks for the files.
        holdout: the fraction of each class's training images that replaces the test images.
        per_class: the most training images to keep of each class, after any hold-out; all if not given.
        seed: decides which images are held out, and which few are taken.
        download: fetch what is missing, where the data set can be fetched.
        augment: the variations that training will need: `crop: resized` needs the files.
        skip_bad: leave out image files that cannot be decoded.
        named_by: the file that holds the SPEC, if the person at the keyboard did not give it; a function of your own is
            then called only if its module is trusted.
        view: how image files are shown for evaluation, instead of the data set's own way; its `decode` is of all.
        identified: compute the sha256 of its content, for which all of it is read, and find files that splits share.
        shown: identify the test images, for which they are read.
        decode: whether image files may be decoded now: no, if only a few of them are needed; `test`, if those of the
            training images are not.
        everything: where there are neither labels nor test images, evaluate on all images; if false, that is an error,
            as it is with labels; if not given, there is nothing to evaluate on.

    Returns:
        the data set; its `evaluated_on` says whether `test` was held out. Without labels `test` may be empty.

    Raises:
        DataError: for an unknown name, and for data that are missing, empty or damaged.
        ConfigError: if the data cannot be stored or varied as asked.

    Example:
        >>> from kdprobe.data import load_data
        >>> digits = load_data("digits", image_size=16)
        >>> len(digits.train), len(digits.test), digits.classes[:3]
        (1438, 359, ('0', '1', '2'))
        >>> len(load_data("digits", per_class=5).train)
        50
    """
    data = read_data(spec, image_size=image_size, download=download, skip_bad=skip_bad, named_by=named_by)
    if skip_bad:
        data = replace(data, train=_skipping(data.train), test=_skipping(data.test))
    if identified:
        data = replace(data, sha256=content_sha256(data))
    if holdout:
        data = hold_out(data, holdout, generator(seed))
    if identified:
        data = replace(data, shared=shared_files(data))
    if per_class:
        if not data.classes:
            raise ConfigError(f"data.per_class takes images of each class, but {data.spec} has no labels; leave it out")
        data = replace(data, train=few_of_each(data.train, per_class, generator(seed, 1)))
    if everything and not data.classes and not len(data.test):
        data = replace(data, test=data.train)
    data = _seen(data, view)
    if not len(data.test) and (data.classes or everything is False):
        raise NoTestImages(
            f"{data.spec} has no test images; add some (a folder has them in test/ or val/), or hold out a part of the "
            "training images with data.holdout"
        )
    shown_as = data.test.images.view if isinstance(data.test.images, Pictures) else AS_IT_IS
    data = replace(data, shown=Shown(images_identity(data.test, data.classes) if shown else "", shown_as))
    if augment is not None and augment.crop == "pad" and augment.padding > data.image_size:
        raise ConfigError(
            f"data.augment.padding must be at most {data.image_size}, the side of the images in pixels, but is "
            f"{augment.padding}"
        )
    return stored(data, storage, augment, decode=decode)


def read_data(
    spec: object,
    *,
    image_size: int | None = None,
    download: bool = False,
    skip_bad: bool = False,
    named_by: str | Path | None = None,
) -> DataSet:
    """Read a data set as it is: image files stay files, nothing is held out or left out.

    Args:
        spec: as `load_data`.
        image_size: likewise.
        download: likewise.
        skip_bad: likewise.
        named_by: likewise.

    Raises:
        DataError: for an unknown name, and for data that are missing or empty.
        TrustError: if a file names a function of a module that is not trusted.

    Example:
        >>> from kdprobe.data import read_data
        >>> digits = read_data("digits")
        >>> digits.image_size, len(digits.train)
        (32, 1438)
    """
    if not isinstance(spec, str):
        return _made_of(spec, name_of(spec), image_size=image_size, skip_bad=skip_bad)
    name, colon, rest = spec.partition(":")
    if name in DATASETS:
        return DATASETS[name](
            spec, os.path.expanduser(rest), image_size=image_size, download=download, skip_bad=skip_bad
        )
    if (function := installed("kdprobe.data", name, DataError)) is not None:
        given = _called(function, spec, image_size, path=os.path.expanduser(rest))
        return replace(_made_of(given, spec, image_size=image_size, skip_bad=skip_bad), spec=spec)
    if not colon or not rest.isidentifier() or not is_name(name):
        known = [*DATASETS, *offered("kdprobe.data"), "module:callable"]
        raise DataError(f"no data set {name!r}{near_matches(name, known)}")
    given = _called(_user_function(name, rest, spec, named_by), spec, image_size)
    return replace(_made_of(given, spec, image_size=image_size, skip_bad=skip_bad), spec=spec)


def _made_of(given: object, spec: str, *, image_size: int | None, skip_bad: bool) -> DataSet:
    return given if isinstance(given, DataSet) else own_data(given, spec, image_size=image_size, skip_bad=skip_bad)


def _user_function(module: str, name: str, spec: str, named_by: str | Path | None) -> Callable[..., object]:
    try:
        function: object = own_object(spec, named_by=named_by)
    except ModuleNotFoundError as error:
        if not is_missing(module, error):
            raise
        raise DataError(f"no data set and no module {module!r} for {spec}{near_matches(module, DATASETS)}") from error
    if not callable(function):
        raise DataError(f"module {module!r} has no function {name!r} that returns a dataset")
    return function


def _called(function: Callable[..., object], spec: str, image_size: int | None, *, path: str = "") -> object:
    """What the user's function returns, whether it takes the size of the images or not."""
    given = {"path": path} if path else {}
    for options in ({**given, "image_size": image_size}, given):
        try:
            signature(function).bind(**options)
        except TypeError:
            continue
        except ValueError:  # a function without a known signature
            pass
        try:
            with not_ending(spec):
                return function(**options)
        except KdprobeError:
            raise
        except Exception as error:  # the user's own code
            said, place = " ".join(str(error).split()), place_in(function, error)
            raise DataError(
                f"{spec} raised {type(error).__name__} at {place}{f': {said:.200}' if said else ''}"
            ) from error
    wanted = "path, and may take image_size," if path else "image_size or no argument,"
    raise DataError(f"{spec} must take {wanted} but takes {signature(function)}")


def _seen(data: DataSet, view: View) -> DataSet:
    """A data set whose test images are shown as a view says, and all of whose images are decoded so."""
    if not isinstance(data.test.images, Pictures) or not isinstance(data.train.images, Pictures):
        return data
    test = replace(data.test, images=data.test.images.seen(view))
    if data.test is data.train:
        return replace(data, train=test, test=test)
    train = replace(data.train, images=data.train.images.seen(View(decode=view.decode)))
    return replace(data, train=train, test=test)


def _skipping(split: Split) -> Split:
    images = split.images
    return split if isinstance(images, Tensor) else replace(split, images=replace(images, skip_bad=True))


def stored(
    data: DataSet, storage: Storage, augment: AugmentConfig | None, *, decode: bool | Literal["test"] = True
) -> DataSet:
    """A data set in memory or in files, as `load_data` is asked to leave it.

    Raises:
        DataError: with the path of a file that cannot be decoded.
        ConfigError: if the data cannot be stored or varied as asked.
    """
    needs_files = augment is not None and augment.crop == "resized"
    in_memory = isinstance(data.train.images, Tensor)
    if in_memory and (storage == "files" or needs_files):
        why = "data.storage 'files'" if storage == "files" else "augment.crop 'resized'"
        raise ConfigError(f"{why} needs image files, but {data.spec} has none")
    if needs_files and storage == "memory":
        raise ConfigError("augment.crop 'resized' needs data.storage 'files' or 'auto', but storage is 'memory'")
    small = fits(len(data.train) + len(data.test), data.train.image_size)  # the larger of two sizes
    if not decode or storage == "files" or needs_files or (storage == "auto" and not small):
        return data
    if data.test is data.train:
        both = into_memory(data.train)
        return replace(data, train=both, test=both)
    train = data.train if decode == "test" else into_memory(data.train)
    return replace(data, train=train, test=into_memory(data.test))
