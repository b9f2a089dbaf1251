"""What is exported: a network alone, which takes images and gives one tensor."""

import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kdprobe import __version__
from kdprobe.errors import ExportError
from kdprobe.models.creation import ModelInfo, model_info, unwrap
from kdprobe.models.outputs import answer_in


class NetworkAlone(nn.Module):
    """A copy of a network, on the CPU and in evaluation mode.

    Args:
        network: it must have a description; it is not changed.
        inside: whether images are normalised here; otherwise they must come normalised.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, inside: bool) -> None:
        super().__init__()
        self.info: ModelInfo = model_info(network)
        self.inside = inside
        self.network = copy.deepcopy(unwrap(network)).cpu().requires_grad_(False)
        if inside:
            for name, values in (("mean", self.info.mean), ("std", self.info.std)):
                self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))
        self.eval()

    def forward(self, images: Float32[Tensor, "B c s s"]) -> Tensor:
        """Logits [B, C]; of a network without a head what it gives, such as features [B, d]."""
        seen = (images - self.mean) / self.std if self.inside else images
        return answer_in(self.network(seen), self.info)

    def prepare(self, images: Float32[Tensor, "B c s s"]) -> Tensor:
        """What it takes, from images in [0, 1]."""
        return images if self.inside else self.info.normalise(images)

    @property
    def input(self) -> str:
        """What it takes, in words."""
        shape = f"float32 [batch, {len(self.info.mean)}, {self.info.image_size}, {self.info.image_size}]"
        if self.inside:
            return f"{shape} in [0, 1], normalised inside"
        mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (self.info.mean, self.info.std))
        return f"{shape}, normalised outside: in [0, 1], minus ({mean}), divided by ({std})"

    @property
    def output(self) -> str:
        """What it gives, in a word."""
        return "logits" if self.info.n_classes else "features"

    def description(self) -> str:
        """JSON text for the file: what its user has to know, and what it was made of."""
        facts: dict[str, Any] = {key: getattr(self.info, key) for key in ("name", "args", "classes", "image_size")}
        facts |= {"mean": self.info.mean, "std": self.info.std, "normalise": "inside" if self.inside else "outside"}
        facts |= {"input": self.input, "output": self.output, "method": self.info.method}
        return json.dumps({**facts, "sha256": self.info.sha256, "kdprobe": __version__}, sort_keys=True)


def traced(network: NetworkAlone) -> ExportedProgram:
    """The network as torch's graph of operations, for batches of any size.

    It holds nothing of the machine that it was made on: paths of source files are left out.

    Raises:
        ExportError: if torch cannot trace it, or it works for one batch size only.
    """
    info = network.info
    image = torch.rand(2, len(info.mean), info.image_size, info.image_size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), in_silence():
            program = torch.export.export(network, (image,), dynamic_shapes=({0: Dim("batch", min=1)},))
    except Exception as error:
        raise ExportError(
            f"{info.name} cannot be traced for batches of any size, so there is only --format timm for it, if it is "
            f"timm's: {first_line(error)}"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


@contextmanager
def in_silence() -> Iterator[None]:
    """Inside `with`, torch keeps to itself what it writes about a translation: graphs, warnings, hints."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def first_line(error: Exception) -> str:
    """What an error says, cut to one line."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text[:200]
