"""Weights files from elsewhere: the tensors in one, by their place in it, without running any code.

The content of a file decides what it is, not its name. Pickles are read with `weights_only=True`; besides tensors they
may hold harmless types: plain data of the standard library and numpy, which are created here, and configurations of
well-known libraries, which become plain mappings: no code of those libraries runs, and they need not be installed.
"""

import argparse
import datetime
import pickle
import re
import types
import uuid
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from kdprobe.errors import CheckpointError
from kdprobe.formats.parsing import parsing

#: tensors by name, by the dotted key of the mapping that holds them; the outermost one's key is empty
Groups = dict[str, dict[str, Tensor]]

_DEEPEST = 20  # levels of nested mappings
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def read_groups(path: Path) -> Groups:
    """All tensors of a weights file, from torch or safetensors.

    Args:
        path: the file.

    Returns:
        names without what `torch.compile`, FSDP and activation checkpointing put into them.

    Raises:
        CheckpointError: if the file is missing, damaged, of another format, or would run code.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}" + (": it is a folder" if path.is_dir() else ""))
    content = _named_tensors(path) if _kind(path) == "safetensors" else _unpickled(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not named tensors")
    groups: Groups = {}
    for key, name, tensor in _tensors(content, (), path):
        groups.setdefault(key, {})[name] = tensor
    if not groups and any(isinstance(value, np.ndarray) for value in content.values()):
        raise CheckpointError(
            f"{path} holds NumPy arrays, not tensors; save {{name: torch.from_numpy(array) for name, array in ...}}"
        )
    return {key: _without_wrappers(tensors) for key, tensors in groups.items()}


def chosen(groups: Groups, key: str, path: Path) -> Groups:
    """The tensors below a dotted key, as `FILE#KEY` asks for them; part of it may be the beginning of tensors' names.

    Raises:
        CheckpointError: if there are none, naming the keys that exist.
    """
    found: Groups = {}
    for group, tensors in groups.items():
        for name, tensor in tensors.items():
            full = f"{group}.{name}" if group else name
            if full.startswith(f"{key}."):
                held = group.removeprefix(key).removeprefix(".") if f"{group}.".startswith(f"{key}.") else ""
                short = full.removeprefix(f"{key}.").removeprefix(f"{held}." if held else "")
                found.setdefault(held, {})[short] = tensor
    if not found:
        raise CheckpointError(
            f"{path} has no tensors below {key!r}; it has {', '.join(map(repr, keys_of(groups)[:12]))}"
        )
    return found


def refuse_broken(tensors: Mapping[str, Tensor], built: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are not numbers, as a training that diverged leaves them.

    Args:
        tensors: tensors of a file, by the network's names.
        built: the network's own tensors before loading, which may be infinite on purpose, as masks are.
        path: the file.

    Raises:
        CheckpointError: naming the first tensor with NaN or infinite values that the new network does not have.
    """
    for name, tensor in tensors.items():
        if not (tensor.is_floating_point() or tensor.is_complex()) or bool(tensor.isfinite().all()):
            continue
        if torch.equal(tensor.isnan(), built[name].isnan()) and torch.equal(tensor.isinf(), built[name].isinf()):
            continue
        nan, infinite = int(tensor.isnan().sum()), int(tensor.isinf().sum())
        raise CheckpointError(
            f"{path} cannot be used: {nan} NaN and {infinite} infinite values among the {tensor.numel()} of its "
            f"{name!r}, as when training diverged; give the weights of an earlier epoch"
        )


def keys_of(groups: Groups) -> list[str]:
    """What `FILE#KEY` can name first: the mappings that hold tensors, and the first words of the outermost names."""
    words = [name.partition(".")[0] for name in groups.get("", {})]
    return list(dict.fromkeys([*filter(None, groups), *words]))


def is_safetensors(path: Path) -> bool:
    """Whether a file's first bytes are those of a safetensors file, whatever its name."""
    head = _head(path)
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _head(path: Path) -> bytes:
    with parsing(path, CheckpointError, expected="a weights file"), path.open("rb") as file:
        return file.read(300)


def _kind(path: Path) -> str:
    """What a file's first bytes say it is: `safetensors` or `torch`.

    Raises:
        CheckpointError: naming any other format that is known.
    """
    if is_safetensors(path):
        return "safetensors"
    head = _head(path)
    if head.startswith(b"PK\x03\x04"):
        _check_archive(path)
        return "torch"
    if head.startswith(b"\x80") or head[257:262] == b"ustar":
        return "torch"
    for start, what in _OTHERS.items():
        if head.lstrip().lower().startswith(start):
            raise CheckpointError(f"{path} is {what}, not a torch or safetensors weights file")
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path} is truncated or not a safetensors file")
    raise CheckpointError(
        f"{path} is truncated or not a weights file: it is in neither torch's nor safetensors' format"
    )


_OTHERS = {
    b"<": "a web page, as a failed download leaves it",
    b"version https://git-lfs": "the pointer that Git LFS puts in a file's place (git lfs pull fetches the file)",
    b"\x89hdf": "an HDF5 file, as Keras writes it",
    b"\x1f\x8b": "compressed with gzip, to be unpacked first",
    b"gguf": "a GGUF file",
    b"\x93numpy": "a NumPy array",
    b"{": "JSON",
}


def _check_archive(path: Path) -> None:
    """Refuse zip archives that are none of torch's weights, or not as they were written, which torch does not check."""
    try:
        with zipfile.ZipFile(path) as archive:
            names, sums = archive.namelist(), [entry.CRC for entry in archive.infolist()]
            damaged = archive.testzip() if any(sums) else None  # torch can be told to write none
    except Exception as error:
        raise CheckpointError(f"{path} is truncated or not a weights file ({first_sentence(error)})") from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript archive, which holds code; save the network's state_dict() instead"
        )
    if not any(name.endswith("data.pkl") for name in names):
        what = "a NumPy archive" if any(name.endswith(".npy") for name in names) else "a zip archive"
        raise CheckpointError(f"{path} is {what}, not a torch or safetensors weights file")
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of {damaged} in it does not match")


