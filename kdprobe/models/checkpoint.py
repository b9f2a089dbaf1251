"""Checkpoints that describe themselves: weights in safetensors, everything needed to use them in the metadata.

The file's metadata hold one key, `kdprobe`, whose JSON text says

    format, version    "kdprobe-checkpoint", 1
    model              the `ModelInfo`: name, arguments, classes, input size, mean, std, data, method
    training           epoch, metrics, kdprobe version

so that `load` needs no other file. One key, because safetensors does not keep the order of several.
Foreign weights are read with `weights_only=True`: a file that would run code is refused.
"""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from kdprobe import __version__
from kdprobe.data.cifar import STATISTICS
from kdprobe.devices import pick_device
from kdprobe.errors import CheckpointError, ModelError, near_matches
from kdprobe.files import replacing, sha256
from kdprobe.models import cifar_resnet
from kdprobe.models.create import IMAGENET_MEAN, IMAGENET_STD, ModelInfo, attach, create, describe, relabel

FORMAT = "kdprobe-checkpoint"
VERSION = 1
LAST, BEST, AUXILIARY = "last.safetensors", "best.safetensors", "auxiliary.safetensors"

_WRAPPERS = ("state_dict", "model_state_dict", "model", "student", "net")
_CLASSIFIERS = ("fc", "head", "classifier", "head.fc", "linear", "last_linear", "classif")


def save(model: nn.Module, path: Path, *, training: Mapping[str, Any] | None = None) -> None:
    """Write a network with its description, as a whole.

    Args:
        model: from `create` or `load`.
        path: a `.safetensors` file.
        training: epoch, metrics: JSON values.
    """
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "model": describe(model).to_json(),
        "training": {"kdprobe": __version__, **(training or {})},
    }
    save_tensors(model.state_dict(), path, meta)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, meta: Mapping[str, Any]) -> None:
    """Write named tensors with JSON metadata, as a whole; the same content gives the same bytes."""
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(serialize(contiguous, {"kdprobe": json.dumps(meta, sort_keys=True)}))


def read_meta(path: Path) -> dict[str, Any]:
    """The metadata of one of our `.safetensors` files.

    Raises:
        CheckpointError: if the file is missing, damaged, foreign or of another version.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("kdprobe")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or not a safetensors file: {error}") from error
    if text is None:
        raise CheckpointError(f"{path} was not written by kdprobe; give a model's name with it: NAME@{path.name}")
    try:
        meta = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: its metadata cannot be read ({error})") from error
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path} is damaged: its metadata are a {type(meta).__name__}")
    if meta.get("version") != VERSION:
        raise CheckpointError(f"{path} has format version {meta.get('version')}; this kdprobe reads {VERSION}")
    return meta


def load(
    spec: str | Path,
    *,
    model: str | None = None,
    n_classes: int | None = None,
    image_size: int | None = None,
    args: dict[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """A trained network in eval mode, with its description (`kdprobe.models.describe`).

    Args:
        spec: a run folder (its last epoch), a `.safetensors` of ours, `timm:NAME` (published weights), a foreign
            weights file together with `model`, or the same as one word, `NAME@FILE`.
        model: name of the network that foreign weights belong to.
        n_classes: of foreign weights; read from the classifier's shape if not given.
        image_size: input side of a foreign or timm network; its own default if not given.
        args: further constructor arguments of a foreign network.
        mean: per channel, that the input of a foreign or timm network is standardised with; if not given, that of
            its published weights, for a CIFAR ResNet with 10 or 100 classes CIFAR's, else ImageNet's.
        std: per channel, likewise.
        device: where to put it; `auto`: the first CUDA device where there is one, else the CPU.

    Raises:
        CheckpointError: if the file is missing, damaged, foreign without a name, does not fit, or would run code.
        ModelError: for an unknown name.
    """
    text, place = str(spec), pick_device(device)
    if model is None and "@" in text and not Path(text).exists():
        model, _, text = text.partition("@")
    if text.startswith("timm:"):
        loaded = _load_timm(text.removeprefix("timm:"), image_size)
    elif model is not None:
        loaded = _load_foreign(Path(text), model, n_classes, image_size, args or {})
    else:
        return _load_own(_checkpoint_path(Path(text))).to(place).eval()
    given = {"mean": mean, "std": std}
    relabel(loaded, **{key: tuple(values) for key, values in given.items() if values is not None})
    return loaded.to(place).eval()


def _checkpoint_path(path: Path) -> Path:
    if not path.is_dir():
        return path
    if not (path / LAST).is_file():
        raise CheckpointError(f"{path} is not a run folder with a finished epoch: it has no {LAST}")
    return path / LAST


def _load_own(path: Path) -> nn.Module:
    if path.is_file() and path.suffix != ".safetensors":
        raise CheckpointError(f"{path} is not a .safetensors file; give a model's name with it: NAME@{path.name}")
    meta = read_meta(path)
    if meta.get("format") != FORMAT:
        raise CheckpointError(f"{path} holds {meta.get('format')!r}, not a network")
    try:
        info = ModelInfo.from_json(meta["model"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: its metadata do not describe a network ({error})") from error
    model = create(info.name, n_classes=info.n_classes, image_size=info.image_size, args=info.args)
    _fill(model, load_file(path), path)
    return attach(model, replace(info, sha256=sha256(path)))


def _load_timm(name: str, image_size: int | None) -> nn.Module:
    if not timm.is_model(name.partition(".")[0]):
        raise ModelError(f"no timm model {name!r}{near_matches(name, timm.list_models())}")
    config = _published(name)
    if config is None or not config.has_weights:
        raise CheckpointError(f"timm has no published weights for {name!r}")
    size = image_size or config.input_size[-1]
    return create(
        name, n_classes=config.num_classes, image_size=size, pretrained=True, mean=config.mean, std=config.std
    )


def _published(name: str) -> Any:
    """What timm says of a network's published weights; None where it has none."""
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # for an unknown tag
        raise ModelError(
            f"no timm model {name!r}{near_matches(name, timm.list_pretrained(name.partition('.')[0] + '.*'))}"
        ) from error


