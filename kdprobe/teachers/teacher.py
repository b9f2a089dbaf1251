"""A frozen network that teaches: from images in [0, 1] of any size to the features that a method reads."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdprobe.models import model_info
from kdprobe.models.stages import Features, Need, Stages


class Teacher:
    """A frozen network, which brings the images that it is shown to its own size and standardises them.

    Args:
        network: a network whose facts are known.
        needs: as of `Stages`.
        layout: memory layout of its input.
    """

    def __init__(self, network: nn.Module, *, needs: Iterable[Need], layout: torch.memory_format) -> None:
        self.stages = Stages(network, needs=tuple(needs)).eval()
        self.info, self.layout = model_info(network), layout
        if layout == torch.channels_last:
            self.stages.to(memory_format=layout)

    @torch.no_grad()
    def __call__(self, images: Tensor, view: Tensor | None = None) -> Features:
        """Features of images in [0, 1]; their views make a difference only to a teacher whose outputs are stored."""
        features: Features = self.stages(self.info.prepare(images).contiguous(memory_format=self.layout))
        return features
