"""The same test images for several networks, each at its own input size."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdprobe.data import AS_IT_IS, Batch, Shown, Split, View, evaluation_batches
from kdprobe.data.judged import load_judged
from kdprobe.devices import sent, usable_processors
from kdprobe.errors import AnalysisError, CaptureError, ConfigError
from kdprobe.features.minibatches import fixed_order
from kdprobe.models.checkpoint import facts_for, load
from kdprobe.models.creation import model_info
from kdprobe.models.description import shown_as
from kdprobe.terminal.progress import progress
from kdprobe.user_code import trusting

_EACH, _MOST = 512, 16  # images for each process that decodes, and processes, each of which holds four batches


@dataclass(frozen=True)
class Views:
    """Networks by role and the images they see.

    Attributes:
        data: the data SPEC.
        models: networks by role, `teacher` and `student`.
        splits: test images by role; one object if input sizes agree.
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

    def minibatches(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        batch_size: int,
        shard: tuple[int, int] = (0, 1),
        device: str | torch.device = "cpu",
        label: str = "",
        quiet: bool = True,
    ) -> Iterator[dict[str, Batch]]:
        """Minibatches of the images in the order of `fixed_order`, each as every role sees it.

        Roles of the same input size share one batch.

        Args:
            start: the first place in that order.
            stop: the end, exclusive; all images if not given.
            batch_size: images per minibatch; the last one has the remainder.
            shard: (r, k) yields minibatches r, r + k, ..., for process r of k.
            device: the device to put the images on.
            label: what the progress on standard error is called.
            quiet: show no progress.
        """
        minibatches = torch.split(fixed_order(self.n_samples)[start:stop], batch_size)
        order = torch.cat([torch.arange(0), *minibatches[shard[0] :: shard[1]]])  # a short minibatch is the last one
        if not len(order):
            return
        places = sent(order, device)
        distinct = {id(split): split for split in self.splits.values()}
        readers = [
            shown_batches(
                split.take(order),
                batch_size=batch_size,
                device=device,
                label=label,
                quiet=quiet or number > 0 or shard[0] > 0,
            )
            for number, split in enumerate(distinct.values())
        ]
        for batches in zip(*readers, strict=True):
            placed = [replace(batch, index=places[batch.index]) for batch in batches]
            seen = dict(zip(distinct, placed, strict=True))
            yield {role: seen[id(split)] for role, split in self.splits.items()}


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
    spec = data or model_info(last).data
    if not spec:
        raise ConfigError(f"the checkpoint of the {role} names no data set; give one with --data")
    infos = {role: model_info(model) for role, model in models.items()}
    known = {info.view for info in infos.values()}
    published = known.pop() if len(known) == 1 else AS_IT_IS
    source = None if data else checkpoints[role]
    asked: dict[str, Any] = {"view": view, "published": published, "named_by": source}
    asked |= {"download": download, "identified": identified, "shown": shown}
    with trusting(trust):
        sets = {
            size: load_judged(spec, checkpoints[role], image_size=size, **asked)
            for size in dict.fromkeys(info.image_size for info in infos.values())
        }
    of = {role: sets[info.image_size] for role, info in infos.items()}
    for name, model in models.items():
        shown_as(model, of[name].shown.view.decode)
    splits = {name: data_set.test for name, data_set in of.items()}
    return Views(spec, models, splits, of[role].sha256, {name: data_set.shown for name, data_set in of.items()})


def readers(n_images: int) -> int:
    """Processes that decode so many image files: two, and more where these begin sooner than they are done, to 16."""
    return max(2, min(usable_processors(), n_images // _EACH, _MOST))


def shown_batches(
    split: Split,
    *,
    batch_size: int,
    workers: int | None = None,
    device: str | torch.device = "cpu",
    label: str = "",
    quiet: bool = True,
) -> Iterator[Batch]:
    """All images of a split in its order, with progress on standard error unless quiet.

    Args:
        split: the images.
        batch_size: images per batch; the last one has the remainder.
        workers: processes that decode files; `readers` of the split if not given.
        device: the device to put the batches on.
        label: what the progress is called.
        quiet: show no progress.
    """
    workers = readers(len(split)) if workers is None else workers
    with progress(label, len(split), quiet=quiet) as shown:
        for batch in evaluation_batches(split, batch_size=batch_size, workers=workers, device=device):
            yield batch
            shown(len(batch.index))


@contextmanager
def located(where: str) -> Iterator[None]:
    """Inside `with`, errors in captured features begin with the place where they occurred."""
    try:
        yield
    except (AnalysisError, CaptureError) as error:
        raise type(error)(f"{where}: {error}") from error