def _load_foreign(
    path: Path, name: str, n_classes: int | None, image_size: int | None, args: dict[str, Any]
) -> nn.Module:
    tensors = _read_foreign(path)
    config = _published(name) if timm.is_model(name.partition(".")[0]) else None
    size = image_size or (config.input_size[-1] if config else 32)
    if n_classes is None:
        n_classes = _count_classes(tensors, path)
    mean, std = (config.mean, config.std) if config else (IMAGENET_MEAN, IMAGENET_STD)
    if name in cifar_resnet.NAMES:
        mean, std = STATISTICS.get(n_classes, (mean, std))
    model = create(name, n_classes=n_classes, image_size=size, args=args, mean=mean, std=std)
    counters = {key: value for key, value in model.state_dict().items() if key.endswith("num_batches_tracked")}
    _fill(model, {**counters, **tensors}, path)  # older files have none, and evaluation needs none
    return attach(model, replace(describe(model), sha256=sha256(path)))


def _read_foreign(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            return _plainly_named(load_file(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on old pickles, which are read or refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is refused: loading it could run code ({_first_sentence(error)})") from error
    except (SafetensorError, RuntimeError, EOFError, OSError, zipfile.BadZipFile, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or not a weights file ({_first_sentence(error)})") from error
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not named tensors")
    return _plainly_named(content)


def _plainly_named(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Without the prefixes of `torch.compile` and of data parallel training."""
    bare = {re.sub(r"\b_orig_mod\.", "", str(key)): value for key, value in content.items()}
    return {re.sub(r"^(module\.)+", "", key): value for key, value in bare.items() if isinstance(value, Tensor)}


def _count_classes(tensors: Mapping[str, Tensor], path: Path) -> int:
    for name in _CLASSIFIERS:
        weight = tensors.get(f"{name}.weight")
        if weight is not None and weight.ndim == 2:
            return weight.shape[0]
    raise CheckpointError(f"the number of classes cannot be read from {path}; give n_classes")


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    expected = model.state_dict()
    missing = [name for name in expected if name not in tensors]
    surplus = [name for name in tensors if name not in expected]
    shapes = [name for name in expected if name in tensors and expected[name].shape != tensors[name].shape]
    problems = [
        f"{what} {names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for what, names in (("lacks", missing), ("has a surplus", surplus), ("has another shape of", shapes))
        if names
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit {describe(model).name}: it " + ", ".join(problems))
    model.load_state_dict(dict(tensors))


def _first_sentence(error: Exception) -> str:
    return " ".join(str(error).split()).partition(". ")[0][:160]
