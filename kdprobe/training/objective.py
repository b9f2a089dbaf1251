"""What a batch is shown to: the frozen teacher; and student, auxiliary modules and losses as one module."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdprobe.data.loaders import Batch
from kdprobe.distillers.base import Method, Progress
from kdprobe.models import describe
from kdprobe.models.stages import Features, Need, Stages


class Teacher:
    """A frozen network, which normalises the images that it is shown.

    Args:
        network: a network whose facts are known.
        needs: as of `Stages`.
        layout: memory layout of its input.
    """

    def __init__(self, network: nn.Module, *, needs: Iterable[Need], layout: torch.memory_format) -> None:
        self.stages = Stages(network, needs=tuple(needs)).eval()
        self.info, self.layout = describe(network), layout
        self._cached: Tensor | None = None
        if layout == torch.channels_last:
            self.stages.to(memory_format=layout)

    @torch.no_grad()
    def __call__(self, images: Tensor, index: Tensor) -> Features:
        """Features of images in [0, 1]; cached logits are looked up by the images' places in the training split."""
        if self._cached is not None:
            return Features(logits=self._cached[index])
        features: Features = self.stages(self.info.normalise(images).contiguous(memory_format=self.layout))
        return features

    def cache(self, batches: Iterable[Batch]) -> None:
        """Keep the logits of all training images, given in their order."""
        self._cached = torch.cat([self(batch.images, batch.index).logits for batch in batches])


class Objective(nn.Module):
    """From a batch to named loss terms.

    Args:
        student: the network that is trained.
        method: the distillation method; it owns the auxiliary modules.
        label_smoothing: that of the cross entropy.
    """

    def __init__(self, student: nn.Module, method: Method, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.student = Stages(student, needs=method.student_needs)
        self.method = method
        self.label_smoothing = label_smoothing

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        teacher: Features | None,
        progress: Progress,
        soft_labels: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss terms of one batch.

        Args:
            images: normalised [B, 3, s, s].
            labels: classes [B].
            teacher: its features of the same images.
            progress: how far training has come.
            soft_labels: [B, C], of mixed images; the cross entropy takes them instead of the classes.

        Returns:
            logits [B, C] and named terms.
        """
        features = self.student(images)
        logits = self.method.logits(features).float()
        if soft_labels is None:
            cross_entropy = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        else:
            cross_entropy = F.cross_entropy(logits, soft_labels)
        terms = {"ce": self.method.ce_weight * cross_entropy}
        return logits, terms | self.method(features, teacher, labels, progress)
