"""What a first batch reveals is found before the run folder is taken; what a training itself reveals makes it fail."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kdprobe.cli.group import run as run_command
from kdprobe.data import evaluation_batches, load_data
from kdprobe.errors import ConfigError, Diverged, ModelError, RunError
from kdprobe.models import ModelInfo, attach, create
from kdprobe.models.checkpoint import LAST, read_meta, save
from kdprobe.runs.folder import RunFolder
from kdprobe.runtime.distributed import Ranks
from kdprobe.training import loop, rehearsal, run, train
from kdprobe.training.loop import Trainer
from kdprobe.training.rehearsal import undone
from kdprobe.training.tally import accuracy
from kdprobe.training.verify import problems
from tests.kdprobe.training.test_loop import config, outcome


class Net(nn.Module):
    """A network of one's own; what it gives is decided by its class."""

    def __init__(self, num_classes=10, image_size=32):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 4, 1), nn.Linear(8, num_classes)
        self.calls, self.seen = 0, []

    def forward(self, x):
        self.calls += 1
        self.seen.append(self.calls)
        maps = self.conv(x).relu()
        return self.give(self.fc(maps.mean((2, 3))), maps)

    def give(self, logits, maps):
        return logits


class Pair(Net):
    def give(self, logits, maps):
        return logits, [maps]


class Mapping(Net):
    def give(self, logits, maps):
        return {"logits": logits, "maps": maps}


class TrainsWithMore(Net):
    """As networks with auxiliary classifiers do: a tensor in evaluation, a pair in training."""

    def give(self, logits, maps):
        return (logits, logits) if self.training else logits


class EvaluatesWithMore(Net):
    def give(self, logits, maps):
        return logits if self.training else (logits, maps)


class Wide(Net):
    def give(self, logits, maps):
        return torch.cat([logits, logits], 1)


class Scatters(Net):
    """Uses an operation for which torch knows no deterministic kernel."""

    def give(self, logits, maps):
        place = torch.zeros(1, dtype=torch.int64, device=logits.device)
        return logits + torch.zeros_like(logits).put_(place, logits.new_ones(1))


class Frozen(Net):
    def __init__(self, num_classes=10, image_size=32):
        super().__init__(num_classes)
        self.requires_grad_(requires_grad=False)


class Empty(Net):
    def __init__(self, num_classes=10, image_size=32):
        super().__init__(num_classes)
        del self.conv, self.fc

    def forward(self, x):
        return x.new_zeros(len(x), 10)


class Complex(Net):
    def give(self, logits, maps):
        return logits.to(torch.complex64)


class Whole(Net):
    def give(self, logits, maps):
        return logits.long()


class NotFlat(Net):
    def give(self, logits, maps):
        return logits[:, :, None, None]


class OneForAll(Net):
    def give(self, logits, maps):
        return logits.mean(0, keepdim=True) if self.training else logits


class Broken(Net):
    def give(self, logits, maps):
        raise KeyError("no such map")


class Undefined(Net):
    def give(self, logits, maps):
        return logits * math.nan


class Huge(Net):
    """Its logits are finite, but the difference of two is not."""

    def give(self, logits, maps):
        return 3e38 * logits.sign()


class OnlyWhenTrained(Net):
    """Fails in training alone."""

    def give(self, logits, maps):
        if self.training:
            raise ValueError("one value per channel")
        return logits


REFUSED = {
    TrainsWithMore: r"gives a tuple of 0 \[8, 10\], 1 \[8, 10\], but logits \[images, classes\] are needed; say where",
    Wide: r"gives \[2, 20\] for two images, but logits \[2, 10\] are needed for its 10 classes; if it has other",
    NotFlat: r"gives \[2, 10, 1, 1\] for two images, but logits \[2, 10\] are needed",
    OneForAll: r"gives \[1, 10\] in training, but logits \[8, 10\] are needed: a row for each image, and a column",
    Undefined: r"gives NaN or infinity in training for 8 of the first 8 images",
    OnlyWhenTrained: r"cannot be trained on a batch of 8 images \(ValueError: one value per channel\)",
}


def own(kind, *assignments):
    return config("digits/resnet8", f"model.name=tests.kdprobe.training.test_rehearsal:{kind.__name__}", *assignments)


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_a_network_that_cannot_be_trained_leaves_no_folder(kind, tmp_path):
    with pytest.raises(
        ModelError, match=rf"network 'tests\.kdprobe\.training\.test_rehearsal:{kind.__name__}' {REFUSED[kind]}"
    ):
        train(own(kind), tmp_path / "run", device="cpu", quiet=True)
    assert not list(tmp_path.iterdir())


FEW = ("data.spec=tests.tiny:digits", "training.epochs=1")


