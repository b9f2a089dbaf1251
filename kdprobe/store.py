"""Features of teacher and student in HDF5, written as a stream and read by minibatch.

The file, version 1, readable with plain HDF5 tools:

    /                    attributes `format` "kdprobe-features", `version` 1, `content` "features" or "grams",
                         `data` (the data SPEC), `batch_size`, `kdprobe` (version)
    /samples/index       int64 [n]: place of each sample in the split, in the order of the dump
    /samples/label       int64 [n]: its class
    /samples/valid       int64 []: how many samples are complete; rows behind it are not to be read
    /teacher, /student   one group per network; attributes `model`, `sha256`, `preprocessing` (JSON text with
                         image_size, mean, std), `layers` (JSON list of names in the order of execution)
    /teacher/<layer>     "features": [n, ...] as the layer gave them, float32 or float16;
                         "grams": [k, b, b] float64, products of the centred features within each minibatch
                         of b = batch_size samples, zero outside of a short last one;
                         attributes `layout` (NCHW, NHWC, tokens, vector, other), `n_prefix` (tokens in front),
                         `stage` (whether the layer ends a stage)

Chunks hold whole samples, with Fletcher-32 checksums and, unless turned off, shuffle and gzip. A file
grows as NAME.partial in single-writer-multiple-readers mode, so that it stays readable when the writer is
killed; the finished file is flushed to disk and renamed.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdprobe import __version__
from kdprobe.errors import StoreError, near_matches
from kdprobe.features import Layout
from kdprobe.files import sync_folder

FORMAT = "kdprobe-features"
VERSION = 1
CHUNK_BYTES = 1 << 20

Content = Literal["features", "grams"]
Compression = Literal["gzip", "none"]


@dataclass(frozen=True)
class Network:
    """Who gave the features.

    Attributes:
        model: its name.
        sha256: of its checkpoint; empty where it has none.
        preprocessing: image_size, mean, std.
    """

    model: str
    sha256: str = ""
    preprocessing: dict[str, Any] = field(default_factory=dict)


class FeatureStore:
    """A finished feature file, opened for reading; use in a `with` block.

    Args:
        path: the `.h5` file.
        salvage: read the complete samples of a `.partial` file too.

    Raises:
        StoreError: if the file is missing, foreign, partial, damaged or of another version.
    """

    def __init__(self, path: str | Path, *, salvage: bool = False) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            partial = partial_path(self.path)
            hint = f"; its dump was interrupted, {partial} can be resumed or salvaged" if partial.is_file() else ""
            raise StoreError(f"there is no feature file {self.path}{hint}")
        if self.path.suffix == ".partial" and not salvage:
            raise StoreError(f"{self.path} is the unfinished part of a dump; resume it, or salvage what is complete")
        with self._told("the file"):
            self._file = h5py.File(self.path, "r", swmr=salvage)
        try:
            with self._told("attributes"):
                self._check_format()
                self.content: Content = self._file.attrs["content"]
                self.data = str(self._file.attrs["data"])
                self.batch_size = int(self._file.attrs["batch_size"])
                self.n_samples = int(self._file["samples/valid"][()])
                self.index = torch.from_numpy(self._file["samples/index"][: self.n_samples])
                self.labels = torch.from_numpy(self._file["samples/label"][: self.n_samples])
        except StoreError:
            self._file.close()
            raise

    @staticmethod
    def create(
        path: str | Path,
        networks: Mapping[str, Network],
        *,
        data: str = "",
        batch_size: int = 64,
        content: Content = "features",
        dtype: str = "float32",
        compression: Compression = "gzip",
    ) -> "FeatureWriter":
        """Begin a new file; see `FeatureWriter`."""
        return FeatureWriter(
            Path(path),
            dict(networks),
            data=data,
            batch_size=batch_size,
            content=content,
            dtype=dtype,
            compression=compression,
        )

    @classmethod
    def open(cls, path: str | Path, *, salvage: bool = False) -> "FeatureStore":
        """Open a file for reading."""
        return cls(path, salvage=salvage)

    @property
    def roles(self) -> list[str]:
        """Which of `teacher` and `student` the file holds."""
        return [role for role in ("teacher", "student") if role in self._file]

    def network(self, role: str) -> Network:
        """Who gave the features of a role."""
        attributes = self._group(role).attrs
        return Network(attributes["model"], attributes["sha256"], json.loads(attributes["preprocessing"]))

    def layers(self, role: str, choices: str | Sequence[str] = "all") -> list[str]:
        """Stored layers in the order of execution.

        Args:
            role: `teacher` or `student`.
            choices: names, globs, `stages` or `all`; `!glob` leaves out.

        Raises:
            StoreError: for a role or layer that is not stored, with near matches.
        """
        group = self._group(role)
        names: list[str] = json.loads(group.attrs["layers"])
        chosen: set[str] = set()
        for choice in [choices] if isinstance(choices, str) else choices:
            bare = choice.removeprefix("!")
            found = {name for name in names if bare == name or fnmatchcase(name, bare) or bare == "all"}
            if bare == "stages":
                found = {name for name in names if group[name].attrs["stage"]}
            if not found:
                raise StoreError(f"no layer {bare!r} of the {role} in {self.path}{near_matches(bare, names)}")
            chosen = chosen - found if choice.startswith("!") else chosen | found
        return [name for name in names if name in chosen]

    def layout(self, role: str, layer: str) -> Layout:
        """What the dimensions of a stored feature mean."""
        attributes = self._group(role)[layer].attrs
        return Layout(attributes["layout"], int(attributes["n_prefix"]))

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
            return torch.from_numpy(group[layer][start:end])

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
        return self._file[role]

    def _check_format(self) -> None:
        found = self._file.attrs.get("format"), self._file.attrs.get("version")
        if found[0] != FORMAT:
            raise StoreError(f"{self.path} is an HDF5 file, but not one of kdprobe's feature files")
        if found[1] != VERSION:
            raise StoreError(f"{self.path} has format version {found[1]}; this kdprobe reads version {VERSION}")

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise StoreError(f"{self.path} is damaged or not HDF5: {what} cannot be read ({reason})") from error


class FeatureWriter:
    """Appends minibatches to a new feature file; made by `FeatureStore.create`, used in a `with` block.

    Leaving the block finishes the file; an exception leaves what was appended as NAME.partial.
    """

    def __init__(
        self,
        path: Path,
        networks: dict[str, Network],
        *,
        data: str,
        batch_size: int,
        content: Content,
        dtype: str,
        compression: Compression,
    ) -> None:
        if dtype not in ("float32", "float16"):
            raise StoreError(f"features are stored as float32 or float16, not {dtype!r}")
        self.path, self.n_samples, self._networks = path, 0, networks
        self._content: Content = content
        self._dtype = np.dtype("float64" if content == "grams" else dtype)
        self._batch_size = batch_size
        self._filters: dict[str, Any] = {"fletcher32": True}
        if compression == "gzip":
            self._filters |= {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(partial_path(path), "w", libver="latest")
        self._file.attrs.update(
            {
                "format": FORMAT,
                "version": VERSION,
                "content": content,
                "data": data,
                "batch_size": batch_size,
                "kdprobe": __version__,
            }
        )
        self._started = False

    def append(
        self,
        index: Tensor,
        labels: Tensor,
        features: Mapping[str, Mapping[str, Tensor]],
        *,
        layouts: Mapping[str, Mapping[str, Layout]] | None = None,
        stages: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Append one minibatch; when this returns it survives the death of the process.

        Args:
            index: places of the samples [b].
            labels: their classes [b].
            features: per role and layer, [b, ...], or Gram matrices [b, b].
            layouts: of each role's layers; needed with the first minibatch only.
            stages: layers that end a stage, per role.

        Raises:
            StoreError: if a value does not fit float16, or layers differ from those before.
        """
        ready = {role: {n: self._converted(role, n, t) for n, t in of.items()} for role, of in features.items()}
        if not self._started:
            self._define(ready, layouts or {}, stages or {})
        start, stop = self.n_samples, self.n_samples + len(index)
        self._put("samples/index", index.cpu().numpy(), start)
        self._put("samples/label", labels.cpu().numpy(), start)
        row = start // self._batch_size if self._content == "grams" else start
        for role, layers in ready.items():
            for name, values in layers.items():
                self._put(f"{role}/{name}", values, row)
        self._file.flush()
        self._file["samples/valid"][()] = stop
        self._file.flush()
        self.n_samples = stop

    def finish(self) -> None:
        """Flush the file to disk and give it its name."""
        self._file.close()
        partial = partial_path(self.path)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(self.path)
        sync_folder(self.path.parent)

    def __enter__(self) -> "FeatureWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self._file.close()

    def _define(
        self,
        features: dict[str, dict[str, NDArray[Any]]],
        layouts: Mapping[str, Mapping[str, Layout]],
        stages: Mapping[str, Sequence[str]],
    ) -> None:
        """Make every dataset: none can be added once the file is in single-writer mode."""
        for name in ("samples/index", "samples/label"):
            self._file.create_dataset(name, (0,), "int64", maxshape=(None,), chunks=(4096,))
        self._file.create_dataset("samples/valid", data=np.int64(0))
        for role, layers in features.items():
            group = self._file.create_group(role)
            described = asdict(self._networks[role])
            group.attrs.update({key: described[key] for key in ("model", "sha256")})
            group.attrs["preprocessing"] = json.dumps(described["preprocessing"])
            group.attrs["layers"] = json.dumps(list(layers))
            for name, values in layers.items():
                shape = values.shape[1:]
                chunks = (_chunk_rows(values, self._batch_size), *shape)
                made = group.create_dataset(
                    name, (0, *shape), self._dtype, maxshape=(None, *shape), chunks=chunks, **self._filters
                )
                layout = layouts.get(role, {}).get(name, Layout("other"))
                made.attrs.update({"layout": layout.kind, "n_prefix": layout.n_prefix})
                made.attrs["stage"] = name in stages.get(role, ())
        self._file.swmr_mode = True
        self._started = True

    def _converted(self, role: str, name: str, values: Tensor) -> NDArray[Any]:
        array = values.detach().cpu().float().numpy() if self._content == "features" else self._padded(values)
        if self._dtype == np.float16:
            largest = float(np.abs(array).max(initial=0))
            if largest > float(np.finfo(np.float16).max):
                raise StoreError(f"{role} layer {name!r} reaches {largest:g}, which float16 cannot hold; use float32")
        return array.astype(self._dtype, copy=False)

    def _padded(self, gram: Tensor) -> NDArray[Any]:
        n, full = len(gram), self._batch_size
        padded = np.zeros((1, full, full))
        padded[0, :n, :n] = gram.cpu().numpy()
        return padded

    def _put(self, key: str, values: NDArray[Any], row: int) -> None:
        if key not in self._file:
            raise StoreError(f"{self.path}: {key} was not in the first minibatch")
        dataset = self._file[key]
        dataset.resize(row + len(values), axis=0)
        dataset[row:] = values


def partial_path(path: Path) -> Path:
    """Where a file grows before it is finished."""
    return path.with_name(path.name + ".partial")


def _chunk_rows(values: NDArray[Any], batch_size: int) -> int:
    """The largest divisor of the batch size whose rows stay within a chunk, so that batches end with chunks."""
    rows = max(1, CHUNK_BYTES // max(1, values[:1].nbytes))
    return max(d for d in range(1, batch_size + 1) if batch_size % d == 0 and (d <= rows or d == 1))
