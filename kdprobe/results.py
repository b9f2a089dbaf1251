"""The saved-result format: analyses write it, figures and the report read it, nothing else passes.

A result is one `.npz` file without pickles. Its entry `meta` is JSON text:

    format      "kdprobe-result"
    version     1
    kind        what was measured: "cka", "evaluation", "training", ...
    facts       labels, names, units, reasons: everything that is not an array
    provenance  where the numbers come from: checkpoints and their hashes, data, seed, versions, command

Every other entry is a numeric array of that kind. Beside `NAME.npz` stands `NAME.csv`, the same
numbers as a tidy table for people and spreadsheets.
"""

import json
import sys
import zipfile
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdprobe.command_line import command_line
from kdprobe.errors import ResultError
from kdprobe.files import replacing, write_text

FORMAT = "kdprobe-result"
VERSION = 1


@dataclass(frozen=True)
class Result:
    """One analysis' numbers with their names and their origin.

    Attributes:
        kind: what was measured.
        arrays: the numbers, by name.
        facts: labels, units and reasons (JSON values).
        provenance: checkpoints, data, seed, versions, command (JSON values).
    """

    kind: str
    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


def save_result(result: Result, path: Path, *, table: str) -> None:
    """Write a result and its tidy table, each as a whole.

    Args:
        result: what was measured.
        path: where to; must end in `.npz`.
        table: the CSV text that goes beside it.

    Raises:
        ResultError: if the name does not end in `.npz`.
    """
    if path.suffix != ".npz":
        raise ResultError(f"a result's name must end in .npz, but {path} does not")
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "kind": result.kind,
        "facts": result.facts,
        "provenance": result.provenance,
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        entries: dict[str, Any] = {"meta": np.array(json.dumps(meta, sort_keys=True)), **result.arrays}
        np.savez_compressed(file, **entries)
    write_text(path.with_suffix(".csv"), table)


def load_result(path: Path, *, kind: str | None = None) -> Result:
    """Read a result.

    Args:
        path: the `.npz` file.
        kind: the kind it must be; any if not given.

    Raises:
        ResultError: if the file is missing, foreign, damaged, newer than this version, or of another kind.
    """
    if not path.is_file():
        raise ResultError(f"there is no result {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            entries = {name: file[name] for name in file.files}
        meta = json.loads(str(entries.pop("meta")))
        found = meta["format"], meta["version"]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise ResultError(f"{path} is not a kdprobe result or is damaged ({type(error).__name__})") from error
    if found != (FORMAT, VERSION):
        raise ResultError(f"{path} is {found[0]!r} version {found[1]}; this kdprobe reads {FORMAT!r} version {VERSION}")
    if kind is not None and meta["kind"] != kind:
        raise ResultError(f"{path} holds a result of kind {meta['kind']!r}, but {kind!r} is needed")
    return Result(meta["kind"], entries, meta["facts"], meta["provenance"])


def results_below(folder: Path) -> list[Path]:
    """All results in a folder and its folders, by name; archives that were never a result of kdprobe are left out."""
    return [path for path in sorted(folder.rglob("*.npz")) if not _foreign(path)]


def _foreign(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "meta.npy" not in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False  # perhaps a damaged one, which is told when it is read


def provenance(**facts: Any) -> dict[str, Any]:
    """What every result says of its origin: the given facts, the versions and the command line."""
    return {**facts, "versions": versions(), "command": command_line()}


def versions() -> dict[str, str]:
    """Versions of Python, kdprobe and the packages that numbers depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in ("kdprobe", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "h5py"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
