"""A frozen network that teaches: from images in [0, 1] of any size to the features that a method reads."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdprobe.data.loaders import Batch
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
        self._cached: Tensor | None = None
        if layout == torch.channels_last:
            self.stages.to(memory_format=layout)

    @torch.no_grad()
    def __call__(self, images: Tensor, index: Tensor) -> Features:
        """Features of images in [0, 1]; cached logits are looked up by the images' places in the training split."""
        if self._cached is not None:
            return Features(logits=self._cached[index])
        features: Features = self.stages(self.info.prepare(images).contiguous(memory_format=self.layout))
        return features

    def cache(self, batches: Iterable[Batch]) -> None:
        """Keep the logits of all training images, given in their order."""
        self._cached = torch.cat([self(batch.images, batch.index).logits for batch in batches])
