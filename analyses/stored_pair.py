"""Stored features of two networks for the same samples: in one feature file that holds both, or in one file each."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdprobe.errors import StoreError
from kdprobe.features.reducers import reduce_stored
from kdprobe.features.store import FeatureStore, Network

#: what can still be taken of some reductions, first what is taken if nothing else is asked for
_LEFT = {"gap": ("gap", "mean"), "mean": ("mean", "gap"), "tokens": ("gap", "mean", "tokens")}
_VIEW = ("crop_pct", "interpolation", "crop_mode", "decode")
_NOT_SAID = {"decode": "exact"}


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """One of the networks in an open feature file.

    Attributes:
        store: the file.
        role: of the network in it.
    """

    store: FeatureStore
    role: str

    @property
    def network(self) -> Network:
        """Which network it is, and what it was shown."""
        return self.store.network(self.role)

    def layers(self, choices: str | Sequence[str] = "all") -> list[str]:
        """Stored layers, chosen as `FeatureStore.layers` does."""
        return self.store.layers(self.role, choices)

    def minibatch(self, layer: str, start: int, size: int) -> Tensor:
        """What is stored of a layer for some samples, as `FeatureStore.minibatch` reads it."""
        return self.store.minibatch(self.role, layer, start, size)

    def reduction(self, asked: str | None) -> str:
        """What is taken of each layer: what is asked for, or else the means over positions, or what the file holds.

        Raises:
            StoreError: if that was lost when the file was written.
        """
        held = self.store.reduce
        left = _LEFT.get(held, (held,))
        if asked and held != "whole" and asked not in left:
            raise StoreError(
                f"{self.store.path} holds {held} of each layer, of which {asked} cannot be taken; give --reduce "
                f"{left[0]}, or dump again without --reduce"
            )
        return asked or ("gap" if held == "whole" else left[0])

    def reduced(self, layer: str, reduce: str | None) -> Tensor:
        """What `reduction` takes of a layer, for all samples: [n, ...], at least float32."""
        store, layout, reduce = self.store, self.store.layout(self.role, layer), self.reduction(reduce)
        reduce = "whole" if reduce == store.reduce else reduce
        found: Tensor | None = None
        for start in range(0, store.n_samples, store.batch_size):
            values = self.minibatch(layer, start, store.batch_size)
            wide = values.to(torch.promote_types(values.dtype, torch.float32))  # a mean of halves is no half
            part = reduce_stored(wide, layout, reduce, of=f"layer {layer!r} of the {self.role}")
            found = part.new_empty((store.n_samples, *part.shape[1:])) if found is None else found
            found[start : start + len(part)] = part
        assert found is not None  # no file is finished without samples
        return found


@dataclass(frozen=True, eq=False)
class SeenSamples:
    """Which samples a network saw, and how.

    Attributes:
        name: of what says so, for errors.
        data: the data SPEC.
        images: what they are; empty where nothing says so.
        preprocessing: of the network.
        index: place of each sample in the data set [n].
        labels: class of each [n].
    """

    name: str
    data: str
    images: str
    preprocessing: Mapping[str, Any]
    index: Tensor
    labels: Tensor

    @classmethod
    def of(cls, side: StoredNetwork) -> "SeenSamples":
        """What a feature file says of one of its networks."""
        store, network = side.store, side.network
        return cls(str(store.path), store.data, network.images, network.preprocessing, store.index, store.labels)


@dataclass(frozen=True, eq=False)
class StoredPair:
    """A teacher and a student in open feature files.

    Attributes:
        teacher: in the first file.
        student: in the second one, or in the same.
    """

    teacher: StoredNetwork
    student: StoredNetwork

    @property
    def store(self) -> FeatureStore:
        """The teacher's file, of which the samples, their order and the minibatches are."""
        return self.teacher.store

    @property
    def sides(self) -> dict[str, StoredNetwork]:
        """Both networks by name."""
        return {"teacher": self.teacher, "student": self.student}

    def facts(self) -> dict[str, str]:
        """Names of both networks and of the data."""
        return {name: side.network.model for name, side in self.sides.items()} | {
            "data": self.store.data or "unnamed images"
        }

    def reduction(self, asked: str | None) -> str:
        """What is taken of each layer, in words."""
        return " and ".join(dict.fromkeys(side.reduction(asked) for side in self.sides.values()))

    def origin(self) -> dict[str, str | dict[str, str]]:
        """Files, hashes of the checkpoints, and data, for the provenance."""
        return {name: side.store.origin(side.role) for name, side in self.sides.items()} | {"data": self.store.data}


