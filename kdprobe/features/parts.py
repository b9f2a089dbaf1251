"""Feature files in parts: where a file grows, and one file joined from several finished ones."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from kdprobe.errors import StoreError
from kdprobe.files import put_in_place


@dataclass(frozen=True)
class Part:
    """Samples [start, stop) and the file that holds them."""

    path: Path
    start: int
    stop: int


def partial_path(path: Path) -> Path:
    """Where a file grows before it is finished."""
    return path.with_name(path.name + ".partial")


def divide(path: Path, n_samples: int, batch_size: int, part_size: int | None, n_ranks: int) -> list[Part]:
    """Cut the samples into parts of whole minibatches.

    Raises:
        StoreError: if a part would be smaller than a minibatch.
    """
    if part_size is not None and part_size < batch_size:
        raise StoreError(
            f"a part must hold at least one minibatch of {batch_size} samples, but part_size is {part_size}"
        )
    n_minibatches = -(-n_samples // batch_size)
    per_part = part_size // batch_size if part_size else -(-n_minibatches // n_ranks)
    starts = list(range(0, n_samples, per_part * batch_size))
    if len(starts) == 1:
        return [Part(path, 0, n_samples)]
    ends = [*starts[1:], n_samples]
    names = [path.with_name(f"{path.stem}.{number:04d}{path.suffix}") for number in range(len(starts))]
    return [Part(*values) for values in zip(names, starts, ends, strict=True)]


def join(path: Path, parts: Sequence[Path]) -> None:
    """Make one file of several finished ones beside it, by virtual data sets.

    Args:
        path: the new file.
        parts: in the order of their samples, each but the last of whole minibatches.

    Raises:
        StoreError: if they have different layers.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(h5py.File(part, "r")) for part in parts]
        roles = [role for role in ("teacher", "student") if role in files[0]]
        for file, part in zip(files, parts, strict=True):
            if any(role not in file or file[role].attrs["layers"] != files[0][role].attrs["layers"] for role in roles):
                raise StoreError(
                    f"{part} has other layers than {parts[0]}; remove the one that is not wanted, then resume"
                )
        made = stack.enter_context(h5py.File(partial_path(path), "w", libver="latest"))
        made.attrs.update(files[0].attrs)
        made.attrs["parts"] = json.dumps([part.name for part in parts])
        made["samples/valid"] = sum(int(file["samples/valid"][()]) for file in files)
        for key in ["samples", *roles, *(f"checksums/{role}" for role in roles)]:
            group = made.require_group(key)
            group.attrs.update(files[0][key].attrs)
            for name, dataset in files[0][key].items():
                if dataset.ndim:
                    group.create_virtual_dataset(name, _virtual([file[key][name] for file in files], parts))
                    group[name].attrs.update(dataset.attrs)
    put_in_place(partial_path(path), path)


def _virtual(datasets: Sequence[Any], parts: Sequence[Path]) -> Any:
    layout = h5py.VirtualLayout((sum(map(len, datasets)), *datasets[0].shape[1:]), datasets[0].dtype)
    start = 0
    for dataset, part in zip(datasets, parts, strict=True):
        layout[start : start + len(dataset)] = h5py.VirtualSource(part.name, dataset.name, dataset.shape)
        start += len(dataset)
    return layout
