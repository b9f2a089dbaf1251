"""A training step does not wait for the device: it copies nothing there that blocks, and asks for no value.

Once in some steps the loss is looked at, which waits.

Counted on a GPU without values (`tests.counted_waits`); the backward pass, which torch refuses there, on the CPU.
"""

from collections import Counter
from itertools import pairwise
from unittest.mock import MagicMock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdprobe.devices import constant, sent
from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.signals import StopRequest
from kdprobe.training import loop
from kdprobe.training.console import Watch
from kdprobe.training.loop import Trainer
from kdprobe.training.saving import Keeper
from kdprobe.training.state import Position
from tests.counted_waits import DEVICE, fake_device, onto_device
from tests.small_jobs import job_of, save_teachers

FAST = ("kd", "dropkd")


def slow_unless(fast, names):
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    return save_teachers(tmp_path_factory.mktemp("teachers"))


def waits(teachers, method, *assignments):
    """What made the program wait in each step of an epoch, but the first, which also sends what all of them need."""
    config, job = job_of(teachers, method, *assignments)
    with fake_device() as counted:
        onto_device(job.objective, *([job.teacher.stages] if job.teacher else []))
        trainer = Trainer(config.training, config.data, job, Ranks(0, 1, DEVICE), seed=0)
        seen = []

        def backward(_):
            for parameter in job.objective.parameters():
                parameter.grad = torch.zeros_like(parameter)

        def added(*args, add=trainer.tally.add, **options):
            seen.append(counted.found.copy())
            add(*args, **options)

        trainer.tally.add = added
        keeper = MagicMock(Keeper, stop=StopRequest(), wishes=(False, False))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "backward", backward)
            position = Position(epoch=1, n_images=trainer.n_images)
            trainer._train_epoch(position, keeper, Watch(3, quiet=True))
    assert len(seen) == trainer.n_steps > 2
    return sum((after - before for before, after in pairwise(seen)), Counter())


@pytest.mark.parametrize("method", slow_unless(FAST, DISTILLERS))
def test_no_method_waits(teachers, method):
    assert waits(teachers, method) == {}


def test_a_look_at_the_loss_waits_once(teachers, monkeypatch):
    monkeypatch.setitem(loop._LOOK_EVERY, DEVICE.type, 1)
    (where,) = (found := waits(teachers, "kd"))
    assert where.startswith("tally.py")
    assert found[where] == 2  # steps of three, but the first


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # by the copy of `ema_decay`
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("scn", ["method.relabel_epochs=0"]),
        ("cakd", ["method.preset=code"]),
        ("dropkd", ["method.logit_source=logits", "method.dropped=exclude"]),
        ("dropkd", ["method.logit_source=head", "method.mask=independent"]),
        ("eac", ["method.noisy_labels=true"]),
        ("kd", ["data.augment.erase=0.5", "data.augment.flip=true", "data.augment.repeats=2"]),
        ("kd", ["training.mixing={mixup: 0.8, cutmix: 1.0}", "training.accumulate=2", "teacher.shuffle=true"]),
        ("kd", ["training.ema_decay=0.9", "training.clip_grad_norm=1.0"]),
        ("kd", ["training.optimizer={name: adamw, lr: 1e-3}", "data.image_size=24"]),
    ],
    ids=str,
)
def test_no_option_waits(teachers, method, options):
    assert waits(teachers, method, *options) == {}


class _Reads(TorchDispatchMode):
    """Counts values that are read, and results whose size depends on values."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = name.startswith("index") and any(getattr(place, "dtype", 0) is torch.bool for place in args[1] or ())
        if name in ("_local_scalar_dense", "nonzero", "masked_select") or masks:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", slow_unless(FAST, DISTILLERS))
def test_no_gradient_needs_a_value(teachers, method):
    config, job = job_of(teachers, method)
    trainer = Trainer(config.training, config.data, job, Ranks(0, 1, torch.device("cpu")), seed=0)
    trainer.objective.train()
    batch = next(trainer._batches(Position()))
    loss = torch.stack([*trainer.losses(batch, None, Progress(0.5, 3)).values()]).sum()
    with _Reads() as reads:
        loss.backward()
    assert reads.found == {}


class _Uploads(TorchDispatchMode):
    """Counts copies of images to a device that hold as much as a whole set."""

    def __init__(self, splits):
        super().__init__()
        self.sizes = {len(split) * 3 * 16 * 16: name for name, split in splits.items()}
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("_to_copy", "copy_") and not isinstance(args[0], FakeTensor):
            self.found[self.sizes.get(found.numel(), "less")] += isinstance(found, FakeTensor)
        return found


def test_images_in_memory_are_sent_to_the_device_once_for_all_epochs(teachers, monkeypatch):
    config, job = job_of(teachers, "kd", "data.image_size=16")
    monkeypatch.setattr(torch.Tensor, "backward", lambda _: None)
    keeper = MagicMock(Keeper, stop=StopRequest(), wishes=(False, False))
    with fake_device(), _Uploads({"train": job.data.train, "test": job.data.test}) as uploads:
        onto_device(job.objective, job.teacher.stages)
        trainer = Trainer(config.training, config.data, job, Ranks(0, 1, DEVICE), seed=0)
        for epoch in range(2):
            position = Position(epoch=epoch, n_images=trainer.n_images)
            trainer._train_epoch(position, keeper, Watch(3, quiet=True))
            trainer._accuracy(position, StopRequest())
    assert uploads.found["train"] == uploads.found["test"] == 1
    assert uploads.found["less"] > 0


@pytest.mark.parametrize(
    "asks",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x[[0, 1]],
        lambda x: x.nonzero(),
        lambda x: torch.tensor([1.0, 2.0], device=x.device),
        lambda x: torch.arange(3).to(x.device),
        lambda x: torch.arange(3).to(x.device, non_blocking=True),  # from memory that is not pinned
        lambda x: x.new_tensor([1.0]),
        lambda x: x.copy_(torch.zeros(3)),
    ],
)
def test_what_waits_is_counted(asks):
    with fake_device() as counted:
        x = torch.zeros(3, device=DEVICE)
        assert counted.count == 0
        asks(x)
    assert counted.count


def test_what_is_sent_does_not_wait_and_arrives():
    with fake_device() as counted:
        assert sent(torch.arange(3), DEVICE).device.type == "cuda"
        assert counted.count == 0
        once = constant((1.0, 2.0), DEVICE)
        assert counted.count == 1
        assert constant((1.0, 2.0), DEVICE) is once
        assert counted.count == 1
    assert sent(torch.arange(3), "cpu").tolist() == [0, 1, 2]
    assert constant((1.0, 2.0), torch.device("cpu"), torch.float64).tolist() == [1.0, 2.0]
