"""Student, auxiliary modules and losses as one module."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdprobe.distillers.base import Method, Progress
from kdprobe.models.stages import Features, Stages


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
