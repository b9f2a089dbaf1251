"""Self-cure: weigh uncertain faces down, and give the surely mislabelled ones another label.

Reference:
    K. Wang, X. Peng, J. Yang, S. Lu and Y. Qiao, "Suppressing uncertainties for large-scale facial expression
    recognition", CVPR 2020.
"""

from collections.abc import Callable, Collection
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.data.loaders import Batch
from kdprobe.distillers.base import Method, Progress, needs_pooled
from kdprobe.distillers.search import Uniform, around_weight, ranges
from kdprobe.distillers.widen import widened
from kdprobe.models.stages import Features, Shapes


@widened
def rank_regularisation(
    weights: Float[Tensor, "batch ..."], *, beta: float = 0.7, margin: float = 0.07
) -> Float[Tensor, ""]:
    """How much the mean of the largest weights fails to exceed that of the rest by the margin.

    Args:
        weights: importance of each sample, in (0, 1), [B] or [B, 1].
        beta: fraction of the batch in the high group, rounded down.
        margin: wanted difference of the two means.

    Returns:
        a scalar in [0, margin + 1]; zero where one group is empty, as a batch too small has nothing to rank.
    """
    ranked = weights.flatten().sort(descending=True).values
    n_high = int(beta * len(ranked))
    high, low = ranked[:n_high], ranked[n_high:]
    if not len(high) or not len(low):
        return 0 * ranked.sum()
    return F.relu(margin - (high.mean() - low.mean()))


@torch.no_grad()
def relabelled(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], *, margin: float = 0.2
) -> Int[Tensor, " batch"]:
    """Labels in which the prediction replaces the label where its probability is higher by more than the margin."""
    probabilities = F.softmax(logits, dim=1)
    highest, predicted = probabilities.max(dim=1)
    of_label = probabilities.gather(1, labels[:, None]).squeeze(1)
    return torch.where(highest - of_label > margin, predicted, labels)


_NONE = -1


class SCNOptions(Section):
    """Options of self-cure.

    Attributes:
        ce_weight: weight of the cross entropy of the weighted logits.
        rank_weight: weight of the rank regularisation.
        beta: fraction of the batch in the high group.
        margin: wanted difference of the mean weights of the two groups (0.07 goes with a batch of 64, 0.15 with 1024).
        relabel_margin: how much more probable than the label a prediction must be to replace it.
        relabel_epochs: epochs before the first relabelling.
    """

    ce_weight: float = Field(1.0, ge=0)
    rank_weight: float = Field(1.0, ge=0)
    beta: float = Field(0.7, gt=0, lt=1)
    margin: float = Field(0.07, ge=0, le=1)
    relabel_margin: float = Field(0.2, ge=0, le=1)
    relabel_epochs: int = Field(9, ge=0)


class SCN(Method):
    """Cross entropy weighted by each sample's importance, which is learnt and ranked; doubtful labels are changed.

    It has no teacher.

    A weight is positive and multiplies all logits of a sample, so that predictions do not depend on it and the
    exported network needs none. Relabelled samples keep their new label until they are relabelled again.
    """

    Options: ClassVar[type[Section]] = SCNOptions
    uses_teacher = False
    labels_may_be: ClassVar[Collection[str]] = ("smoothed",)  # a mixed image has no label that could be changed
    remembers_images = True
    reference = "Wang, Peng, Yang, Lu, Qiao 2020"
    source = "the authors' code for RAF-DB"
    published = "87.03 (RAF-DB, ResNet18)"
    search = ranges(rank_weight=around_weight(1.0), beta=Uniform(0.5, 0.9))
    student_needs = ("pooled", "logits")
    teacher_needs = ()
    options: SCNOptions
    labels: Tensor
    fresh: Tensor

    def __init__(self, options: SCNOptions, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__(options, student, teacher)
        needs_pooled("scn", student)
        self.importance = nn.Linear(student.width, 1)
        # a label for each image of the split, at first none, and one place more for what is thrown away
        self.register_buffer("labels", torch.full((1,), _NONE), persistent=False)
        self.register_buffer("fresh", torch.zeros(1, dtype=torch.bool), persistent=False)
        self._index = torch.empty(0, dtype=torch.int64)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The batch with the labels that were changed."""
        # who does not say how many images there are waits for the largest place
        self._grow(batch.among or int(batch.index.max()) + 1)
        n = len(batch.index)
        if len(self._index) < n or self._index.device != self.labels.device:
            self._index = torch.empty(2 * n, dtype=torch.int64, device=self.labels.device)  # later ones may be larger
        index = self._index[:n].copy_(batch.index)  # in the place where a CUDA graph looks for it in each step
        found = self.labels[index]
        return batch.images, batch.images, torch.where(found == _NONE, batch.labels, found)

    def _grow(self, n_images: int) -> None:
        if (missing := n_images + 1 - len(self.labels)) > 0:
            self.labels = F.pad(self.labels, (0, missing), value=_NONE)
            self.fresh = F.pad(self.fresh, (0, missing))

    def logits(self, student: Features) -> Tensor:
        """Logits times the importance of their sample."""
        return student.logits.float() * self._weights(student)

    def _weights(self, student: Features) -> Tensor:
        weights: Tensor = self.importance(student.pooled).float().sigmoid()
        return weights

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """One term, `rank`."""
        options = self.options
        begun = progress.epoch >= options.relabel_epochs
        if self.training and begun is not False:
            self._cure(self.logits(student), labels, begun)
        loss = rank_regularisation(self._weights(student), beta=options.beta, margin=options.margin)
        return {"rank": options.rank_weight * loss}

    def _cure(self, logits: Tensor, labels: Tensor, begun: bool | Tensor = True) -> None:
        changed = relabelled(logits, labels, margin=self.options.relabel_margin)
        index = self._index[: len(labels)]
        places = torch.where((changed != labels) & begun, index, len(self.labels) - 1)
        self.labels.scatter_(0, places, changed)
        self.labels[-1] = _NONE
        self.fresh.index_fill_(0, places, True)
        self.fresh[-1] = False

    def agree(self, join: Callable[[Tensor], list[int]]) -> None:
        """Adopt the samples that the other processes relabelled."""
        found = torch.tensor(join(self._where(self.fresh).flatten()), dtype=torch.int64).reshape(-1, 2)
        self._adopt(dict(found.tolist()))
        self.fresh.zero_()

    @property
    def cured(self) -> dict[int, int]:
        """The labels of the relabelled samples, by their places."""
        return dict(self.get_extra_state().tolist())

    def get_extra_state(self) -> Tensor:
        """Places and labels of the relabelled samples, [k, 2]."""
        return self._where(self.labels != _NONE)

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse of `get_extra_state`."""
        self.labels.fill_(_NONE)
        self._adopt(dict(state.tolist()))

    def _where(self, chosen: Tensor) -> Tensor:
        places = chosen.nonzero().flatten()
        return torch.stack([places, self.labels[places]], 1).cpu()

    def _adopt(self, labels: dict[int, int]) -> None:
        if labels:
            self._grow(max(labels) + 1)
            places = torch.tensor([*labels], device=self.labels.device)
            self.labels[places] = torch.tensor([*labels.values()], device=self.labels.device)
