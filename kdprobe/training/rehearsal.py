"""A rehearsal of the first step: what a first batch can reveal is found before anything is written.

A few images of the first batch go through the networks, the losses and the gradients, exactly as the first step would
take them. Afterwards everything is as it was: weights, statistics, the method's memory and all random states, so that
a run gives the same bytes with a rehearsal as without.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kdprobe.config import RunConfig
from kdprobe.data import Batch, DataSet, training_batches
from kdprobe.distillers import Progress
from kdprobe.errors import Diverged, KdprobeError, ModelError, RunError
from kdprobe.models import model_info
from kdprobe.models.outputs import logits_in
from kdprobe.runs.inputs import Inputs
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.out_of_memory import out_of_memory_advice
from kdprobe.runtime.precision import autocast, refuse_varying_kernels, repeatable, with_precision
from kdprobe.terminal.progress import say
from kdprobe.training.build import build
from kdprobe.training.loop import Trainer
from kdprobe.training.state import Position

IMAGES = 8  # of each process; on a GPU they are repeated until the batch, and so the memory it takes, is whole
_OWN = frozenset(vars(nn.Module()))  # what every module has; hooks and the like, which a step does not change
_NO_KERNEL = "does not have a deterministic implementation"  # as torch words it
_Found = TypeVar("_Found")


class _NotRepeatable(Exception):
    """An operation has no deterministic kernel."""


def try_out(config: RunConfig, data: DataSet) -> Inputs:
    """Rehearse the first step of a training on this machine's processor, which leaves its accelerators alone.

    Args:
        config: what would be done.
        data: the configuration's, read by `build.data_of`.

    Returns:
        which teacher and data it would learn from.

    Raises:
        KdprobeError: for any mistake that a first batch reveals.
    """
    group = Ranks(0, 1, torch.device("cpu"))
    config = with_precision(config, group)
    with repeatable(config.seed, group.device):
        job = build(config, group.device, data=data)
        try:
            rehearse(Trainer(config.training, config.data, job, group, seed=config.seed), config)
        except torch.OutOfMemoryError as error:
            raise RunError(out_of_memory_advice(config, job.objective, group.device)) from error
    return job.inputs


def rehearse(trainer: Trainer, config: RunConfig) -> str:
    """Take the first step of a training and leave no trace of it.

    If an operation in it has no deterministic kernel, the user is told, and from then on others are allowed too.

    Args:
        trainer: whose networks take it.
        config: names them in messages.

    Returns:
        what a user should know of the training, if anything.

    Raises:
        ModelError: if a network or the method cannot be trained on such a batch, or a network returns something other
            than finite logits of all classes.
        Diverged: if a term of the loss is not finite.
        KdprobeError: if the images cannot be read.
    """
    refuse_varying_kernels(True)
    try:
        return _rehearse(trainer, config)
    except _NotRepeatable as error:
        refuse_varying_kernels(False)
        if trainer.group.main:
            say(_varies(trainer.group.device, error))
        return _rehearse(trainer, config)


def _varies(device: torch.device, error: Exception) -> str:
    """What a run says where the same seed may give other weights."""
    tried = "; convolutions take the fastest kernels" if device.type == "cuda" else ""
    return f"the same seed may give other weights on {device} each time: {error}{tried}"


def _rehearse(trainer: Trainer, config: RunConfig) -> str:
    job = trainer.job
    taught = [] if job.teacher is None else job.teacher.stages.modules()
    with undone([*job.objective.modules(), *taught], trainer.group.device), _uncompiled(trainer.settings.compile):
        try:
            return _step(trainer, method=config.method["name"], teacher=config.teacher)
        finally:
            job.objective.zero_grad(set_to_none=True)


def _step(trainer: Trainer, *, method: str, teacher: str | None) -> str:
    job, info = trainer.job, model_info(trainer.job.student)
    batch, soft_labels = trainer.mixed(_first(trainer), Position())
    trainer.objective.train()
    images, shown, _ = _tried(lambda: job.method.inputs(batch), f"method {method!r} fails", batch.images)
    prepared = job.prepare(images)
    with autocast(trainer.settings.precision, trainer.group.device):
        what = f"network {info.name!r} cannot be trained"
        logits = _tried(lambda: job.objective.student(prepared).logits, what, prepared)
        _check_logits(logits, f"network {info.name!r}", info.n_classes, prepared, "in training")
        if (teach := job.teacher) is not None:
            who, n_classes = f"the teacher {teacher}", teach.info.n_classes
            logits = _tried(lambda: teach(shown, batch.view).logits, f"{who} fails", shown)
            _check_logits(logits, who, n_classes, shown, "as a teacher")
    del logits
    trainer.objective.eval()
    with torch.no_grad():
        what = f"network {info.name!r} cannot be evaluated"
        logits = logits_in(_tried(lambda: trainer.exported(prepared), what, prepared), info)
    _check_logits(logits, f"network {info.name!r}", info.n_classes, prepared, "in evaluation")
    trainer.objective.train()
    pair = "" if teacher is None else f" with the teacher {teacher}"
    what = f"method {method!r} cannot train {info.name!r}{pair}"
    _tried(lambda: _gradients(trainer, batch, soft_labels), what, batch.images)
    return "" if job.data.classes else _untrained(job.student, method)


def _untrained(student: nn.Module, method: str) -> str:
    """Which parameters got no gradient, in words; empty if all did."""
    trained = {name: p.grad is not None for name, p in student.named_parameters() if p.requires_grad}
    left = [name for name, has_gradient in trained.items() if not has_gradient]
    if not left:
        return ""
    return (
        f"{len(left)} of {len(trained)} parameters of the student, the first {left[0]}, stay as they begin: without "
        f"labels only what lies before the features that {method!r} compares is trained; see its options"
    )


def _gradients(trainer: Trainer, batch: Batch, soft_labels: Tensor | None) -> None:
    with trainer.group.synchronising(trainer.objective, False):
        terms = trainer.losses(batch, soft_labels, Progress(0.0, trainer.settings.epochs))
        if broken := [name for name, value in terms.items() if not torch.isfinite(value).all()]:
            raise Diverged(
                f"the loss term {broken[0]!r} is not finite on the first images, so that nothing can be learnt; "
                "see the options of the method, and the images"
            )
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]


def _first(trainer: Trainer) -> Batch:
    """The first images of this process's shard of the first batch; on a GPU as many as are computed at a time."""
    settings, group = trainer.settings, trainer.group
    few = settings.batch_size if trainer.data.skip_bad else min(settings.batch_size, IMAGES * group.world)
    batches = training_batches(
        trainer.train,
        batch_size=few,
        augment=trainer.data.augment,
        seed=trainer.data_seed,
        epoch=0,
        workers=0,
        device=group.device,
        shard=group.shard,
    )
    batch = next(iter(batches))
    if group.device.type != "cuda":
        return batch
    size = min(settings.batch_size, trainer.n_images) // group.world
    wanted = max(size // max(min(settings.accumulate, size // 2), 1), len(batch.labels))
    return batch.take(torch.arange(wanted) % len(batch.labels))


def _tried(call: Callable[[], _Found], what: str, images: Tensor) -> _Found:
    """What a call returns; an error becomes one sentence.

    Raises:
        ModelError: beginning with `what`.
        OutOfMemoryError: if there is not enough memory; the caller adds what to lower.
    """
    try:
        return call()
    except (KdprobeError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if _NO_KERNEL in reason and not torch.is_deterministic_algorithms_warn_only_enabled():
            raise _NotRepeatable(reason.partition(_NO_KERNEL)[0] + _NO_KERNEL) from error
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
