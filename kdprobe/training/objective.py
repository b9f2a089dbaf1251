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
            logits [B, C] and named terms, of which the cross entropy is one where there are classes.
        """
        features = self.student(images)
        logits = self.method.logits(features).float()
        terms = {}
        if logits.shape[1]:
            terms["ce"] = self.method.ce_weight * self._cross_entropy(logits, labels, soft_labels)
        return logits, terms | self.method(features, teacher, labels, progress)

    def _cross_entropy(self, logits: Tensor, labels: Tensor, soft_labels: Tensor | None) -> Tensor:
        if soft_labels is not None:
            return F.cross_entropy(logits, soft_labels)
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
