"""Features of teacher and student in HDF5, written as a stream and read by minibatch.

The file, version 1, readable with plain HDF5 tools:

    /                    attributes `format` "kdprobe-features", `version` 1, `content` "features" or "grams",
                         `data` (the data SPEC), `batch_size`, `reduce` (what is stored of each output, such as
                         "gap"; older dumps lack it and hold "whole" ones), `kdprobe` (version)
    /samples/index       int64 [n]: place of each sample in the split, in the order of the dump
    /samples/label       int64 [n]: its class
    /samples/valid       int64 []: how many samples are complete; rows after it must not be read
    /teacher, /student   one group per network; attributes `model`, `sha256`, `preprocessing` (JSON text with
                         image_size, mean, std, and of image files crop_pct, interpolation, crop_mode), `images`
                         (sha256 of the images that it saw; dumps of older development versions lack it), `remark`
                         (likewise), `layers` (JSON list of names in the order of execution)
    /teacher/<layer>     "features": [n, ...] as the layer gave them, or reduced, float32 or float16;
                         "grams": [k, b, b] float64, products of the centred features within each minibatch
                         of b = batch_size samples, zero outside of a short last one;
                         attributes `layout` (NCHW, NHWC, tokens, vector, other), `n_prefix` (tokens in front),
                         `class_token` (its place among them, -1 without one), `stage` (whether the layer ends a stage)
    /checksums/<role>/<layer>
                         uint32 [n] or [k]: CRC-32 of the bytes of each row of that layer, verified when it is read

Chunks hold whole samples and, unless turned off, the filters shuffle and gzip. A file
grows as NAME.partial in single-writer-multiple-readers mode, so that it stays readable when the writer is
killed; the finished file is flushed to disk and renamed. A dump in several parts has them in files
NAME.0000.h5, NAME.0001.h5, ... of this same form, and NAME.h5 joins them by virtual data sets; its attribute
`parts` (JSON) lists their names, which must stay beside it.
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
                self.content = self._content()
                self.data = checks.text(self._file.attrs["data"])
                self.batch_size = checks.count(self._file.attrs["batch_size"], least=1)
                self.reduce = checks.reduction(self._file.attrs.get("reduce", "whole"))
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
        attributes = self._group(role).attrs
        with self._told(f"/{role}"):
            model, sha256 = (checks.text(attributes[key]) for key in ("model", "sha256"))
            images = checks.text(attributes.get("images", ""))  # dumps of 0.1.0 do not say
            remark = checks.text(attributes.get("remark", ""))
            return Network(model, sha256, checks.mapping(attributes["preprocessing"]), images, remark)

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
            names = checks.names(group.attrs["layers"])
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
            names = checks.names(self._group(role).attrs["layers"])
            return [name for name in names if checks.stage(self._dataset(role, name))]

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

    def _content(self) -> Content:
        content = checks.text(self._file.attrs["content"])
        if content == "features":
            return "features"
        if content == "grams":
            return "grams"
        raise ValueError(f"the content {content!r} is neither features nor grams")

    def _check_format(self) -> None:
        found = self._file.attrs.get("format"), self._file.attrs.get("version")
        if not isinstance(found[0], str) or found[0] != FORMAT:
            raise StoreError(f"{self.path} is an HDF5 file, but not one of kdprobe's feature files")
        if not isinstance(found[1], int | np.integer) or found[1] != VERSION:
            raise StoreError(f"{self.path} has format version {found[1]}; this kdprobe reads version {VERSION}")

    def _check_parts(self) -> None:
        for name in checks.parts(self._file.attrs.get("parts")):
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
