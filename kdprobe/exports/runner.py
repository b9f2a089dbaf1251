"""Whatever runs an exported file, and how near it comes to the network."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from kdprobe.errors import ExportError


@dataclass(frozen=True)
class Runner:
    """A file that was read again.

    Attributes:
        name: what runs it, such as `onnxruntime 1.22.0`.
        forward: its input [B, c, s, s] -> its output.
        most: the most images that it is to be compared on.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    most: float = inf


@dataclass(frozen=True)
class Deviation:
    """How far a file's outputs are from the network's.

    Attributes:
        n_images: the number of images that both saw.
        difference: the largest absolute difference.
        largest: the largest absolute output of the network.
    """

    n_images: int
    difference: float
    largest: float

    def check(self, bound: float, name: str) -> None:
        """Refuse a file that is not the network.

        Args:
            bound: the largest difference allowed, as a fraction of the largest output.
            name: what ran the file.

        Raises:
            ExportError: if the difference is larger, or not a number.
        """
        if not self.difference <= bound * self.largest:
            raise ExportError(
                f"the file is not kept: its outputs, as {name} computes them, are up to {self.difference:.2g} away "
                f"from the network's, whose largest is {self.largest:.3g}; --bound {bound:g} allows "
                f"{bound * self.largest:.2g}"
            )


@torch.no_grad()
def deviation_of(file: Runner, network: nn.Module, inputs: Float32[Tensor, "n c s s"]) -> Deviation:
    """Compare a file with the network: the first image alone, then all others as one batch.

    Args:
        file: what runs it.
        network: on the CPU, in evaluation mode.
        inputs: what both take.
    """
    seen = inputs[: int(min(len(inputs), file.most))]
    batches = [batch for batch in (seen[:1], seen[1:]) if len(batch)]
    wanted = torch.cat([network(batch) for batch in batches])
    given = torch.cat([file.forward(batch) for batch in batches])
    if given.shape != wanted.shape:
        raise ExportError(
            f"the file is not kept: it gives {list(given.shape)} for {len(seen)} images, but the network "
            f"{list(wanted.shape)}"
        )
    return Deviation(len(seen), float((given - wanted).abs().max()), float(wanted.abs().max()))
