"""A frozen network that teaches: from images in [0, 1] of any size to the features that a method reads."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from kdprobe.devices import constant
from kdprobe.models import model_info
from kdprobe.models.facts import in_precision_of
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
        self.info, self.classes = model_info(network), classes
        self._channels_last = layout == torch.channels_last  # a memory format cannot be pickled
        if classes is not None:
            self.info = replace(self.info, n_classes=len(classes), classes=())
        if self._channels_last:
            self.stages.to(memory_format=layout)

    @property
    def layout(self) -> torch.memory_format:
        """Memory layout of its input."""
        return torch.channels_last if self._channels_last else torch.contiguous_format

    @torch.no_grad()
    def __call__(self, images: Tensor, view: Tensor | None = None) -> Features:
        """Features of images in [0, 1]; their views make a difference only to a teacher whose outputs are stored."""
        return self.of_classes(self.look(images))

    @torch.no_grad()
    def look(self, images: Tensor) -> Features:
        """Features with the logits of all its classes."""
        prepared = in_precision_of(self.stages.model, self.info.prepare(images))
        features: Features = self.stages(prepared.contiguous(memory_format=self.layout))
        return features

    def of_classes(self, features: Features) -> Features:
        """Features whose logits, and those of the classifiers, are of the data's classes alone."""
        if self.classes is None:
            return features
        heads = tuple(_Chosen(head, self.classes) for head in features.heads)
        logits = _columns(features.logits, self.classes) if features.logits.shape[1] else features.logits
        return replace(features, logits=logits, heads=heads)


class _Chosen(nn.Module):
    """A classifier for some of its classes: [..., d] -> [..., C]."""

    def __init__(self, head: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.head, self.classes = head, list(classes)

    @property
    def weight(self) -> Tensor:
        """The rows of these classes of a linear classifier's weight [C, d]."""
        weight: Tensor = self.head.weight  # type: ignore[assignment]
        return weight[_places(self.classes, weight.device)]

    def forward(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.head(pooled)
        return _columns(logits, self.classes)


def _columns(logits: Tensor, classes: Sequence[int]) -> Tensor:
    return logits[..., _places(classes, logits.device)]


def _places(classes: Sequence[int], device: torch.device) -> Tensor:
    return constant(tuple(classes), device, torch.int64)
