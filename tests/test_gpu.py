"""Training and dumping on one CUDA device; run with `pytest -m gpu` where there is one."""

import time
from functools import partial
from unittest.mock import MagicMock

import pytest
import torch

import kdprobe
import tests.tiny
from kdprobe.config import AugmentConfig, override, parse
from kdprobe.data import training_batches
from kdprobe.distillers import DISTILLERS, option_types
from kdprobe.errors import Diverged, Stopped
from kdprobe.features.dump import Dump, write_dump
from kdprobe.features.shared_images import Views
from kdprobe.features.staging import Staging, as_stored, behind
from kdprobe.features.store import FeatureStore
from kdprobe.models.checkpoint import LAST
from kdprobe.recipe import read_recipe
from kdprobe.runs.folder import RunFolder
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.signals import StopRequest
from kdprobe.training import train
from kdprobe.training.console import Watch
from kdprobe.training.loop import Trainer
from kdprobe.training.saving import Keeper
from kdprobe.training.state import Position
from tests.kdprobe.runtime.test_compiling import compiled
from tests.kdprobe.training.test_loop import spoil, stop_after
from tests.small_jobs import job_of, save_teachers

pytestmark = pytest.mark.gpu


def config(recipe, *assignments):
    values = override(read_recipe(recipe), ["training.epochs=3", *assignments])
    return parse(values, option_types(), source=recipe)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "run"
    train(config("digits/vit-teacher", "training.epochs=15"), out, device="cuda", quiet=True)
    return out


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("method", ["digits/resnet8-kd", "digits/resnet8-dropkd"])
def test_students_learn_in_every_precision(teacher, tmp_path, method, precision):
    chosen = config(method, f"teacher={teacher}", f"training.precision={precision}")
    result = train(chosen, tmp_path / "run", device="cuda", quiet=True)
    assert result["accuracy"] > 0.5


def test_compiled_students_learn(teacher, tmp_path):
    chosen = config("digits/resnet8-kd", f"teacher={teacher}", "training.compile=true", "training.precision=bf16")
    assert train(chosen, tmp_path / "run", device="cuda", quiet=True)["accuracy"] > 0.5


@pytest.mark.parametrize("methods", [["kd", "dropkd"], ["fitnet", "cka", "scn"], ["rkd", "cc", "at"], ["crd"]], ids=str)
def test_replayed_graphs_compute_what_networks_compute_as_they_are(methods, tmp_path):
    for one in compiled("cuda", "inductor", methods, tmp_path):
        assert one["losses"] == pytest.approx(one["eager"], rel=2e-2), one["method"]
        assert one["skips"] == 0, one["method"]
        *_, before_last, last = one["recorded"]
        assert last == before_last, f"{one['method']} is recorded anew in each epoch"
        assert (last > 0) == DISTILLERS[one["method"]].is_static


@pytest.mark.parametrize(
    "options",
    [
        ("training.accumulate=2", "training.clip_grad_norm=1.0", "training.ema_decay=0.9"),
        ("training.precision=fp16", "training.accumulate=3"),
        ("training.mixing={mixup: 0.8, cutmix: 1.0}",),
        ("training.optimizer={name: adamw, lr: 1e-3}", "method.name=dropkd"),
    ],
    ids=str,
)
def test_replayed_graphs_train_as_uncompiled_networks_do(teacher, tmp_path, options):
    still, losses = ("data.augment.crop=none", "training.optimizer.lr=1e-3"), {}
    for how in ("true", "false"):
        chosen = config("digits/resnet8-kd", f"teacher={teacher}", f"training.compile={how}", *still, *options)
        train(chosen, tmp_path / how, device="cuda", quiet=True)
        losses[how] = [record["loss"] for record in RunFolder(tmp_path / how).metrics()]
    assert losses["true"] == pytest.approx(losses["false"], rel=2e-2)


