"""Student, auxiliary modules and losses as one module, and what it makes of a batch."""

from collections.abc import Callable, Collection

import torch.nn.functional as F
from torch import Tensor, nn

from kdprobe.data.loaders import Batch
from kdprobe.distillers.base import Method, Progress
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Stages
from kdprobe.teachers.shuffling import answers_of_others
from kdprobe.teachers.stored_teacher import StoredTeacher
from kdprobe.teachers.teacher import Teacher
from kdprobe.training.freezing import frozen_in


class Objective(nn.Module):
    """From a batch to named loss terms.

    Args:
        student: the network that is trained.
        method: the distillation method; it owns the auxiliary modules.
        label_smoothing: that of the cross entropy.
        frozen: modules of the student that stay in eval mode, as `freeze` returned them.

    Raises:
        ModelError: if labels are to be smoothed that the method takes as they are.

    Attributes:
        head: name of the classifier, where it is given what enters it instead of images.
    """

    head: str | None = None

    def __init__(
        self, student: nn.Module, method: Method, *, label_smoothing: float = 0.0, frozen: Collection[str] = ()
    ) -> None:
        super().__init__()
        if label_smoothing and "smoothed" not in method.labels_may_be:
            raise ModelError(
                f"{type(method).__name__} classifies by a term of its own, in which labels are not smoothed; set "
                "training.label_smoothing=0 (in Python, label_smoothing=0)"
            )
        self.student = Stages(student, needs=method.student_needs)
        self.method = method
        self.label_smoothing, self.frozen = label_smoothing, frozen

    def train(self, mode: bool = True) -> "Objective":
        """As of any module; what is frozen stays in eval mode."""
        super().train(mode)
        for module in frozen_in(self.student.model, self.frozen):
            module.training = False
        return self

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
            images: normalised [B, 3, s, s]; with a `head`, what enters it, [B, d].
            labels: classes [B].
            teacher: its features of the same images.
            progress: how far training has come.
            soft_labels: [B, C], of mixed images; the cross entropy takes them instead of the classes.

        Returns:
            logits [B, C] and named terms, of which the cross entropy is one where there are classes.

        Raises:
            ModelError: for mixed images and a method that needs the class of each image.
        """
        if soft_labels is not None and "mixed" not in self.method.labels_may_be:
            raise ModelError(
                f"{type(self.method).__name__} learns from the class of each image, which mixed images do not have; "
                "set training.mixing.mixup=0 and training.mixing.cutmix=0 (in Python, give classes [B] for labels)"
            )
        features = self.student(images) if self.head is None else self._after(self.head, images)
        logits = self.method.logits(features).float()
        terms = {}
        if logits.shape[1]:
            terms["ce"] = self.method.ce_weight * self._cross_entropy(logits, labels, soft_labels)
        return logits, terms | self.method(features, teacher, labels, progress)

    def _after(self, head: str, pooled: Tensor) -> Features:
        classifier = self.student.model.get_submodule(head)
        return Features(classifier(pooled), pooled, heads=(classifier,))

    def _cross_entropy(self, logits: Tensor, labels: Tensor, soft_labels: Tensor | None) -> Tensor:
        if soft_labels is not None:
            return F.cross_entropy(logits, soft_labels)
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


def losses(
    objective: nn.Module,
    method: Method,
    teacher: Teacher | StoredTeacher | None,
    batch: Batch,
    soft_labels: Tensor | None,
    progress: Progress,
    *,
    prepare: Callable[[Tensor], Tensor],
    others: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The method's views of a batch through the teacher first, then through student and losses as one module.

    Args:
        objective: an `Objective`, or what wraps it.
        method: the objective's.
        teacher: None for a method without one.
        batch: images in [0, 1].
        soft_labels: [B, C], of mixed images.
        progress: how far training has come.
        prepare: turns images in [0, 1] into the student's input.
        others: places [B] of the images whose features of the teacher each image gets instead of its own.

    Returns:
        logits [k B, C] of all views, and named terms.
    """
    images, shown, labels = method.inputs(batch)
    view = batch.view if shown is batch.images else None
    features = None if teacher is None else teacher(shown, view)
    if features is not None and others is not None:
        features = answers_of_others(features, others, n_views=len(labels) // len(others))
    if soft_labels is not None and len(labels) != len(soft_labels):
        soft_labels = soft_labels.repeat(len(labels) // len(soft_labels), 1)
    found: tuple[Tensor, dict[str, Tensor]] = objective(prepare(images), labels, features, progress, soft_labels)
    return found
