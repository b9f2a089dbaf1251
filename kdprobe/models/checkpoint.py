"""Checkpoints that describe themselves: weights in safetensors, and in the metadata everything needed to use them.

The file's metadata has one key, `kdprobe`, whose JSON text says

    format, version    "kdprobe-checkpoint", 1
    model              the `ModelInfo`: name, arguments, classes, input size, mean, std, data, method
    training           epoch, metrics, kdprobe version
    tensors_sha256     hash of the tensors' names, types, shapes and values, which is checked when they are read

so `load` needs no other file. It is one key because safetensors does not keep the order of several.
Weights from elsewhere are read by `kdprobe.models.foreign.loading`.
"""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import h5py
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from kdprobe import __version__
from kdprobe.devices import pick_device
from kdprobe.errors import CheckpointError, RunError
from kdprobe.files import replacing, sha256
from kdprobe.formats.counts import counted
from kdprobe.formats.parsing import parsing
from kdprobe.models.building import is_of_a_function
from kdprobe.models.cifar import CIFAR_NAMES
from kdprobe.models.creation import (
    ANATOMY,
    ModelInfo,
    attach,
    create,
    model_info,
    published_view,
    relabel,
    unwrap,
)
from kdprobe.models.description import describe, recount
from kdprobe.models.foreign.loading import load_foreign
from kdprobe.models.foreign.published import is_timms, published
from kdprobe.models.foreign.weights import is_safetensors, refuse_broken
from kdprobe.models.identity import tensors_sha256
from kdprobe.models.rebuilding import misfits, rebuildable
from kdprobe.runs.folder import RunFolder
from kdprobe.user_code import trusting

FORMAT = "kdprobe-checkpoint"
VERSION = 1
LAST, BEST, AUXILIARY = "last.safetensors", "best.safetensors", "auxiliary.safetensors"


def save(model: nn.Module, path: Path, *, training: Mapping[str, Any] | None = None) -> None:
    """Write a network with its description, completely or not at all.

    Args:
        model: from `create` or `load`, or described by `kdprobe.describe`.
        path: a `.safetensors` file.
        training: epoch and metrics, as JSON values.

    Raises:
        ModelError: if the file could not be loaded, as what is known of the network does not build it again.

    Example:
        >>> from pathlib import Path
        >>> from kdprobe.models import create, load, model_info, save
        >>> save(create("resnet8", n_classes=10, image_size=16), Path("student.safetensors"))
        >>> model_info(load("student.safetensors")).image_size
        16
    """
    save_tensors(unwrap(model).state_dict(), path, _described(model, training))


