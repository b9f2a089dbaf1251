"""A rehearsal of the first step: what a first batch can reveal is found before anything is written.

A few images of the first batch go through the networks, the losses and the gradients, exactly as the first step would
take them. Afterwards everything is as it was: weights, statistics, the method's memory and all random states, so that
a run gives the same bytes with a rehearsal as without.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kdprobe.data import Batch, training_batches
from kdprobe.distillers import Progress
from kdprobe.errors import Diverged, KdprobeError, ModelError
from kdprobe.models.stages import one_tensor
from kdprobe.training.precision import autocast
from kdprobe.training.state import Position

if TYPE_CHECKING:
    from kdprobe.training.loop import Trainer

IMAGES = 8  # of each process; on a GPU they are repeated until the batch, and so the memory it takes, is whole
_OWN = frozenset(vars(nn.Module()))  # what every module has; hooks and the like, which a step does not change
_Found = TypeVar("_Found")


def rehearse(trainer: "Trainer") -> None:
    """Take the first step of a training and leave no trace of it.

    Raises:
        ModelError: if a network or the method cannot be trained on such a batch, or a network gives something else
            than finite logits of all classes.
        Diverged: if a term of the loss is not finite.
        KdprobeError: if the images cannot be read.
    """
    job = trainer.job
    modules = [module for part in (job.objective, job.teacher) if part is not None for module in part.modules()]
    with undone(modules, trainer.device), _uncompiled(trainer.settings.compile):
        try:
            _step(trainer)
        finally:
            job.objective.zero_grad(set_to_none=True)


def _step(trainer: "Trainer") -> None:
    job, name, info = trainer.job, trainer.config.method["name"], trainer.info
    batch, shares = trainer._mixed(_first(trainer), Position())
    trainer.objective.train()
    images, shown, _ = _tried(lambda: trainer.method.inputs(batch), f"method {name!r} fails", batch.images)
    prepared = trainer._prepared(images)
    with autocast(trainer.settings.precision, trainer.device):
        what = f"network {info.name!r} cannot be trained"
        logits = _tried(lambda: job.objective.student(prepared).logits, what, prepared)
        _check_logits(logits, f"network {info.name!r}", info.n_classes, prepared, "in training")
        if trainer.teacher_info is not None:
            who, n_classes = f"the teacher {trainer.config.teacher}", trainer.teacher_info.n_classes
            taught = _tried(lambda: trainer._teach(shown, batch.index), f"{who} fails", shown)
            assert taught is not None
            _check_logits(taught.logits, who, n_classes, shown, "as a teacher")
    del logits
    trainer.objective.eval()
    with torch.no_grad():
        what = f"network {info.name!r} cannot be evaluated"
        logits = one_tensor(_tried(lambda: trainer.exported(prepared), what, prepared), info.name)
    _check_logits(logits, f"network {info.name!r}", info.n_classes, prepared, "in evaluation")
    trainer.objective.train()
    pair = "" if job.teacher is None else f" with the teacher {trainer.config.teacher}"
    what = f"method {name!r} cannot train {info.name!r}{pair}"
    _tried(lambda: _gradients(trainer, batch, shares), what, batch.images)


def _gradients(trainer: "Trainer", batch: Batch, shares: Tensor | None) -> None:
    alone = nullcontext() if trainer.group.world == 1 else trainer.objective.no_sync()  # type: ignore[operator]
    with alone:
        terms = trainer._losses(batch, shares, Progress(0.0, trainer.settings.epochs))
        if broken := [name for name, value in terms.items() if not torch.isfinite(value).all()]:
            raise Diverged(
                f"the loss term {broken[0]!r} is not finite on the first images, so that nothing can be learnt; "
                "see the options of the method, and the images"
            )
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]


def _first(trainer: "Trainer") -> Batch:
    """The first images of this process's part of the first batch; on a GPU as many as are computed at a time."""
    settings, world = trainer.settings, trainer.group.world
    few = settings.batch_size if trainer.config.data.skip_bad else min(settings.batch_size, IMAGES * world)
    batches = training_batches(
        trainer.job.data.train,
        batch_size=few,
        augment=trainer.config.data.augment,
        seed=trainer.config.seed,
        epoch=0,
        workers=0,
        device=trainer.device,
        shard=trainer.group.shard,
    )
    batch = next(iter(batches))
    if trainer.device.type != "cuda":
        return batch
    share = min(settings.batch_size, trainer.n_images) // world
    wanted = max(share // max(min(settings.accumulate, share // 2), 1), len(batch.labels))
    places = torch.arange(wanted, device=trainer.device) % len(batch.labels)
    return Batch(batch.images[places], batch.labels[places], batch.index[places])


def _tried(call: Callable[[], _Found], what: str, images: Tensor) -> _Found:
    """What a call gives; what it raises becomes one sentence.

    Raises:
        ModelError: beginning with `what`.
        OutOfMemoryError: where memory is wanting, which whoever trains has advice for.
    """
    try:
        return call()
    except (KdprobeError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, MemoryError) or "can't allocate memory" in reason:
            raise torch.OutOfMemoryError(reason) from error
        batch = f"a batch of {len(images)} image{'s' if len(images) > 1 else ''}"
        raise ModelError(f"{what} on {batch} ({type(error).__name__}: {reason})") from error


def _check_logits(logits: Tensor, who: str, n_classes: int, images: Tensor, when: str) -> None:
    """Check that a network's output is one row of finite logits for each image.

    Raises:
        ModelError: saying what it is instead.
    """
    wanted = [len(images), n_classes]
    if list(logits.shape) != wanted:
        raise ModelError(
            f"{who} gives {list(logits.shape)} {when}, but logits {wanted} are needed: a row for each image, and a "
            f"column for each of {n_classes} classes"
        )
    if broken := int((~logits.isfinite()).any(1).sum()):
        raise ModelError(f"{who} gives NaN or infinity {when} for {broken} of the first {len(images)} images")


@contextmanager
def _uncompiled(compiled: bool) -> Iterator[None]:
    """Compiled modules run as they are written: they are compiled for the batches of the training alone."""
    if not compiled:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def undone(modules: list[nn.Module], device: torch.device) -> Iterator[None]:
    """Give modules and random states back what they had: buffers, plain attributes, and which mode they were in."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    buffers = [
        (module, name, value, value.clone())
        for module in modules
        for name, value in module._buffers.items()
        if value is not None
    ]
    attributes = [(module, {k: (v, _copy(v)) for k, v in vars(module).items() if k not in _OWN}) for module in modules]
    modes = [(module, module.training) for module in modules]
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, name, buffer, value in buffers:
            with torch.no_grad():
                buffer.copy_(value)
            module._buffers[name] = buffer
        for module, kept in attributes:
            _give_back(module, kept)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _copy(value: Any) -> Any:
    """A copy of a collection, one level deep; anything else is itself."""
    return value.copy() if isinstance(value, list | dict | set) else value


def _give_back(module: nn.Module, kept: dict[str, tuple[Any, Any]]) -> None:
    """Bind a module's attributes to what they were, collections with the content they had."""
    own = vars(module)
    for name in own.keys() - kept.keys() - _OWN:
        del own[name]
    for name, (value, content) in kept.items():
        if isinstance(value, list):
            value[:] = content
        elif isinstance(value, dict | set):
            value.clear()
            value.update(content)
        own[name] = value