def test_replayed_graphs_learn_from_a_stored_teacher(teacher, tmp_path):
    stored = ("training.compile=true", f"teacher.store={tmp_path / 'store'}", "data.augment.period=1")
    chosen = config("digits/resnet8-kd", f"teacher={teacher}", *stored)
    for name in ("first", "again"):  # from what the teacher says, and from what was kept of it
        train(chosen, tmp_path / name, device="cuda", quiet=True)
    losses = [[record["loss"] for record in RunFolder(tmp_path / name).metrics()] for name in ("first", "again")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_stopped_compiled_run_goes_on(teacher, tmp_path, monkeypatch):
    chosen = config("digits/resnet8-kd", f"teacher={teacher}", "training.compile=true")
    train(chosen, tmp_path / "whole", device="cuda", quiet=True)
    stop_after(9, monkeypatch)
    with pytest.raises(Stopped):
        train(chosen, tmp_path / "parts", device="cuda", quiet=True)
    monkeypatch.undo()
    train(chosen, tmp_path / "parts", resume=True, device="cuda", quiet=True)
    whole, parts = (RunFolder(tmp_path / name).metrics()[-1]["loss"] for name in ("whole", "parts"))
    assert parts == pytest.approx(whole, rel=2e-2)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name in "ab":
        train(config("digits/resnet8"), tmp_path / name, device="cuda", quiet=True)
    assert (tmp_path / "a" / LAST).read_bytes() == (tmp_path / "b" / LAST).read_bytes()


def test_a_stopped_run_equals_an_uninterrupted_one(teacher, tmp_path, monkeypatch):
    chosen = config("digits/resnet8-dropkd", f"teacher={teacher}")
    train(chosen, tmp_path / "whole", device="cuda", quiet=True)
    stop_after(9, monkeypatch)
    with pytest.raises(Stopped):
        train(chosen, tmp_path / "parts", device="cuda", quiet=True)
    monkeypatch.undo()
    train(chosen, tmp_path / "parts", resume=True, device="cuda", quiet=True)
    assert (tmp_path / "whole" / LAST).read_bytes() == (tmp_path / "parts" / LAST).read_bytes()


def test_a_loss_that_is_not_finite_is_found_before_anything_is_saved(tmp_path, monkeypatch):
    spoil(3, monkeypatch)
    with pytest.raises(Diverged, match=r"in step 3 of epoch 1, .* 'ce' is nan; .*; no state was saved before that"):
        train(config("digits/resnet8"), tmp_path / "run", device="cuda", quiet=True)
    assert not [path for path in (tmp_path / "run").iterdir() if path.suffix in (".pt", ".safetensors")]


def test_cpu_and_gpu_agree_on_a_step(tmp_path):
    still = ("data.augment.crop=none", "training.epochs=1", "training.optimizer.lr=1e-3")
    losses = []
    for device in ("cpu", "cuda"):
        train(config("digits/resnet8", *still), tmp_path / device, device=device, quiet=True)
        losses.append(RunFolder(tmp_path / device).metrics()[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_network_trained_on_the_gpu_is_loaded_on_the_cpu(tmp_path):
    train(config("digits/resnet8"), tmp_path / "run", device="cuda", quiet=True)
    assert next(kdprobe.load(tmp_path / "run").parameters()).device == torch.device("cpu")


def test_a_transformer_learns_the_same_bytes_each_time(tmp_path):
    for name in "ab":
        train(config("digits/vit-teacher"), tmp_path / name, device="cuda", quiet=True)
    assert (tmp_path / "a" / LAST).read_bytes() == (tmp_path / "b" / LAST).read_bytes()


@pytest.mark.parametrize("method", ["rkd", "at", "fitnet", "dropkd", "reviewkd", "crd"])
def test_a_larger_teacher_without_a_head_teaches(tmp_path, method):
    teacher = kdprobe.models.create("vit_tiny_patch16_224", n_classes=0, image_size=48, args={"depth": 4})
    kdprobe.models.save(teacher, tmp_path / "teacher.safetensors")
    chosen = config("digits/resnet8", f"teacher={tmp_path / 'teacher.safetensors'}", f"method.name={method}")
    result = train(chosen, tmp_path / "run", device="cuda", quiet=True)
    assert result["accuracy"] > 0.2


def test_distillation_computes_on_the_gpu_what_it_computes_on_the_cpu(teacher):
    torch.manual_seed(0)
    student = kdprobe.models.create("resnet8", n_classes=10, image_size=32)
    images, labels = torch.rand(8, 3, 32, 32), torch.arange(8)
    losses = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        distillation = kdprobe.Distillation(student, teacher, "kd").to(device)
        losses.append(distillation(images.to(device), labels.to(device), epoch=0).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert distillation(images.cuda(), labels.cuda(), epoch=0).loss.item() == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize("method", DISTILLERS)
def test_no_step_waits_for_the_gpu(tmp_path, method):
    config_, job = job_of(save_teachers(tmp_path), method, device="cuda")
    trainer = Trainer(config_.training, config_.data, job, Ranks(0, 1, torch.device("cuda")), seed=0)

    def added(*args, add=trainer.tally.add, **options):
        torch.cuda.set_sync_debug_mode("error")  # after the first step, which also sends what all of them need
        add(*args, **options)

    def check(*args, check=trainer._check):
        torch.cuda.set_sync_debug_mode("default")  # at the end of the epoch, as there are fewer than 20 steps
        check(*args)

    trainer.tally.add, trainer._check = added, check
    keeper = MagicMock(Keeper, stop=StopRequest(), wishes=(False, False))
    try:
        trainer._train_epoch(Position(n_images=trainer.n_images), keeper, Watch(3, quiet=True))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.n_steps > 2


def test_what_workers_prepare_arrives_one_ahead():
    split = tests.tiny.digits(16).train
    for augment in (AugmentConfig(), AugmentConfig(rand_augment="rand-m9")):
        options = {"batch_size": 16, "augment": augment, "seed": 0, "epoch": 1, "workers": 0}
        pairs = zip(*(training_batches(split, **options, device=name) for name in ("cpu", "cuda")), strict=True)
        for ours, theirs in pairs:
            assert torch.equal(ours.images, theirs.images.cpu())
            assert torch.equal(ours.labels, theirs.labels.cpu())
            assert torch.equal(ours.index, theirs.index.cpu())
            assert torch.equal(ours.view, theirs.view)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [({}, 1e-3), ({"dtype": "float16"}, 1e-2), ({"reduce": "gap"}, 1e-3), ({"content": "grams"}, None)],
    ids=str,
)
@pytest.mark.parametrize("half", [False, True])
def test_dumps_on_the_gpu_are_those_on_the_cpu_and_wait_for_nothing(tmp_path, options, tolerance, half):
    torch.manual_seed(0)
    models = {
        "teacher": kdprobe.models.create("vit_tiny_patch16_224", n_classes=3, image_size=32, args={"depth": 2}),
        "student": kdprobe.models.create("resnet8", n_classes=5, image_size=32),
    }
    split = tests.tiny.digits(32).train.take(torch.arange(90))
    views, checked = Views("digits", models, dict.fromkeys(models, split)), 0

    def minibatches(start, stop):
        nonlocal checked
        try:
            for number, batches in enumerate(views.minibatches(start, stop, batch_size=16, device="cuda")):
                if number > 1 and tolerance:  # Gram matrices wait once for each network
                    torch.cuda.set_sync_debug_mode("error")
                    checked += 1
                yield batches
        finally:
            torch.cuda.set_sync_debug_mode("default")

    for device in ("cpu", "cuda"):
        source = minibatches if device == "cuda" else partial(views.minibatches, batch_size=16)
        for model in models.values():
            model.to(dtype=torch.float16 if half and device == "cuda" else torch.float32)
        write_dump(Dump(models, source, 90, 16, device=device, **options), tmp_path / f"{device}.h5")
    assert checked == (4 if tolerance else 0)
    near = {"rtol": 2e-2, "atol": 2e-2} if half or not tolerance else {"rtol": tolerance, "atol": tolerance}
    with FeatureStore.open(tmp_path / "cpu.h5") as one, FeatureStore.open(tmp_path / "cuda.h5") as other:
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.labels, other.labels)
        for role in models:
            assert one.layers(role) == other.layers(role)
            for (_, ours), (_, theirs) in zip(one.minibatches(role), other.minibatches(role), strict=True):
                for name, x in ours.items():
                    scale = x.double().abs().amax()
                    torch.testing.assert_close(theirs[name].double() / scale, x.double() / scale, **near)


def test_features_on_the_gpu_are_stored_as_on_the_cpu_to_the_bit():
    x = torch.randn(64, 300, generator=torch.Generator().manual_seed(0)) * torch.logspace(-9, 4, 300)
    for dtype in (torch.float32, torch.float16):
        here = as_stored(x, dtype)
        index = {"student": torch.arange(64, device="cuda")}
        staged = Staging(torch.device("cuda"), dtype).take(index, torch.arange(64), {"student": {"a": x.cuda()}})
        assert staged.features["student"]["a"].values.is_pinned()
        there = staged.arrived(dtype)["student"]["a"]
        assert torch.equal(there.values, here.values)
        torch.testing.assert_close(there.facts, here.facts, rtol=1e-5, atol=0)
        assert torch.equal(staged.index["student"], torch.arange(64))


def test_a_writer_that_is_slow_has_no_more_than_its_bytes_before_it():
    features = torch.randn(64, 1 << 14, device="cuda")  # 4 MiB
    alive, most = 0, 0

    def write(staged):
        nonlocal alive, most
        most = max(most, alive)
        time.sleep(0.01)
        staged.arrived(torch.float32)
        alive -= 1

    staging, index = Staging(torch.device("cuda"), torch.float32), torch.arange(64)
    with behind(write, most_bytes=1 << 24) as call:
        for _ in range(20):
            staged = staging.take({"student": index}, index, {"student": {"a": features + 1}})
            alive += 1
            call(staged.n_bytes, staged)
    assert most <= 5  # four that wait, and one that is on its way
    assert alive == 0


def test_cka_and_dumps_on_the_gpu_equal_those_on_the_cpu(teacher, tmp_path):
    from analyses.cka import cka

    student = kdprobe.models.create("resnet8", n_classes=10, image_size=32)
    images = torch.rand(64, 3, 32, 32)
    matrices = []
    for device in ("cpu", "cuda"):
        loader = [(images[start : start + 32], torch.zeros(32, dtype=torch.int64)) for start in (0, 32)]
        layers = {"teacher_layers": ["blocks.0"], "student_layers": ["layer3"]}
        matrices.append(cka(kdprobe.load(teacher), student, loader, device=device, **layers).matrix)
    assert matrices[0] == pytest.approx(matrices[1], abs=2e-3)
