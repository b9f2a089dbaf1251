"""Writing the feature files that `kdprobe.features.store` describes and reads."""

import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdprobe import __version__
from kdprobe.errors import StoreError
from kdprobe.features.parts import partial_path
from kdprobe.features.staging import Stored, as_stored
from kdprobe.features.store_checks import hdf5_reason
from kdprobe.files import Lock, missing_folders, put_in_place, remove_empty
from kdprobe.models.layout import Layout

FORMAT = "kdprobe-features"
VERSION = 1
CHUNK_BYTES = 1 << 20
SETTLE_BYTES = 1 << 23  # of pages that stay in the processor's last cache
LOST = 0.05  # of a layer's variation between samples, that float16 may take
SPARE_BYTES = 1 << 20  # for what HDF5 writes besides values

Content = Literal["features", "grams"]
Compression = Literal["gzip", "none"]


@dataclass(frozen=True)
class Network:
    """The network whose features a file holds.

    Attributes:
        model: its name.
        sha256: sha256 of its checkpoint; empty if it has none.
        preprocessing: image_size, mean, std; of image files also crop_pct, interpolation, crop_mode.
        images: the images that it saw (`kdprobe.data.identity.images_identity`); empty if not known.
        remark: what must be known about its weights, such as that its run is unfinished; usually empty.

    Example:
        >>> from kdprobe.features import Network
        >>> Network("resnet8", preprocessing={"image_size": 16}).model
        'resnet8'
    """

    model: str
    sha256: str = ""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    images: str = ""
    remark: str = ""


