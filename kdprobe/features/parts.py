"""Feature files in parts: where a file grows, and one file joined from several finished ones."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py

from kdprobe.errors import StoreError
from kdprobe.files import put_in_place


def partial_path(path: Path) -> Path:
    """Where a file grows before it is finished."""
    return path.with_name(path.name + ".partial")


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