def _named_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # whatever a damaged header makes safetensors raise
        raise CheckpointError(f"{path} is truncated or not a safetensors file ({first_sentence(error)})") from error


def _unpickled(path: Path) -> Any:
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals(_harmless()),
            path.open("rb") as file,  # of a path torch would believe the suffix
        ):
            warnings.simplefilter("ignore")  # torch remarks on old pickles, which are read or refused below
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split())
        named = re.search(r"GLOBAL (\S+)|unrecognized function (<.+?>)|but got (<.+?>)", reason)
        if named is None:
            raise CheckpointError(f"{path} is truncated or not a weights file ({_cause(reason)})") from error
        what = next(filter(None, named.groups()))
        raise CheckpointError(
            f"{path} is refused: loading it could run code, because it holds {what[:100]}; if you trust it, save "
            "its tensors alone, as torch.save(network.state_dict(), FILE) does"
        ) from error
    except Exception as error:  # whatever a damaged pickle or archive makes torch raise
        raise CheckpointError(f"{path} is truncated or not a weights file ({first_sentence(error)})") from error


def _cause(reason: str) -> str:
    """The part of torch's long message that concerns the file."""
    return reason.rpartition("error: ")[2].partition(". ")[0][:160]


def _tensors(content: Mapping[Any, Any], keys: tuple[str, ...], path: Path) -> Iterator[tuple[str, str, Tensor]]:
    """Key of the mapping, name and tensor of all tensors."""
    if len(keys) > _DEEPEST:
        raise CheckpointError(f"{path} holds mappings that are nested too deeply")
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield ".".join(keys), str(key), value
        elif isinstance(value, Mapping):
            yield from _tensors(value, (*keys, str(key)), path)
        elif isinstance(value, list | tuple):
            yield from _tensors(dict(enumerate(value)), (*keys, str(key)), path)


def _without_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    bare = {_WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
    return bare if len(bare) == len(tensors) else tensors


def first_sentence(error: Exception) -> str:
    """As much of a message as fits into one line."""
    return " ".join(str(error).split()).partition(". ")[0][:160] or type(error).__name__


def _scalar(kind: Any, content: Any = None) -> Any:
    """A numpy number; as `numpy.core.multiarray.scalar`, for numbers and texts alone."""
    if not isinstance(kind, np.dtype) or kind.kind not in "biufcSUMm" or not isinstance(content, bytes):
        raise pickle.UnpicklingError(f"a numpy scalar of {kind}")
    return np.frombuffer(content, kind, count=1)[0]


def _array(*_: Any) -> Any:
    """An empty array, which its state then fills; as `numpy.core.multiarray._reconstruct`."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _mapping(*_: Any) -> dict[Any, Any]:
    """The content of a default dictionary."""
    return {}


def _list(*_: Any) -> list[Any]:
    """The content of a queue."""
    return []


_CONFIGURATIONS = (
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
    *(f"omegaconf.nodes.{name}Node" for name in ("Any", "Boolean", "Enum", "Float", "Integer", "Path", "String")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    *(f"{place}.AttributeDict" for place in ("lightning_fabric.utilities.data", "lightning.fabric.utilities.data")),
    *(f"{place}.utilities.parsing.AttributeDict" for place in ("pytorch_lightning", "lightning.pytorch")),
    *("yacs.config.CfgNode", "fvcore.common.config.CfgNode", "easydict.EasyDict", "addict.addict.Dict"),
    *("mmengine.config.config.ConfigDict", "mmcv.utils.config.ConfigDict", "munch.Munch", "dotmap.DotMap"),
)


def _harmless() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """The types that a pickle may hold beside tensors, some under several names."""
    plain = [list, dict, set, frozenset, tuple, int, float, complex, bool, str, bytes, slice, object]
    named: dict[str, Any] = {f"{module}.{t.__name__}": t for t in plain for module in ("builtins", "__builtin__")}
    named |= dict.fromkeys(("__builtin__.long", "__builtin__.unicode", "torch.torch_version.TorchVersion"), str)
    named["__builtin__.long"] = int
    named["typing.Any"] = object
    for kind in (datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone):
        named[f"datetime.{kind.__name__}"] = kind
    named |= {"decimal.Decimal": Decimal, "fractions.Fraction": Fraction, "uuid.UUID": uuid.UUID}
    named |= {"argparse.Namespace": argparse.Namespace, "types.SimpleNamespace": types.SimpleNamespace}
    named |= {"collections.defaultdict": _mapping, "collections.deque": _list}
    for place in ("pathlib", "pathlib._local"):
        named |= dict.fromkeys((f"{place}.PosixPath", f"{place}.PurePosixPath", f"{place}.Path"), PurePosixPath)
        named |= dict.fromkeys((f"{place}.WindowsPath", f"{place}.PureWindowsPath"), PureWindowsPath)
    for core in ("numpy.core", "numpy._core"):
        named |= {f"{core}.multiarray.scalar": _scalar, f"{core}.multiarray._reconstruct": _array}
    named |= {"numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype}
    named |= {
        f"numpy.dtypes.{type(np.dtype(code)).__name__}": type(np.dtype(code)) for code in "?bhilqBHILQefdgFDGSUMm"
    }
    named |= dict.fromkeys(_CONFIGURATIONS, OrderedDict)
    return [(kind, name) for name, kind in named.items()]
