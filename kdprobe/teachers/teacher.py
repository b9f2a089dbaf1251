"""A frozen network that teaches: from images in [0, 1] of any size to the features that a method reads."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

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
        classes: places of the data's classes among its logits, where they are not all of them in their order.

    Attributes:
        info: what is known of it, with the classes that it teaches.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        needs: Iterable[Need],
        layout: torch.memory_format,
        classes: Sequence[int] | None = None,
    ) -> None:
        self.stages = Stages(network, needs=tuple(needs)).eval()
        self.info, self.layout, self.classes = model_info(network), layout, classes
        if classes is not None:
            self.info = replace(self.info, n_classes=len(classes), classes=())
        self._cached: Tensor | None = None
        if layout == torch.channels_last:
            self.stages.to(memory_format=layout)

    @torch.no_grad()
    def __call__(self, images: Tensor, index: Tensor) -> Features:
        """Features of images in [0, 1]; cached logits are looked up by the images' places in the training split."""
        if self._cached is not None:
            return Features(logits=self._cached[index])
        features: Features = self.stages(self.info.prepare(images).contiguous(memory_format=self.layout))
        return features if self.classes is None else _of_classes(features, self.classes)

    def cache(self, batches: Iterable[Batch]) -> None:
        """Keep the logits of all training images, given in their order."""
        self._cached = torch.cat([self(batch.images, batch.index).logits for batch in batches])


def _of_classes(features: Features, classes: Sequence[int]) -> Features:
    """Features whose logits, and those of the classifiers, are of some classes alone."""
    heads = tuple(_Chosen(head, classes) for head in features.heads)
    return replace(features, logits=features.logits[:, list(classes)], heads=heads)


class _Chosen(nn.Module):
    """A classifier for some of its classes: [..., d] -> [..., C]."""

    def __init__(self, head: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.head, self.classes = head, list(classes)

    def forward(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.head(pooled)
        return logits[..., self.classes]
