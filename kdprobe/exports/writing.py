"""Writing a network to a file of another program's format; what does not equal the network is not kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from kdprobe.errors import ExportError
from kdprobe.exports.network import NetworkAlone
from kdprobe.exports.onnx_file import run_onnx, use_onnx, write_onnx
from kdprobe.exports.runner import Deviation, Runner, deviation_of
from kdprobe.exports.timm_file import run_timm, use_timm, write_timm
from kdprobe.exports.torch_file import run_torch, use_torch, write_torch
from kdprobe.files import replacing

BOUND = 1e-4


class Exporter(NamedTuple):
    """How a network is written, read again and used."""

    suffix: str
    inside: bool  # whether images are normalised inside if nothing is said
    write: Callable[[NetworkAlone, Path], None]
    run: Callable[[Path, NetworkAlone], Runner]
    use: Callable[[Path, NetworkAlone], str]


EXPORTERS = {
    "onnx": Exporter(".onnx", True, write_onnx, run_onnx, use_onnx),
    "torch": Exporter(".pt2", True, write_torch, run_torch, use_torch),
    "timm": Exporter(".safetensors", False, write_timm, run_timm, use_timm),
}


@dataclass(frozen=True)
class Exported:
    """A file that equals its network.

    Attributes:
        path: where it is.
        input: what it takes, in words.
        output: what it gives, in words.
        runner: what ran it.
        difference: how far its outputs are from the network's.
        bound: the largest difference that was allowed, as a fraction of the largest output.
        use: a line of Python that uses it.
    """

    path: Path
    input: str
    output: str
    runner: str
    difference: Deviation
    bound: float
    use: str


def export(
    model: nn.Module,
    path: str | Path,
    images: Float32[Tensor, "n c s s"],
    *,
    format: Literal["onnx", "torch", "timm"],
    normalise: Literal["inside", "outside"] | None = None,
    bound: float = BOUND,
    overwrite: bool = False,
) -> Exported:
    """Write a network alone to a file, and keep the file if it gives what the network gives.

    Both compute on the CPU in float32; the first image is shown alone, the others as one batch.

    Args:
        model: from `kdprobe.load` or `kdprobe.models.create`, or described; it is not changed.
        path: the file; it ends as `EXPORTERS` says.
        images: in [0, 1] and of the network's input size, at least one.
        format: `onnx`; `torch`, which is torch.export's; or `timm`, weights for `timm.create_model`.
        normalise: whether images are normalised inside the file, or must come normalised; inside if not given, but
            outside for timm.
        bound: the largest difference allowed, as a fraction of the largest absolute output.
        overwrite: replace whatever has the file's name.

    Raises:
        ExportError: if the network cannot be written so, the file exists, or it differs from the network.
        FileError: if it cannot be written.
        ModelError: if the network gives no single tensor.
    """
    path, of = Path(path), EXPORTERS[format]
    permit_export(path, format, overwrite=overwrite)
    network = NetworkAlone(model, inside=of.inside if normalise is None else normalise == "inside")
    inputs = network.prepare(images.cpu())
    with torch.no_grad():
        sizes = ", ".join(map(str, network(inputs[:1]).shape[1:]))
    output = f"{network.output} [batch, {sizes}]"
    with replacing(path) as temporary:
        of.write(network, temporary)
        file = of.run(temporary, network)
        found = deviation_of(file, network, inputs)
        found.check(bound, file.name)
    return Exported(path, network.input, output, file.name, found, bound, of.use(path, network))


def permit_export(path: Path, format: str, *, overwrite: bool = False) -> None:
    """Find out whether a file may be written, before anything is computed.

    Raises:
        ExportError: if its name does not end as the format's do, or something has its name.
    """
    suffix = EXPORTERS[format].suffix
    if path.suffix != suffix:
        raise ExportError(f"files of --format {format} end in {suffix}, but --out is {path}")
    if path.exists() and not (overwrite and path.is_file()):
        raise ExportError(f"{path} exists already; give another name, remove it, or give --overwrite")