def packed(model: nn.Module, *, training: Mapping[str, Any] | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` would write now, for `save_tensors` to write later: the tensors, copied, and the metadata."""
    tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in unwrap(model).state_dict().items()}
    return tensors, _described(model, training)


def _described(model: nn.Module, training: Mapping[str, Any] | None) -> dict[str, Any]:
    said = {"kdprobe": __version__, **(training or {})}
    return {"format": FORMAT, "version": VERSION, "model": rebuildable(model).to_json(), "training": said}


def save_tensors(tensors: Mapping[str, Tensor], path: Path, meta: Mapping[str, Any]) -> None:
    """Write named tensors with JSON metadata, completely or not at all; the same content gives the same bytes."""
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    meta = {**meta, "tensors_sha256": tensors_sha256(contiguous)}
    with replacing(path) as temporary:
        temporary.write_bytes(serialize(contiguous, {"kdprobe": json.dumps(meta, sort_keys=True)}))


def read_meta(path: Path) -> dict[str, Any]:
    """The metadata of one of our `.safetensors` files.

    Raises:
        CheckpointError: if the file is missing, damaged, foreign or of another format version.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("kdprobe")
    except Exception as error:  # whatever a damaged header makes safetensors raise
        raise CheckpointError(f"{path} is truncated or not a safetensors file: {error}") from error
    if text is None:
        raise CheckpointError(f"{path} was not written by kdprobe; give a model's name with it: NAME@{path.name}")
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its metadata cannot be read ({error})") from error
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path} is damaged: its metadata is a {type(meta).__name__}")
    if meta.get("version") != VERSION:
        raise CheckpointError(f"{path} has format version {meta.get('version')}; this kdprobe reads {VERSION}")
    return meta


def read_info(path: Path) -> ModelInfo:
    """What one of our checkpoints says about its network, without building it.

    Raises:
        CheckpointError: if the file is missing, damaged, foreign or of another format version.
    """
    return _info(read_meta(path), path)


def _info(meta: Mapping[str, Any], path: Path) -> ModelInfo:
    try:
        return ModelInfo.from_json(meta["model"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: its metadata does not describe a network ({error})") from error


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors of one of our `.safetensors` files, checked against their recorded hashes.

    Raises:
        CheckpointError: if the file is missing, damaged, foreign or of another format version, or does not match its
            own hash or the hash in the result of its run.
    """
    meta = read_meta(path)
    with parsing(path, CheckpointError, expected="a safetensors file"):
        tensors = load_file(path)
    recorded = meta.get("tensors_sha256")
    if recorded is not None and recorded != (found := tensors_sha256(tensors)):
        raise CheckpointError(
            f"{path} is damaged: its tensors' sha256 is {found}, but was {recorded} when it was saved"
        )
    recorded = _recorded_sha256(path)
    if recorded is not None and recorded != (found := sha256(path)):
        raise CheckpointError(
            f"{path} is damaged or of another run: its sha256 is {found}, but result.json says {recorded}"
        )
    return meta, tensors


def load(
    spec: str | Path,
    *,
    model: str | None = None,
    n_classes: int | None = None,
    image_size: int | None = None,
    default_size: int | None = None,
    args: dict[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    stages: Sequence[str] | None = None,
    classifier: str | None = None,
    prefix_tokens: int | None = None,
    output: str | int | None = None,
    device: str | torch.device = "cpu",
    trust: Iterable[str] = (),
    named_by: str | Path | None = None,
) -> nn.Module:
    """A trained network in eval mode, with its description (`kdprobe.models.model_info`).

    A warning says where a run is not finished, or where ImageNet's mean and std are assumed for want of others.

    Args:
        spec: a run folder (its last epoch), a `.safetensors` of ours, `timm:NAME` (published weights), a foreign
            weights file together with `model`, or the same as one word, `NAME@FILE`; where the file holds several
            networks, `FILE#KEY`.
        model: name of the network that foreign weights belong to.
        n_classes: number of classes of foreign weights; read from the shape of the classifier if not given; 0 for a
            network without one.
        image_size: input side of a foreign or timm network; that of the file's position embeddings, or the default,
            if not given.
        default_size: input side of a foreign network whose file does not show it; that of its published weights, or
            32, if not given.
        args: further constructor arguments of a foreign network.
        mean: mean of each channel, with which the input of a foreign or timm network is standardised; if not given,
            that of its published weights, CIFAR's for a CIFAR ResNet with 10 or 100 classes, else ImageNet's.
        std: standard deviation of each channel, likewise.
        stages: as `kdprobe.describe` takes it; so are the next three.
        classifier: the module that gives the logits.
        prefix_tokens: number of tokens in front of the patch tokens.
        output: the field of its output that holds the logits.
        device: the device to put it on; `auto` is the first CUDA device if there is one, else the CPU.
        trust: modules whose code the checkpoint may name, such as that of a network of your own.
        named_by: the file that holds `spec`, if the person at the keyboard did not give it.

    Raises:
        TrustError: if a file names code of a module that is not trusted.
        CheckpointError: if the file is missing or damaged, is foreign and comes without a name, does not fit, or would
            run code.
        ModelError: for an unknown name.

    Example:
        >>> from pathlib import Path
        >>> import kdprobe
        >>> from kdprobe.models import create, model_info, save
        >>> save(create("resnet8", n_classes=10, image_size=16), Path("student.safetensors"))
        >>> model = kdprobe.load("student.safetensors")
        >>> model_info(model).name, model_info(model).n_classes, model.training
        ('resnet8', 10, False)
    """
    place = pick_device(device)
    text, kind = str(spec), _kind(spec) if model is None else "foreign"
    facts = {"n_classes": n_classes, "image_size": image_size, "args": args, "mean": mean, "std": std}
    if unknown := [key for key, value in facts.items() if value is not None and key not in FACTS[kind]]:
        if kind == "own":
            read_info(_own_path(text))
        raise CheckpointError(f"{text} specifies its own {unknown[0]}; leave it out, or give weights as NAME@FILE")
    if kind == "foreign" and model is None:
        model, _, text = text.partition("@")
    with trusting(trust):
        if model is not None:
            options: dict[str, Any] = {"n_classes": n_classes, "image_size": image_size, "args": args}
            assumed = [key for key in ("mean", "std") if facts[key] is None]
            loaded = load_foreign(text, model, **options, default_size=default_size, assumed=assumed, named_by=named_by)
            if n_classes is None and is_of_a_function(model):
                recount(loaded, output)
        elif kind == "timm":
            loaded = _load_timm(text.removeprefix("timm:"), image_size)
        else:
            loaded = _load_own(_own_path(text))
    given = {"mean": mean, "std": std}
    for key, values in given.items():
        if values is not None and max(map(abs, values), default=0) > 1:
            raise CheckpointError(
                f"{key} is for images in [0, 1], but is {','.join(f'{v:g}' for v in values)}; divide values for "
                f"pixels from 0 to 255 by 255: {','.join(f'{value / 255:.4g}' for value in values)}"
            )
    if remark := model_info(loaded).remark:
        warnings.warn(remark, UserWarning, stacklevel=2)
    relabel(loaded, **{key: tuple(values) for key, values in given.items() if values is not None})
    info = model_info(loaded)
    if len(info.mean) != len(info.std):
        raise CheckpointError(
            f"{spec}: mean and std must have the same number of channels, but are {info.mean} and {info.std}"
        )
    loaded.to(place).eval()
    return describe(loaded, stages=stages, classifier=classifier, prefix_tokens=prefix_tokens, output=output)


def facts_for(specs: Sequence[str], told: Mapping[str, Any], roles: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The facts that a user gives, for each of several checkpoints those that its file does not hold itself.

    Args:
        specs: as `load` takes them.
        told: `n_classes`, `image_size`, `mean`, `std`, `args`, as far as given, for all that need them; under `teacher`
            and `student` those for one alone.
        roles: the role of each checkpoint.

    Raises:
        CheckpointError: for a fact that none of them needs.
    """
    plain = {key: value for key, value in told.items() if key not in ROLES}
    alone = [told.get(role, {}) for role in roles] or [{} for _ in specs]
    if lonely := [role for role in ROLES if told.get(role) and role not in roles]:
        raise CheckpointError(f"{next(iter(told[lonely[0]]))} of the {lonely[0]} was given, but no {lonely[0]}")
    wanted = [{**plain, **of_one} for of_one in alone]
    given = [
        {key: value for key, value in facts.items() if takes(spec, key)}
        for spec, facts in zip(specs, wanted, strict=True)
    ]
    for spec, of_one in zip(specs, alone, strict=True):
        _refuse_untaken(of_one, [spec])
    _refuse_untaken(plain, specs)
    return given


def _refuse_untaken(facts: Iterable[str], specs: Sequence[str]) -> None:
    """Refuse facts that none of the checkpoints takes; a file that is no checkpoint at all is reported first."""
    for key in facts:
        if any(takes(spec, key) for spec in specs):
            continue
        for spec in specs:
            if _kind(spec) == "own":
                read_info(_own_path(spec))  # reports a file that is no checkpoint of ours
        raise CheckpointError(
            f"{key} was given, but {' and '.join(specs)} {'specify their' if len(specs) > 1 else 'specifies its'} own; "
            "it is only for weights given as NAME@FILE"
        )


ROLES = ("teacher", "student")

#: the facts that `load` takes for each kind of checkpoint
FACTS = {
    "own": ANATOMY,
    "timm": ("image_size", "mean", "std", *ANATOMY),
    "foreign": ("n_classes", "image_size", "default_size", "args", "mean", "std", *ANATOMY),
}


def _kind(spec: str | Path) -> Literal["own", "timm", "foreign"]:
    text = str(spec)
    if "@" in text and not Path(text).exists():
        return "foreign"
    return "timm" if text.startswith("timm:") else "own"


def takes(spec: str | Path, fact: str) -> bool:
    """Whether `load` takes a fact for a checkpoint, because its file does not hold it."""
    return fact in FACTS[_kind(spec)]


def is_foreign(spec: str | Path) -> bool:
    """Whether a checkpoint is given as NAME@FILE."""
    return _kind(spec) == "foreign"


def _checkpoint_path(path: Path) -> Path:
    if not path.is_dir():
        return path
    if not (path / LAST).is_file():
        if RunFolder(path).finished:
            raise CheckpointError(f"the run {path} is finished, but its {LAST} is missing; give another of its files")
        raise CheckpointError(f"{path} is not a run folder with a saved epoch: it has no {LAST}")
    return path / LAST


def _own_path(spec: str) -> Path:
    """The file of one of our checkpoints, unless its name alone shows that it is none."""
    path = _checkpoint_path(Path(spec))
    if not path.exists() and (spec in CIFAR_NAMES or is_timms(spec)):
        raise CheckpointError(f"there is no checkpoint {spec}: a network's name has no weights; give {spec}@FILE")
    if path.is_file() and h5py.is_hdf5(path):
        raise CheckpointError(f"{path} is an HDF5 file, as dumps of features are, and no network; give the run itself")
    if path.is_file() and path.suffix != ".safetensors" and not is_safetensors(path):
        raise CheckpointError(f"{path} is not a .safetensors file; give a model's name with it: NAME@{path.name}")
    return path


def _load_own(path: Path) -> nn.Module:
    meta, tensors = read_tensors(path)
    if meta.get("format") != FORMAT:
        raise CheckpointError(f"{path} holds {meta.get('format')!r}, not a network")
    info = _info(meta, path)
    model = create(info.name, n_classes=info.n_classes, image_size=info.image_size, args=info.args, named_by=path)
    _fill(model, tensors, path)
    return attach(model, replace(info, sha256=sha256(path), remark=_unfinished(path, meta)))


def _unfinished(path: Path, meta: Mapping[str, Any]) -> str:
    """What has to be known of the weights of a run that is not finished, or finished with others; mostly empty."""
    folder, training = RunFolder(path.parent), meta.get("training")
    if path.name not in (LAST, BEST) or not folder.config_path.is_file():
        return ""
    epoch = training.get("epoch") if isinstance(training, dict) else None
    try:
        planned = folder.values()["training"]["epochs"]
        trained = folder.result(["epochs"])["epochs"] if folder.finished else None
    except RunError as error:
        return f"whether the run of {path} is finished is not known: {error}"
    if trained is None:
        of = counted(planned, "epoch")
        return f"the run {path.parent} is {folder.state}: {path.name} is its network after {epoch} of {of}"
    if path.name == LAST and epoch is not None and epoch != trained:
        return f"{path} is the network after {counted(epoch, 'epoch')}, but result.json of its run is of {trained}"
    return ""


def _load_timm(name: str, image_size: int | None) -> nn.Module:
    config = published(name)
    if config is None or not config.has_weights:
        raise CheckpointError(f"timm has no published weights for {name!r}")
    size = image_size or config.input_size[-1]
    model = create(
        name, n_classes=config.num_classes, image_size=size, pretrained=True, mean=config.mean, std=config.std
    )
    return relabel(model, view=published_view(config.to_dict()))


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    expected = model.state_dict()
    if problems := misfits(expected, tensors):
        raise CheckpointError(f"{path} does not fit {model_info(model).name}: it " + ", ".join(problems))
    refuse_broken(tensors, expected, path)
    with parsing(path, CheckpointError, expected=f"weights of {model_info(model).name}"):
        model.load_state_dict(dict(tensors))


def _recorded_sha256(path: Path) -> str | None:
    """The sha256 that the result of a file's run holds for it; None if it holds none."""
    for folder in (path.parent, path.parent.parent):
        try:
            result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
            if result["format"] == "kdprobe-run" and (
                found := result["sha256"].get(path.relative_to(folder).as_posix())
            ):
                return str(found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue  # no result of a run; `kdprobe runs verify` reports a damaged one
    return None