@pytest.mark.parametrize("kind", [Pair, Mapping, EvaluatesWithMore, TrainsWithMore], ids=lambda kind: kind.__name__)
def test_logits_in_a_tuple_or_mapping_are_trained_as_if_they_were_alone(kind, tmp_path):
    given = ("model.output=1",) if kind is TrainsWithMore else ()
    for name, chosen in {"alone": own(Net, *FEW), "inside": own(kind, *FEW, *given)}.items():
        train(chosen, tmp_path / name, device="cpu", quiet=True)
    weights = [read_meta(tmp_path / name / LAST)["tensors_sha256"] for name in ("alone", "inside")]
    assert weights[0] == weights[1]
    assert outcome(tmp_path / "alone")[1] == outcome(tmp_path / "inside")[1]


def test_what_the_configuration_says_of_a_network_is_checked_before_anything_is_written(tmp_path):
    with pytest.raises(ModelError, match=r"Net has no module 'conf'; did you mean 'conv'"):
        train(own(Net, "model.stages=[conf]"), tmp_path / "run", device="cpu", quiet=True)
    with pytest.raises(ModelError, match=r"gives a dict of .*, which has no 'logit'; give as output="):
        train(own(Mapping, "model.output=logit"), tmp_path / "run", device="cpu", quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        (
            "digits/resnet8",
            ("model.name=mobilenetv2_050",),
            r"network 'mobilenetv2_050' cannot be trained on a batch of 1 image \(ValueError: Expected more",
        ),
        (
            "digits/resnet8-kd",
            ("method={name: reviewkd}", "data.image_size=16"),
            r"method 'reviewkd' cannot train 'resnet8' with the teacher .*teacher\.safetensors on a batch of 1 image",
        ),
    ],
    ids=["network", "method"],
)
def test_a_batch_of_one_that_batch_norm_cannot_take(recipe, settings, message, tmp_path):
    save(create("resnet8", n_classes=10, image_size=16), tmp_path / "teacher.safetensors")
    teacher = (f"teacher={tmp_path}/teacher.safetensors",) if "kd" in recipe else ()
    with pytest.raises(ModelError, match=message):
        train(config(recipe, *settings, *teacher, "training.batch_size=1"), tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_teacher_whose_logits_are_not_finite(tmp_path):
    teacher = create("resnet8", n_classes=10, image_size=16)
    teacher.fc.weight.data.fill_(3e38)
    save(teacher, tmp_path / "teacher.safetensors")
    chosen = config("digits/resnet8-kd", f"teacher={tmp_path}/teacher.safetensors")
    expected = r"the teacher .*teacher\.safetensors gives NaN or infinity as a teacher for 8 of the first 8 images"
    with pytest.raises(ModelError, match=expected):
        train(chosen, tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_at_once(tmp_path):
    with pytest.raises(Diverged, match="the loss term 'ce' is not finite on the first images, so that nothing can be"):
        train(own(Huge), tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_is_too_small_for_the_first_step(error, tmp_path, monkeypatch):
    def burst(*_given):
        raise error

    monkeypatch.setattr(loop.Trainer, "losses", burst)
    with pytest.raises(RunError, match=r"cpu ran out of memory: .*training\.accumulate=2"):
        train(config(), tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        pytest.param("digits/resnet8-dropkd", ("method.dim=8",), marks=pytest.mark.slow),
        pytest.param("digits/resnet8-kd", ("method={name: crd}", "training.mixing.mixup=0.8"), marks=pytest.mark.slow),
        ("digits/resnet8", ("method={name: scn, relabel_epochs: 0}", "training.ema_decay=0.9")),
        (
            "digits/resnet8",
            ("model.name=tests.kdprobe.training.test_rehearsal:Net", "data.augment.rand_augment=rand-m9-mstd0.5"),
        ),
    ],
    ids=["dropkd", "crd", "scn", "own"],
)
def test_a_rehearsal_leaves_no_trace(recipe, settings, tmp_path, monkeypatch):
    save(create("resnet8", n_classes=10, image_size=16), tmp_path / "teacher.safetensors")
    teacher = (f"teacher={tmp_path}/teacher.safetensors",) if "kd" in recipe else ()
    chosen = config(recipe, *settings, *teacher, "training.epochs=1", "training.batch_size=32")
    train(chosen, tmp_path / "with", device="cpu", quiet=True)
    monkeypatch.setattr(run, "rehearse", lambda *_given: None)
    train(chosen, tmp_path / "without", device="cpu", quiet=True)
    assert outcome(tmp_path / "with") == outcome(tmp_path / "without")


def test_what_is_undone():
    module = nn.Sequential(nn.BatchNorm1d(3), Net())
    module[1].register_buffer("memory", torch.zeros(2))
    memory, seen, before = module[1].memory, module[1].seen, {k: v.clone() for k, v in module.state_dict().items()}
    with undone(list(module.modules()), torch.device("cpu")):
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
        module.eval()
        module[0].running_mean += 1
        module[1].memory = torch.ones(5)
        module[1].calls, module[1].more = 7, 8
        module[1].seen.append(9)
        torch.rand(1), random.random(), np.random.rand()
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert module[1].memory is memory
    assert module[1].seen is seen
    assert (module[1].calls, seen, hasattr(module[1], "more"), module[0].training) == (0, [], False, True)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()


def test_a_rehearsal_takes_few_images(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(rehearsal, "_step", lambda trainer, **_named: seen.append(rehearsal._first(trainer)) or "")
    monkeypatch.setattr(RunFolder, "claim", lambda *_given, **_options: pytest.fail("not reached"))
    with pytest.raises(pytest.fail.Exception):
        train(config(), tmp_path / "run", device="cpu", quiet=True)
    assert len(seen[0].labels) == rehearsal.IMAGES


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            Frozen,
            "Frozen' has no parameter that is trained: all are frozen, so there is nothing",
        ),
        (Empty, "Empty' has no parameters, so there is nothing to learn"),
        (
            Complex,
            "Complex' gives numbers of torch.complex64, but logits must be real floating",
        ),
        (
            Whole,
            "Whole' gives numbers of torch.int64, but logits must be real floating",
        ),
    ],
)
def test_a_network_that_cannot_learn_is_told(kind, message, tmp_path):
    with pytest.raises(ModelError, match=message):
        train(own(kind), tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_logits_that_are_not_finite_are_no_accuracy():
    data = load_data("tests.tiny:digits", image_size=32)

    class Some(nn.Module):
        def forward(self, images):
            logits = torch.zeros(len(images), 10)
            logits[:7, 4] = math.nan
            return logits

    alone, model = Ranks(0, 1, torch.device("cpu")), attach(Some(), ModelInfo("some", 10, 32))
    with pytest.raises(Diverged, match="the network gives NaN or infinity for 7 of 60 evaluation images"):
        accuracy(model, data.test, lambda images: images, workers=0, group=alone)
    assert len(next(evaluation_batches(data.test, batch_size=60)).labels) == 60


def test_a_run_whose_logits_are_not_finite_fails_and_says_so(tmp_path, capsys):
    """After the only step of an epoch, whose loss is finite."""
    settings = ("training.optimizer.lr=1e30", "training.schedule.name=constant", "training.batch_size=96")
    out = tmp_path / "run"
    with pytest.raises(
        Diverged, match="the network gives NaN or infinity for 60 of 60 evaluation images; no state was"
    ):
        train(config("digits/resnet8", *settings), out, device="cpu", quiet=True)
    run = RunFolder(out)
    assert not run.finished
    assert run.summary()["state"] == "failed"
    assert problems(run) == []
    run_command("runs", "show", out)
    assert "failed: the network gives NaN or infinity for 60 of 60" in capsys.readouterr().out
    with pytest.raises(Diverged):
        train(config("digits/resnet8", *settings), out, resume=True, device="cpu", quiet=True)


@pytest.mark.parametrize("varies", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_an_operation_without_a_deterministic_kernel_is_reported_and_allowed(
    varies, before, tmp_path, capsys, monkeypatch
):
    """From then on convolutions may take the fastest kernels; afterwards all is as the caller had it."""
    during, step = [], Trainer._step

    def seen(trainer):
        during.append((torch.backends.cudnn.benchmark, torch.is_deterministic_algorithms_warn_only_enabled()))
        step(trainer)

    monkeypatch.setattr(Trainer, "_step", seen)
    network = f"{__name__}:{'Scatters' if varies else 'Net'}"
    with torch.backends.cudnn.flags(benchmark=before):  # which a machine without a GPU has too
        train(config("digits/resnet8", f"model.name={network}", "training.epochs=1"), tmp_path / "run", device="cpu")
        assert torch.backends.cudnn.benchmark is before
    told = "the same seed may give other weights on cpu each time: put_ does not have a deterministic implementation"
    assert capsys.readouterr().err.count(f"{told}\n") == varies
    assert set(during) == {(varies, varies)}
    assert not torch.are_deterministic_algorithms_enabled()


def test_on_a_gpu_the_fastest_kernels_are_told():
    cpu, cuda = (rehearsal._varies(torch.device(name), ValueError("x has none")) for name in ("cpu", "cuda:1"))
    assert cpu == "the same seed may give other weights on cpu each time: x has none"
    assert cuda == (
        "the same seed may give other weights on cuda:1 each time: x has none; convolutions take the fastest kernels"
    )


class Raises(Net):
    def give(self, logits, maps):
        raise RuntimeError("an error of its own\nin two lines")


def test_a_network_that_fails_is_reported_in_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"Raises' fails on two images of 16 px \(RuntimeError: an error of its own"):
        train(config("digits/resnet8", f"model.name={__name__}:Raises"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_class_alone_teaches_nothing(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (16, 16), (40 * index, 0, 0)).save(tmp_path / split / "cat" / f"{index}.png")
    told = config("digits/resnet8", f"data.spec=folder:{tmp_path}")
    with pytest.raises(ConfigError, match=r"has one class alone, 'cat', so that there is nothing to learn; give two"):
        train(told, tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()
