"""A frozen backbone's features, computed once: where images never vary, only the classifier has to see them again.

Whether that is right is not guessed but tried, on a copy of the network: what enters the classifier must be the same in
training as in evaluation, and the classifier's output must be the network's.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdprobe.config import DataConfig, TrainingConfig
from kdprobe.data import Split, evaluation_batches
from kdprobe.distillers import Method
from kdprobe.errors import ModelError
from kdprobe.models.facts import made_up_images
from kdprobe.models.stages import Features, Need, Stages
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.precision import autocast
from kdprobe.training.build import Job
from kdprobe.training.console import Watch
from kdprobe.training.freezing import frozen_in

_MOST = 2**32  # bytes of features; more are computed anew
_POOLED: tuple[Need, ...] = ("pooled",)
_TEST_BATCH = 512  # images; as `tally.accuracy` shows them


@dataclass(frozen=True, eq=False)
class Kept:
    """What enters the classifier for every image, on the device.

    Attributes:
        head: name of the classifier.
        train: features [n, d] of the training images, in the precision of the training.
        test: features [m, d] of this process's evaluation images, in the parameters' own.
        labels: classes [m] of these.
    """

    head: str
    train: Tensor
    test: Tensor
    labels: Tensor

    def answers(self, network: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits that a network's classifier gives for the evaluation images, and their classes, batch by batch."""
        head = network.get_submodule(self.head)
        for start in range(0, len(self.test), _TEST_BATCH):
            part = slice(start, start + _TEST_BATCH)
            yield head(self.test[part]), self.labels[part]


def keep(job: Job, settings: TrainingConfig, data: DataConfig, group: Ranks, watch: Watch) -> Kept | None:
    """Compute what enters the classifier for every image, if it stays the same through all epochs; else None.

    Args:
        job: what is trained; its student is in eval mode afterwards.
        settings: the section `training`.
        data: the section `data`.
        group: this process among all.
        watch: shows how far this is.
    """
    student, train, test = job.student, job.data.train, job.data.test
    if not settings.freeze or _varies(job.method, settings, data):
        return None
    head = _head(job, settings, group)
    if head is None:
        return None
    view = Stages(student.eval(), needs=_POOLED)
    label = f"features before {head}"

    def shown(split: Split, size: int, shard: tuple[int, int]) -> Iterator[Tensor]:
        device, workers = group.device, data.workers
        batches = evaluation_batches(split, batch_size=size, workers=workers, device=device, shard=shard)
        for batch in watch.passing(label, batches, len(split)):
            pooled: Tensor = view(job.prepare(batch.images)).pooled
            yield pooled

    with torch.no_grad():
        with autocast(settings.precision, group.device):
            features = _joined(shown(train, settings.batch_size, (0, 1)), len(train))
        if features is None:
            return None
        own = torch.cat([*shown(test, _TEST_BATCH, group.shard)])
    labels = test.labels.tensor_split(group.world)[group.rank].to(group.device)
    return Kept(head, features, own, labels)


def _varies(method: Method, settings: TrainingConfig, data: DataConfig) -> bool:
    """Whether an image, or what the method reads of the student, is more than one vector for all epochs."""
    mixed = settings.mixing.mixup or settings.mixing.cutmix
    own_views = type(method).inputs is not Method.inputs
    more = set(method.student_needs) - {"logits", "pooled", "head"}
    return bool(data.augment.varies or mixed or data.skip_bad or own_views or more)


def _head(job: Job, settings: TrainingConfig, group: Ranks) -> str | None:
    """Name of the one classifier, if nothing else is trained, and nothing else differs in training."""
    network = copy.deepcopy(job.student)
    try:
        view = Stages(network, needs=("pooled", "head"))
    except ModelError:
        return None  # it has no classifier, or it is not known
    devices = [group.device] if group.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices), autocast(settings.precision, group.device):
        images = job.prepare(made_up_images(network))
        network.eval()
        still: Features = view(images)
        network.train()
        for module in frozen_in(network, job.objective.frozen):
            module.training = False
        for head in still.heads:
            head.eval()
        trained: Features = view(images)
        if still.pooled is None or trained.pooled is None or len(still.heads) != 1:
            return None
        alone = still.heads[0](still.pooled)
    names = [name for name, module in network.named_modules() if module in still.heads]
    trains = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    same = torch.equal(still.pooled, trained.pooled) and torch.equal(alone, trained.logits)
    within = len(names) == 1 and all(name.startswith(f"{names[0]}.") for name in trains)
    return names[0] if same and within else None


def _joined(parts: Iterable[Tensor], n_images: int) -> Tensor | None:
    """All parts in one tensor; None if that takes too much memory, as the first one shows."""
    whole: Tensor | None = None
    done = 0
    for part in parts:
        if whole is None:
            if n_images * part[0].numel() * part.element_size() > _MOST:
                return None
            whole = part.new_empty(n_images, *part.shape[1:])
        whole[done : done + len(part)] = part
        done += len(part)
    return whole
