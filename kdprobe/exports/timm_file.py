"""`--format timm`: weights that `timm.create_model` loads; `kdprobe.load` reads them as well."""

import tempfile
from pathlib import Path
from typing import Any

import timm
from torch import nn

from kdprobe.errors import ExportError
from kdprobe.exports.network import NetworkAlone
from kdprobe.exports.runner import Runner
from kdprobe.models.checkpoint import save
from kdprobe.models.cifar import CIFAR_NAMES
from kdprobe.models.foreign.published import is_timms


def write_timm(network: NetworkAlone, path: Path) -> None:
    """Write the network's weights.

    Raises:
        ExportError: if it is no network of timm's, or is to be normalised inside.
    """
    name = network.info.name
    if ":" in name or name in CIFAR_NAMES or not is_timms(name):
        raise ExportError(f"timm has no network {name!r}; give --format torch or onnx, which need no code for it")
    if network.inside:
        raise ExportError("timm's networks take normalised images: give --normalise outside, or --format torch or onnx")
    save(network.network, path)


def run_timm(path: Path, network: NetworkAlone) -> Runner:
    """The network that timm makes of a file, whose name must end in `.safetensors` for that."""
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / "weights.safetensors"
        named.symlink_to(path.resolve())
        model: nn.Module = timm.create_model(network.info.name, checkpoint_path=named, **_arguments(network))
    return Runner(f"timm {timm.__version__}", model.eval())


def use_timm(path: Path, network: NetworkAlone) -> str:
    """How the file is used."""
    words = "".join(f", {key}={value!r}" for key, value in _arguments(network).items())
    return f"timm.create_model({network.info.name!r}{words}, checkpoint_path={str(path)!r})"


def _arguments(network: NetworkAlone) -> dict[str, Any]:
    """What the network's constructor gets; its input size only if it takes one."""
    info = network.info
    given = {"num_classes": info.n_classes, **info.args}
    return {**given, "img_size": info.image_size} if _is_sized(network) else given


def _is_sized(network: NetworkAlone) -> bool:
    try:
        timm.create_model(network.info.name, img_size=network.info.image_size, **network.info.args)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return False
    return True