@contextmanager
def open_pair(paths: Sequence[Path], *, grams: bool = False) -> Iterator[StoredPair]:
    """Open one feature file that holds both networks, or the teacher's and the student's.

    Args:
        paths: one file or two.
        grams: whether Gram matrices will do.

    Raises:
        StoreError: for another number of files, a file that is damaged or lacks a network or features, or files of
            other samples, another order, other data, or images that were shown differently.
    """
    if len(paths) > 2:
        raise StoreError(f"give one feature file or two, not {len(paths)}")
    with FeatureStore.open(paths[0]) as one, FeatureStore.open(paths[-1]) as other:
        if len(paths) == 1 and len(one.roles) < 2:
            raise StoreError(f"{paths[0]} holds only the {one.roles[0]}; give a second file with the other network")
        teacher, student = _network_in(one, "teacher"), _network_in(other, "student")
        require_same_samples(teacher, student)
        for store in (one, other):
            if store.content != "features" and not grams:
                raise StoreError(f"{store.path} holds Gram matrices, but features are needed; dump without --grams")
        yield StoredPair(teacher, student)


def _network_in(store: FeatureStore, wanted: str) -> StoredNetwork:
    """The wanted network, or the only one that a file holds."""
    return StoredNetwork(store, wanted if wanted in store.roles else store.roles[0])


def require_same_samples(teacher: StoredNetwork, student: StoredNetwork) -> None:
    """As `require_same`, of two networks in feature files, which may be the same one."""
    if teacher.store.path != student.store.path:
        require_same(SeenSamples.of(teacher), SeenSamples.of(student))


def require_same(one: SeenSamples, other: SeenSamples) -> None:
    """Refuse different data or samples, a different order, or images that were shown differently.

    Data are compared by their content, wherever they lie, and by the data SPEC only where a file records no more, as
    those of 0.1.0, or holds pixels that were made for another size.

    Raises:
        StoreError: saying which.
    """
    images = one.images, other.images
    _warn_of_unknown([samples.name for samples in (one, other) if not samples.images])
    comparable = all(images) and images[0].partition(" ")[2] == images[1].partition(" ")[2]
    if comparable and images[0] != images[1]:
        raise StoreError(
            f"{one.name} is of images with the sha256 {images[0]}, but {other.name} of images with the sha256 "
            f"{images[1]}; dump both again from the same images"
        )
    if not comparable and one.data != other.data:
        raise StoreError(f"{one.name} is of {one.data!r}, but {other.name} is of {other.data!r}")
    _require_same_view(one, other)
    if not torch.equal(one.index, other.index):
        raise StoreError(
            f"{one.name} ({len(one.index)} samples) and {other.name} ({len(other.index)} samples) "
            "hold different samples or a different order"
        )
    if not torch.equal(one.labels, other.labels):
        raise StoreError(f"{one.name} and {other.name} hold samples of different classes")


def _require_same_view(one: SeenSamples, other: SeenSamples) -> None:
    views = [{key: samples.preprocessing.get(key, _NOT_SAID.get(key)) for key in _VIEW} for samples in (one, other)]
    different = [key for key in _VIEW if None not in (views[0][key], views[1][key]) and views[0][key] != views[1][key]]
    if different:
        ways = [" and ".join(f"{key} {view[key]}" for key in different) for view in views]
        raise StoreError(
            f"images were shown with {ways[0]} for {one.name}, but with {ways[1]} for {other.name}; dump "
            "both again with the same --crop-pct, --interpolation and --decode"
        )


def _warn_of_unknown(names: Sequence[str]) -> None:
    if names:
        warnings.warn(
            f"an older kdprobe, a loader in Python, or none wrote {' and '.join(dict.fromkeys(names))} without saying "
            "which images it saw, so whether both networks saw the same ones is not checked",
            UserWarning,
            stacklevel=6,
        )