class FeatureWriter:
    """Appends minibatches to a new feature file; made by `FeatureStore.create`, used in a `with` block.

    While the file is written, NAME.lock keeps other writers away. Leaving the block finishes the file; after an
    exception, the minibatches that were appended, if any, stay in NAME.partial. After a minibatch that could not be
    written no further one is accepted, so that none is missing in between.

    Args:
        path: the `.h5` file.
        networks: the networks whose features these are, by role.
        data: the data SPEC.
        batch_size: samples of each minibatch but the last.
        content: `features` or `grams`.
        dtype: type of stored features, `float32` or `float16`.
        compression: `gzip` or `none`.
        reduce: what the features are of each layer's output, as `kdprobe.features.reducers.reducer` takes it.
        keep: where to move an unfinished file that exists already, unless that place is taken; it is overwritten if
            not given.
        overwrite: also replace files that are not kdprobe feature files.

    Attributes:
        dtype: the type that is stored, `float64` for Gram matrices.

    Raises:
        StoreError: for another dtype, if the file is being written by another process or cannot be written, or if
            another file is in the way.
    """

    def __init__(
        self,
        path: Path,
        networks: Mapping[str, Network],
        *,
        data: str = "",
        batch_size: int = 64,
        content: Content = "features",
        dtype: str = "float32",
        compression: Compression = "gzip",
        reduce: str = "whole",
        keep: Path | None = None,
        overwrite: bool = False,
    ) -> None:
        if dtype not in ("float32", "float16"):
            raise StoreError(f"features are stored as float32 or float16, not {dtype!r}")
        self.path, self.n_samples, self._networks = path, 0, networks
        self._content: Content = content
        self._dtype = np.dtype("float64" if content == "grams" else dtype)
        self.dtype: torch.dtype = getattr(torch, self._dtype.name)
        self._batch_size = batch_size
        packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        self._filters: dict[str, Any] = packed if compression == "gzip" else {}
        partial = partial_path(path)
        if not overwrite:
            _refuse_others(path, partial)
        self._missing = missing_folders(path.parent)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(path.with_name(path.name + ".lock"))
        except BlockingIOError as error:
            raise StoreError(
                f"{path} is being written by another dump; wait for its end or give another name"
            ) from error
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {_reason(error)}") from error
        try:
            if keep is not None and partial.exists() and not keep.exists():
                partial.rename(keep)
            self._file = h5py.File(partial, "w", libver="latest", rdcc_nbytes=0)  # no copy: chunks come whole
        except OSError as error:
            self._lock.release()
            raise StoreError(f"{path} cannot be written: {_reason(error)}") from error
        self._file.attrs.update(
            {
                "format": FORMAT,
                "version": VERSION,
                "content": content,
                "data": data,
                "batch_size": batch_size,
                "reduce": reduce,
                "kdprobe": __version__,
            }
        )
        self._layers: dict[str, list[str]] = {}
        self._halved: dict[tuple[str, str], NDArray[np.float64]] = {}
        self._failed = False
        self._unsettled = 0  # bytes

    def append(
        self,
        index: Tensor,
        labels: Tensor,
        features: Mapping[str, Mapping[str, Tensor | Stored]],
        *,
        layouts: Mapping[str, Mapping[str, Layout]] | None = None,
        stages: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Append one minibatch; when this returns it survives the death of the process.

        Args:
            index: places of the samples [b].
            labels: classes of the samples [b].
            features: features [b, ...] or Gram matrices [b, b], by role and layer; or what is stored of them.
            layouts: layouts of each role's layers; needed with the first minibatch only.
            stages: layers that end a stage, per role.

        Raises:
            StoreError: if a value does not fit float16, layers differ from those before, or a minibatch before it
                could not be written.
        """
        if self._failed:
            raise StoreError(
                f"{partial_path(self.path)} takes no more minibatches: the one after its first {self.n_samples} "
                "samples could not be written"
            )
        self._failed = True  # until all of it is written
        ready = {role: {n: self._converted(role, n, t) for n, t in of.items()} for role, of in features.items()}
        if not self._layers:
            self._define(ready, layouts or {}, stages or {})
        given = {role: list(layers) for role, layers in ready.items()}
        if given != self._layers:
            raise StoreError(f"{self.path} has the layers {self._layers}, but a minibatch has {given}")
        if self._content == "features":
            self._check_sizes(ready)
        start, stop = self.n_samples, self.n_samples + len(index)
        with self._told():
            self._require_room(ready)
            self._put("samples/index", index.cpu().numpy(), start)
            self._put("samples/label", labels.cpu().numpy(), start)
            row = start // self._batch_size if self._content == "grams" else start
            for role, layers in ready.items():
                for name, values in layers.items():
                    self._put(f"{role}/{name}", values, row)
                    self._put(f"checksums/{role}/{name}", checksums(values), row)
            self._file.flush()  # the rows are in the file before they count as complete
            self._file["samples/valid"][()] = stop
            self._file.flush()
        self.n_samples, self._failed = stop, False

    def _check_sizes(self, ready: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        """Features of another size than before, some of which HDF5 would stretch."""
        for role, layers in ready.items():
            for name, values in layers.items():
                before = self._file[f"{role}/{name}"].shape[1:]
                if values.shape[1:] != before:
                    raise StoreError(
                        f"layer {name!r} of the {role} gives {list(values.shape[1:])} an image from sample "
                        f"{self.n_samples} on, but {list(before)} before; give images of one size, or reduce='gap'"
                    )

    def finish(self) -> None:
        """Flush the file to disk and give it its name."""
        try:
            with self._told():
                self._file.close()
            put_in_place(partial_path(self.path), self.path)
        finally:
            self._lock.release()

    def __enter__(self) -> "FeatureWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            with suppress(OSError, RuntimeError):  # as on a full disk; the first error is the one to report
                self._file.close()
            if not self.n_samples:
                partial_path(self.path).unlink(missing_ok=True)
            self._lock.release()
            remove_empty(self._missing)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise StoreError(
                f"{partial_path(self.path)} cannot be written ({_reason(error)}); its first "
                f"{self.n_samples} samples are complete and can be resumed or salvaged"
            ) from error

    def _define(
        self,
        features: dict[str, dict[str, NDArray[Any]]],
        layouts: Mapping[str, Mapping[str, Layout]],
        stages: Mapping[str, Sequence[str]],
    ) -> None:
        """Make every dataset: none can be added once the file is in single-writer mode."""
        for role, layers in features.items():
            for name in layers:
                if above := next((str(one) for one in PurePosixPath(name).parents if str(one) in layers), None):
                    raise StoreError(f"the layers {above!r} and {name!r} of the {role} cannot be stored in one file")
        for name in ("samples/index", "samples/label"):
            self._file.create_dataset(name, (0,), "int64", maxshape=(None,), chunks=(4096,))
        self._file.create_dataset("samples/valid", data=np.int64(0))
        for role, layers in features.items():
            group = self._file.create_group(role)
            described = asdict(self._networks[role])
            group.attrs.update({key: described[key] for key in ("model", "sha256", "images", "remark")})
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
                made.attrs["class_token"] = -1 if layout.class_token is None else layout.class_token
                made.attrs["stage"] = name in stages.get(role, ())
                self._file.create_dataset(f"checksums/{role}/{name}", (0,), "uint32", maxshape=(None,), chunks=(4096,))
        self._file.swmr_mode = True
        self._layers = {role: list(layers) for role, layers in features.items()}

    def _converted(self, role: str, name: str, given: Tensor | Stored) -> NDArray[Any]:
        stored = given if isinstance(given, Stored) else as_stored(given.cpu(), self.dtype)
        if self._dtype == np.float16:
            if stored.largest > torch.finfo(torch.float16).max:
                raise StoreError(
                    f"{role} layer {name!r} reaches {stored.largest:g}, which float16 cannot hold; use float32"
                )
            self._require_variation(role, name, stored)
        values = stored.values.numpy()
        return np.ascontiguousarray(values) if self._content == "features" else self._padded(values)

    def _require_variation(self, role: str, name: str, stored: Stored) -> None:
        """Refuse a layer whose differences between samples float16 does not keep, as far as it has been seen."""
        sums = self._halved.setdefault((role, name), np.zeros(2))
        sums += stored.halved
        if sums[0] > LOST**2 * sums[1]:
            lost = float(np.sqrt(sums[0] / sums[1])) if sums[1] else 1.0
            raise StoreError(
                f"{role} layer {name!r} varies too little for float16, whose rounding is {lost:.0%} of its variation "
                f"(values up to {stored.largest:.2g}); use float32, or leave the layer out"
            )

    def _padded(self, gram: NDArray[np.float64]) -> NDArray[Any]:
        n, full = len(gram), self._batch_size
        padded = np.zeros((1, full, full))
        padded[0, :n, :n] = gram
        return padded

    def _put(self, key: str, values: NDArray[Any], row: int) -> None:
        dataset = self._file[key]
        dataset.resize(row + len(values), axis=0)
        chunk = dataset.chunks[0]
        step = max(1, SETTLE_BYTES // max(1, values[:chunk].nbytes)) * chunk  # whole chunks, each written once
        for start in range(0, len(values), step):
            piece = values[start : start + step]
            dataset[row + start : row + start + len(piece)] = piece
            dataset.flush()  # reports a failure here; when a dataset is closed, HDF5 can only drop what does not fit
            self._settle(piece.nbytes)

    def _settle(self, n_bytes: int) -> None:
        """Now and then write the system's cached pages to disk and give them back, so that the next rows take the same.

        Without it a dump fills all memory with its own pages, and first use of a page costs more than writing it.
        """
        self._unsettled += n_bytes
        if self._unsettled >= SETTLE_BYTES and hasattr(os, "posix_fadvise"):
            handle = self._file.id.get_vfd_handle()
            os.fdatasync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            self._unsettled = 0

    def _require_room(self, ready: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        """Stop while there is still room to close the file: HDF5 cannot give up what it failed to write."""
        size = sum(values.nbytes for layers in ready.values() for values in layers.values())
        if shutil.disk_usage(self.path.parent).free < size + SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def checksums(values: NDArray[Any]) -> NDArray[np.uint32]:
    """CRC-32 of the bytes of each row: damage is found by sample, at about the cost of HDF5's own checksum filter.

    Measured per GB: the filter takes 0.9 to 1.3 times as long as this function does, when writing and when reading.
    """
    return np.array([zlib.crc32(row) for row in np.ascontiguousarray(values)], np.uint32)


def _reason(error: Exception) -> str:
    return hdf5_reason(error, otherwise="HDF5 names no reason")


def _refuse_others(path: Path, partial: Path) -> None:
    """Refuse to overwrite what is not a kdprobe feature file, or the beginning of one."""
    if path.is_file() and path.stat().st_size and not _is_own(path):
        raise StoreError(
            f"{path} is not a kdprobe feature file; give another name, or --overwrite (overwrite=True) to lose it"
        )
    if partial.is_file() and not _begins_as_hdf5(partial):
        raise StoreError(f"{partial} is not an unfinished kdprobe feature file; give another name or move it away")


def _is_own(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("format") == FORMAT)
    except Exception:
        return False


def _begins_as_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does, or is empty because its process was killed before it wrote anything."""
    with path.open("rb") as file:
        return file.read(8) in (b"", b"\x89HDF\r\n\x1a\n")


def _chunk_rows(values: NDArray[Any], batch_size: int) -> int:
    """The largest divisor of the batch size whose rows stay within a chunk, so that batches end with chunks."""
    rows = max(1, CHUNK_BYTES // max(1, values[:1].nbytes))
    return max(d for d in range(1, batch_size + 1) if batch_size % d == 0 and (d <= rows or d == 1))
