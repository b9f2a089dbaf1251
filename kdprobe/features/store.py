"""Features of teacher and student in HDF5, written as a stream and read by minibatch.

The file, version 1, is readable with plain HDF5 tools; `kdprobe.features.store_checks.LAYOUT` says what is in it.

Chunks hold whole samples and, unless turned off, the filters shuffle and gzip. Whatever is read is compared with its
checksums. A file grows as NAME.partial in single-writer-multiple-readers mode, so that it stays readable when the
writer is killed; the finished file is flushed to disk and renamed. A dump in several parts has them in files
NAME.0000.h5, NAME.0001.h5, ... of this same form, and NAME.h5 joins them by virtual data sets; its attribute `parts`
lists their names, which must stay beside it.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from kdprobe.errors import StoreError, near_matches
from kdprobe.features import store_checks as checks
from kdprobe.features.parts import partial_path
from kdprobe.features.writer import FORMAT, VERSION, Content, FeatureWriter, Network, checksums
from kdprobe.formats.parsing import parsing
from kdprobe.models.layout import Layout

__all__ = ["FeatureStore", "FeatureWriter", "Network", "partial_path"]


class FeatureStore:
    """A finished feature file, opened for reading; use in a `with` block.

    Args:
        path: the `.h5` file.
        salvage: read the complete samples of a `.partial` file too.

    Raises:
        StoreError: if the file is missing, foreign, partial, damaged or of another version.

    Example:
        >>> import torch
        >>> import kdprobe
        >>> from kdprobe.features import Dump, write_dump
        >>> from kdprobe.models import create
        >>> model = create("resnet8", n_classes=10, image_size=16)
        >>> _ = write_dump(Dump.over({"student": model}, [torch.rand(8, 3, 16, 16)], reduce="gap"), "features.h5")
        >>> with kdprobe.FeatureStore("features.h5") as store:
        ...     print(store.layers("student"), store.read("student", "layer3").shape)
        ['act1', 'layer1', 'layer2', 'layer3'] torch.Size([8, 64])
    """

    def __init__(self, path: str | Path, *, salvage: bool = False) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            partial = partial_path(self.path)
            hint = f"; its dump was interrupted, {partial} can be resumed or salvaged" if partial.is_file() else ""
            raise StoreError(f"there is no feature file {self.path}{hint}")
        if self.path.suffix == ".partial" and not salvage:
            raise StoreError(f"{self.path} is the unfinished part of a dump; resume it, or salvage what is complete")
        self._checked: dict[tuple[str, str], Any] = {}
        with self._told("the file"):
            self._file = h5py.File(self.path, "r", swmr=salvage)
        try:
            with self._told("attributes"):
                self._check_format()
                self._check_parts()
                self.content: Content = checks.attribute(self._file, "/", "content")
                self.data, self.batch_size, self.reduce = (
                    checks.attribute(self._file, "/", name) for name in ("data", "batch_size", "reduce")
                )
            with self._told("/samples"):
                samples = self._file["samples"]
                self.n_samples = checks.count(checks.dataset(samples, "valid")[()])
                self.index = torch.from_numpy(checks.column(samples, "index", self.n_samples))
                self.labels = torch.from_numpy(checks.column(samples, "label", self.n_samples))
            if not (self.n_samples or salvage):
                raise StoreError(f"{self.path} holds no samples")  # noqa: TRY301
        except StoreError:
            self._file.close()
            raise

    @staticmethod
    def create(path: str | Path, networks: Mapping[str, Network], **options: Any) -> FeatureWriter:
        """Begin a new file; options as `FeatureWriter` takes them."""
        return FeatureWriter(Path(path), networks, **options)

    @classmethod
    def open(cls, path: str | Path, *, salvage: bool = False) -> "FeatureStore":
        """Open a file for reading."""
        return cls(path, salvage=salvage)

    @property
    def roles(self) -> list[str]:
        """Which of `teacher` and `student` the file holds."""
        return [role for role in ("teacher", "student") if role in self._file]

    @property
    def dtype(self) -> str:
        """The type that is stored, `float32`, `float16`, or `float64` for Gram matrices."""
        with self._told("the features"):
            role = self.roles[0]
            return str(self._dataset(role, self.layers(role)[0]).dtype)

    def network(self, role: str) -> Network:
        """The network whose features a role holds."""
        group = self._group(role)
        with self._told(f"/{role}"):
            return Network(**{key: checks.attribute(group, checks.ROLE_PATH, key) for key in checks.OF_NETWORK})

    def origin(self, role: str) -> dict[str, str]:
        """What a result says of the features of a role; a warning tells what has to be known of its network."""
        network = self.network(role)
        if network.remark:
            warnings.warn(f"{self.path}: {network.remark}", UserWarning, stacklevel=3)
        remark = {"remark": network.remark} if network.remark else {}
        return {"file": str(self.path), "sha256": network.sha256, **remark}

    def layers(self, role: str, choices: str | Sequence[str] = "all") -> list[str]:
        """Stored layers in the order of execution.

        Args:
            role: `teacher` or `student`.
            choices: names, globs, `stages` or `all`; `!glob` leaves out.

        Raises:
            StoreError: for a role or layer that is not stored, with near matches.
        """
        group = self._group(role)
        with self._told(f"/{role}"):
            names = checks.attribute(group, checks.ROLE_PATH, "layers")
        chosen: set[str] = set()
        for choice in [choices] if isinstance(choices, str) else choices:
            bare = choice.removeprefix("!")
            found = {name for name in names if bare == name or fnmatchcase(name, bare) or bare == "all"}
            if bare == "stages":
                found = set(self.stages(role))
                if not found:
                    raise StoreError(
                        f"no layer of the {role} in {self.path} is known to end a stage; name some of its layers, or "
                        f"take all: {', '.join(names)}"
                    )
            if not found:
                raise StoreError(f"no layer {bare!r} of the {role} in {self.path}{near_matches(bare, names)}")
            chosen = chosen - found if choice.startswith("!") else chosen | found
        if not chosen:
            raise StoreError(f"no layer of the {role} in {self.path} is left; it has: {', '.join(names)}")
        return [name for name in names if name in chosen]

    def stages(self, role: str) -> list[str]:
        """Stored layers that end a stage, in the order of execution."""
        with self._told(f"/{role}"):
            names = checks.attribute(self._group(role), checks.ROLE_PATH, "layers")
            return [name for name in names if checks.attribute(self._dataset(role, name), checks.LAYER_PATH, "stage")]

    def layout(self, role: str, layer: str) -> Layout:
        """What the dimensions of a stored feature mean."""
        with self._told(f"/{role}/{layer}"):
            return checks.layout(self._dataset(role, layer), of_samples=self.content == "features")

    def read(self, role: str, layer: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Features of samples [start, stop), or of Gram matrices of minibatches [start, stop).

        Raises:
            StoreError: if that part of the file is damaged.
        """
        group = self._group(role)
        if layer not in group:
            raise StoreError(f"no layer {layer!r} of the {role} in {self.path}{near_matches(layer, group)}")
        with self._told(f"/{role}/{layer}"):
            end = self._rows if stop is None else min(stop, self._rows)
            values = self._dataset(role, layer)[start:end]
            expected = self._file[f"checksums/{role}/{layer}"][start:end]
            if expected.shape != (len(values),) or expected.dtype.kind not in "iu":
                raise StoreError(f"{self.path} is damaged: it has no checksums of /{role}/{layer}")
        wrong = np.flatnonzero(checksums(values) != expected)
        if len(wrong):
            raise StoreError(
                f"{self.path} is damaged: /{role}/{layer} differs from its checksums in {len(wrong)} of {len(values)} "
                f"rows, first in row {start + wrong[0]}"
            )
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))

    def minibatch(self, role: str, layer: str, start: int, size: int) -> Tensor:
        """Features of samples [start, start + size), or their Gram matrix without its padding.

        Raises:
            StoreError: if part of the file is damaged, or the Gram matrices are of other minibatches.
        """
        if self.content == "features":
            return self.read(role, layer, start, start + size)
        if size != self.batch_size or start % size:
            raise StoreError(f"{self.path} holds Gram matrices of {self.batch_size} samples, not of {size}")
        n = min(size, self.n_samples - start)
        return self.read(role, layer, start // size, start // size + 1)[0, :n, :n]

    def minibatches(
        self, role: str, layers: str | Sequence[str] = "all", *, batch_size: int | None = None
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """All samples in order, read as they are asked for.

        Args:
            role: `teacher` or `student`.
            layers: as `layers` takes them.
            batch_size: samples at a time; that of the dump if not given, and necessarily so for Gram matrices.

        Yields:
            places of the samples [b], and each layer's features or Gram matrix.

        Raises:
            StoreError: as `minibatch`.
        """
        names, size = self.layers(role, layers), batch_size or self.batch_size
        for start in range(0, self.n_samples, size):
            yield self.index[start : start + size], {n: self.minibatch(role, n, start, size) for n in names}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "FeatureStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _rows(self) -> int:
        return -(-self.n_samples // self.batch_size) if self.content == "grams" else self.n_samples

    def _group(self, role: str) -> Any:
        if role not in self._file:
            raise StoreError(f"{self.path} holds no {role}; it holds: {', '.join(self.roles)}")
        with self._told(f"/{role}"):
            group = self._file[role]
            if not isinstance(group, h5py.Group):
                raise StoreError(f"{self.path} is damaged: /{role} is not a group")
            return group

    def _dataset(self, role: str, layer: str) -> Any:
        """A layer's values, of the right type and form; to be called inside `_told`."""
        if (role, layer) not in self._checked:
            found = checks.dataset(self._file[role], layer)
            if self.content == "features":
                checks.features(found, self._rows)
            else:
                checks.grams(found, self._rows, self.batch_size)
            self._checked[role, layer] = found
        return self._checked[role, layer]

    def _check_format(self) -> None:
        found = self._file.attrs.get("format"), self._file.attrs.get("version")
        if not isinstance(found[0], str) or found[0] != FORMAT:
            raise StoreError(f"{self.path} is an HDF5 file, but not one of kdprobe's feature files")
        if not isinstance(found[1], int | np.integer) or found[1] != VERSION:
            raise StoreError(f"{self.path} has format version {found[1]}; this kdprobe reads version {VERSION}")

    def _check_parts(self) -> None:
        for name in checks.attribute(self._file, "/", "parts"):
            if not self.path.with_name(name).is_file():
                raise StoreError(f"{self.path} is joined from several parts, and {name} is missing")

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        part, expected = f"{self.path}: {what}", "part of a feature file"
        with parsing(part, StoreError, expected=expected):
            try:
                yield
            except (OSError, RuntimeError, KeyError) as error:
                reason = checks.hdf5_reason(error, otherwise="it is damaged; copy it again or dump again")
                raise StoreError(f"{part} cannot be read as {expected}: {reason}") from error
