"""The same test images for several networks, each at its own input size."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.data import AS_IT_IS, Batch, Shown, Split, View, evaluation_batches
from kdprobe.data.judged import load_judged
from kdprobe.errors import ConfigError
from kdprobe.models.checkpoint import facts_for, load
from kdprobe.models.creation import describe
from kdprobe.terminal.progress import progress
from kdprobe.user_code import trusting


@dataclass(frozen=True)
class Views:
    """Networks by role and the images they see.

    Attributes:
        data: the data SPEC.
        models: by role, `teacher` and `student`.
        splits: test images by role; one object where input sizes agree.
        sha256: sha256 of the data set as the last network sees it, if asked for.
        shown: which images these are and how they are shown, by role, if asked for.
    """

    data: str
    models: dict[str, nn.Module]
    splits: dict[str, Split]
    sha256: str = ""
    shown: Mapping[str, Shown] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """The number of images."""
        return len(next(iter(self.splits.values())))

    @property
    def shared(self) -> bool:
        """Whether all networks take the same input size, so that images are read once."""
        return len({id(split) for split in self.splits.values()}) == 1

    def loaders(
        self,
        *,
        batch_size: int,
        passes: int = 1,
        shard: tuple[int, int] = (0, 1),
        device: str | torch.device = "cpu",
        label: str = "",
        quiet: bool = True,
    ) -> dict[str, Iterator[Batch]]:
        """Each role's images, in the same order for all, with progress on standard error unless quiet.

        Roles of the same input size share one iterator.

        Args:
            batch_size: images per minibatch; the last one of a pass has the remainder.
            passes: passes over the images; the first in their order, each further one in its own random order.
            shard: (r, k): this is process r of k, which gets minibatches r, r + k, r + 2k, ...
            device: the device to put the images on.
            label: what the progress is called.
            quiet: show no progress.
        """
        orders = [_chunks(self.n_samples, batch_size, number, shard) for number in range(passes)]
        return self._in_orders(orders, batch_size, device, label, quiet)

    def minibatches(
        self,
        start: int,
        stop: int,
        *,
        batch_size: int,
        device: str | torch.device = "cpu",
        label: str = "",
        quiet: bool = True,
    ) -> Iterator[dict[str, Batch]]:
        """The samples from start to stop, in order, for all roles at once."""
        loaders = self._in_orders([torch.arange(start, stop)], batch_size, device, label, quiet)
        distinct = {id(loader): loader for loader in loaders.values()}
        for batches in zip(*distinct.values(), strict=True):
            seen = dict(zip(distinct, batches, strict=True))
            yield {role: seen[id(loader)] for role, loader in loaders.items()}

    def _in_orders(
        self, orders: list[Tensor], batch_size: int, device: str | torch.device, label: str, quiet: bool
    ) -> dict[str, Iterator[Batch]]:
        made: dict[int, Iterator[Batch]] = {}
        for split in self.splits.values():
            made.setdefault(id(split), _batches(split, orders, batch_size, device, label, quiet or len(made) > 0))
        return {role: made[id(split)] for role, split in self.splits.items()}


def open_views(
    checkpoints: Mapping[str, str],
    *,
    data: str | None = None,
    download: bool = False,
    trust: Iterable[str] = (),
    named_by: Mapping[str, Path] | None = None,
    view: View = AS_IT_IS,
    identified: bool = False,
    shown: bool = False,
    told: Mapping[str, Any] | None = None,
) -> Views:
    """Load networks and the test images for each.

    Args:
        checkpoints: by role, as `kdprobe.load` takes them.
        data: a data SPEC; that of the last network's checkpoint if not given.
        download: fetch missing data.
        trust: modules whose code the checkpoints may name.
        named_by: by role, the file that names the checkpoint, if the person at the keyboard did not give it.
        view: how image files are shown to all of them; what it leaves open is as for the networks' published
            accuracies, or, if these differ or are not known, as the data set has it.
        identified: compute the sha256 of the data set.
        shown: identify the images.
        told: facts that the checkpoints' files do not hold, as `kdprobe.models.checkpoint.facts_for` takes them.

    Raises:
        ConfigError: if no data set is given and the checkpoint names none.
        CheckpointError: if a checkpoint cannot be loaded.
        DataError: if the data cannot be read.
    """
    files = named_by or {}
    with trusting(trust):
        models = {
            role: load(spec, named_by=files.get(role), **facts)
            for (role, spec), facts in zip(
                checkpoints.items(), facts_for([*checkpoints.values()], told or {}, [*checkpoints]), strict=True
            )
        }
    role, last = list(models.items())[-1]
    spec = data or describe(last).data
    if not spec:
        raise ConfigError(f"the checkpoint of the {role} names no data set; give one with --data")
    infos = {role: describe(model) for role, model in models.items()}
    published = {info.view for info in infos.values()}
    seen = view.otherwise(published.pop() if len(published) == 1 else AS_IT_IS)
    source = None if data else checkpoints[role]
    asked: dict[str, Any] = {"download": download, "identified": identified, "shown": shown}
    with trusting(trust):
        sets = {
            size: load_judged(spec, checkpoints[role], image_size=size, view=seen, named_by=source, **asked)
            for size in dict.fromkeys(info.image_size for info in infos.values())
        }
    of = {role: sets[info.image_size] for role, info in infos.items()}
    splits = {name: data_set.test for name, data_set in of.items()}
    return Views(spec, models, splits, of[role].sha256, {name: data_set.shown for name, data_set in of.items()})


def _chunks(n_samples: int, batch_size: int, number: int, shard: tuple[int, int]) -> Tensor:
    """The samples of one pass that a process sees; a short minibatch stays last."""
    order = torch.arange(n_samples)
    if number:
        order = torch.randperm(n_samples, generator=torch.Generator().manual_seed(number))
    minibatches = torch.split(order, batch_size)
    first = (shard[0] - number * len(minibatches)) % shard[1]
    return torch.cat([order[:0], *minibatches[first :: shard[1]]])


def _batches(
    split: Split, orders: list[Tensor], batch_size: int, device: str | torch.device, label: str, quiet: bool
) -> Iterator[Batch]:
    total = sum(map(len, orders))
    with progress(label, total, quiet=quiet) as shown:
        for order in filter(len, orders):
            for batch in evaluation_batches(split.take(order), batch_size=batch_size, device=device):
                yield replace(batch, index=order.to(device)[batch.index])
                shown(len(batch.index))
