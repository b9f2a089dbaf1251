"""Trainings that read what a teacher said equal those that asked it, for every method."""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kdprobe.cli import group as cli
from kdprobe.config import override, parse, write_yaml
from kdprobe.data import training_batches
from kdprobe.distillers import Progress, option_types
from kdprobe.errors import ConfigError, RunError, StoreError
from kdprobe.models import create
from kdprobe.models.checkpoint import LAST, save
from kdprobe.models.stages import Stages
from kdprobe.recipe import read_recipe
from kdprobe.runs.folder import RunFolder
from kdprobe.runtime.distributed import Ranks
from kdprobe.teachers.entries import Entries
from kdprobe.teachers.stored_teacher import StoredTeacher
from kdprobe.training import loop, train
from kdprobe.training.build import build
from tests import killable
from tests.kdprobe.training.test_loop import outcome, saved_at, stop_after
from tests.small_sweeps import environment, until
from tests.tiny import N_TRAIN

ALONE = Ranks(0, 1, torch.device("cpu"))
VIT = {"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
NETWORKS = {
    "cnn": ("resnet8", {}),
    "vit": ("vit_tiny_patch16_224", VIT),
    "distilled": ("deit_tiny_distilled_patch16_224", VIT),
}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    for name, (model, args) in NETWORKS.items():
        torch.manual_seed(1)
        save(create(model, n_classes=10, image_size=16, args=args), folder / f"{name}.safetensors")
    return folder


def config(teacher, method, *assignments, student="cnn"):
    name, args = NETWORKS[student]
    values = override(
        read_recipe("digits/resnet8"),
        [
            "data.spec=tests.tiny:digits", "training.epochs=4", "training.batch_size=16", "training.precision=fp32",
            "data.image_size=16",
            "data.augment.period=2", "data.seed=3", f"model.name={name}", f"model.args={json.dumps(args)}",
            f"teacher={teacher}", f"method={json.dumps(method)}", *assignments,
        ],
    )  # fmt: skip
    return parse(values, option_types())


def trained(chosen, out, **options):
    return train(chosen, out, device="cpu", quiet=True, **options)


@pytest.fixture
def asked(monkeypatch):
    """How many images the teacher was shown each time; the students' passes do not count."""
    counts, original = [], Stages.forward

    def forward(self, images):
        if not self.training:
            counts.append(len(images))
        return original(self, images)

    monkeypatch.setattr(Stages, "forward", forward)
    return counts


PAIRS = [
    ({"name": "kd"}, "cnn", "cnn", ["logits"]),
    ({"name": "ofa"}, "vit", "cnn", ["logits"]),
    ({"name": "rkd"}, "vit", "cnn", ["pooled"]),
    ({"name": "crd"}, "cnn", "cnn", ["pooled"]),
    ({"name": "at"}, "cnn", "cnn", ["maps.1", "maps.2", "maps.3"]),
    ({"name": "fitnet"}, "cnn", "cnn", ["maps.2"]),
    ({"name": "dpk", "n_stages": 1}, "cnn", "cnn", ["maps.3"]),
    ({"name": "reviewkd"}, "cnn", "cnn", ["pooled", "preacts.1", "preacts.2", "preacts.3"]),
    ({"name": "dropkd", "dim": 8}, "vit", "cnn", ["maps.1"]),
    ({"name": "dropkd", "dim": 8, "stages": [0, -1], "logit_source": "head"}, "cnn", "cnn",
     ["pooled", "maps.0", "maps.3"]),
    ({"name": "dropkd", "dim": 8, "logit_source": "logits"}, "vit", "cnn", ["logits", "maps.1"]),
    ({"name": "cakd"}, "vit", "cnn", ["tokens", "qkv"]),
    ({"name": "cskd"}, "cnn", "distilled", ["maps.3"]),
]  # fmt: skip


@pytest.mark.parametrize(("method", "teacher", "student", "outputs"), PAIRS, ids=lambda v: str(v)[:40])
def test_losses_are_the_same_to_the_bit_computed_kept_and_read(
    teachers, tmp_path, asked, method, teacher, student, outputs
):
    plain = config(teachers / f"{teacher}.safetensors", method, student=student)
    stored = config(teachers / f"{teacher}.safetensors", method, f"teacher.store={tmp_path / 'S'}", student=student)
    found, counts = [], []
    for chosen in (plain, stored, stored):
        torch.manual_seed(0)
        job, terms = build(chosen, ALONE.device), []
        trainer = loop.Trainer(chosen.training, chosen.data, job, ALONE, seed=0)
        batches = training_batches(job.data.train, batch_size=16, augment=chosen.data.augment, seed=3, epoch=1)
        asked.clear()
        if isinstance(job.teacher, StoredTeacher):
            with job.teacher.begun(ALONE):
                terms = [trainer.losses(next(batches), None, Progress(1.0, 4)) for _ in range(2)]
                assert job.teacher.summary == {"dtype": "float32", "outputs": outputs}
        else:
            terms = [trainer.losses(next(batches), None, Progress(1.0, 4)) for _ in range(2)]
        found.append([{name: value.detach() for name, value in each.items()} for each in terms])
        counts.append(asked.count(16))
    assert counts == [2, 2, 0]
    for one, *others in zip(*found, strict=True):
        for other in others:
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_training_that_reads_equals_the_one_that_wrote_and_the_teacher_is_asked_once(
    teachers, tmp_path, asked, capsys
):
    plain = config(teachers / "cnn.safetensors", {"name": "kd"})
    stored = config(teachers / "cnn.safetensors", {"name": "kd"}, f"teacher.store={tmp_path / 'S'}")
    trained(plain, tmp_path / "plain")
    asked.clear()
    train(stored, tmp_path / "writer", device="cpu")
    assert asked.count(16) == 2 * N_TRAIN // 16  # two epochs of four
    assert (
        "S: logits of 96 views, 2 epochs, float32, in 0.0 MB on disk, 0% computed; it may be deleted after the last "
        "training that reads it, and --set teacher.store=FOLDER names another; the teacher is asked in the first 2 "
        "epochs alone, so that later ones are faster than these\n" in capsys.readouterr().err
    )
    asked.clear()
    result = train(stored, tmp_path / "reader", device="cpu")
    assert 16 not in asked
    assert "2 epochs, float32, in 0.0 MB on disk, 100% computed\n" in capsys.readouterr().err
    assert result["teacher_store"] == {"dtype": "float32", "outputs": ["logits"]}
    assert outcome(tmp_path / "writer") == outcome(tmp_path / "reader") == outcome(tmp_path / "plain")
    more = override(stored.model_dump(mode="json"), ["seed=9", "method={name: rkd}", "training.epochs=1"])
    trained(parse(more, option_types()), tmp_path / "other")  # of another seed and method
    assert (next((tmp_path / "S").glob("*/epoch-0001/logits.npy"))).exists()
    assert len(list((tmp_path / "S").glob("*/views.json"))) == 1


@pytest.mark.slow
def test_images_that_never_vary_are_one_epoch(teachers, tmp_path, asked):
    still = ("data.augment={crop: none, flip: false}", f"teacher.store={tmp_path / 'S'}")
    trained(config(teachers / "cnn.safetensors", {"name": "kd"}, *still), tmp_path / "run")
    assert asked.count(16) == N_TRAIN // 16
    assert [path.name for path in (tmp_path / "S").glob("*/epoch-*")] == ["epoch-0000"]


@pytest.mark.slow
def test_float16_is_said_and_exact_too(teachers, tmp_path, capsys):
    half = (f"teacher.store={tmp_path / 'S'}", "teacher.store_dtype=float16", "training.epochs=3")
    chosen = config(teachers / "cnn.safetensors", {"name": "kd"}, *half)
    result = trained(chosen, tmp_path / "writer")
    trained(chosen, tmp_path / "reader")
    assert result["teacher_store"]["dtype"] == "float16"
    assert outcome(tmp_path / "writer") == outcome(tmp_path / "reader")
    cli.run("runs", "show", tmp_path / "writer")
    assert f"taught by outputs kept in float16 in {tmp_path / 'S'}\n" in capsys.readouterr().out


def test_numbers_that_float16_does_not_hold_are_refused(teachers, tmp_path):
    torch.manual_seed(0)
    model = create("resnet8", n_classes=10, image_size=32)
    model.fc.weight.data.mul_(1e7)
    save(model, tmp_path / "large.safetensors")
    half = (f"teacher.store={tmp_path / 'S'}", "teacher.store_dtype=float16")
    chosen = config(tmp_path / "large.safetensors", {"name": "kd", "temperature": 1000}, *half)
    with pytest.raises(
        StoreError, match=r"holds numbers up to 65504, but logits of the teacher reach .*store_dtype=float32"
    ):
        trained(chosen, tmp_path / "run")


def test_what_cannot_be_kept_is_refused_before_anything_is_written(teachers, tmp_path, monkeypatch):
    teacher, store = teachers / "cnn.safetensors", f"teacher.store={tmp_path / 'S'}"
    refused = {
        "a mixed image never comes again; set training.mixing.mixup=0": ({"name": "kd"}, "training.mixing.mixup=0.2"),
        "method 'mld' shows the teacher images of its own, which never come again": ({"name": "mld"},),
        "names 'tokens', which the teacher does not have; it has logits, pooled, maps.0, maps.1, maps.2, maps.3, pre": (
            {"name": "kd"}, "teacher.store_outputs=[tokens]",
        ),
        "names 'maps.9', which the teacher does not have; it has": (
            {"name": "at"}, "teacher.store_outputs=[maps.9]",
        ),
    }  # fmt: skip
    for message, (method, *settings) in refused.items():
        with pytest.raises(ConfigError, match=message):
            trained(config(teacher, method, store, *settings), tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.delattr(os, "preadv")
        with pytest.raises(ConfigError, match="needs a system that reads files by pread"):
            trained(config(teacher, {"name": "kd"}, store), tmp_path / "run")
    for setting in ("teacher.store_dtype=float16", "teacher.store_outputs=[pooled]"):
        with pytest.raises(ConfigError, match=r"store_\w+: must be left out where teacher.store is not given"):
            config(teacher, {"name": "kd"}, setting)
    assert not list(tmp_path.iterdir())


def test_a_refusal_comes_before_anything_is_said(teachers, tmp_path, monkeypatch, capsys):
    teacher, store = teachers / "cnn.safetensors", (f"teacher.store={tmp_path / 'S'}", "training.freeze=[conv1]")
    with pytest.raises(ConfigError, match="names 'tokens', which the teacher does not have"):
        train(config(teacher, {"name": "kd"}, *store, "teacher.store_outputs=[tokens]"), tmp_path / "run", device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(StoreError, match=r"needs 0\.0 MB, but only 0\.0 MB are free there; keep fewer epochs"):
            train(config(teacher, {"name": "kd"}, *store), tmp_path / "run", device="cpu")
    assert capsys.readouterr().err == ""
    assert not list(tmp_path.iterdir())
    train(config(teacher, {"name": "kd"}, *store, "training.epochs=1"), tmp_path / "run", device="cpu")
    first, second, third, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith("parameters of resnet8 are trained")
    assert second == "computing in fp32 on cpu"
    assert third.startswith("teacher.store ")


def test_a_method_that_reads_nothing_has_nothing_to_keep(teachers, tmp_path):
    chosen = config(teachers / "cnn.safetensors", {"name": "kd"}, f"teacher.store={tmp_path / 'S'}")
    job = build(chosen, ALONE.device)
    job.method.teacher_needs = ()
    with pytest.raises(ConfigError, match=r"teacher\.store has nothing to keep"), job.teacher.begun(ALONE):
        pass


def test_the_store_of_another_teacher_or_of_other_data_is_refused(teachers, tmp_path):
    store = (f"teacher.store={tmp_path / 'S'}", "training.epochs=1")
    trained(config(teachers / "cnn.safetensors", {"name": "kd"}, *store), tmp_path / "run")
    with pytest.raises(StoreError, match=r"keeps the outputs of a teacher with the sha256 \w{64}, but that of .*vit"):
        trained(config(teachers / "vit.safetensors", {"name": "kd"}, *store), tmp_path / "other")
    data = ("data.spec=digits", "data.per_class=5")
    with pytest.raises(
        StoreError, match=r"keeps outputs for data with the sha256 \w{64}, but that of digits is \w{64}"
    ):
        trained(config(teachers / "cnn.safetensors", {"name": "kd"}, *store, *data), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_two_teachers_that_begin_one_store_at_the_same_time_do_not_share_it(teachers, tmp_path):
    torch.manual_seed(2)
    save(create("resnet8", n_classes=10, image_size=32), tmp_path / "other.safetensors")
    store = f"teacher.store={tmp_path / 'S'}"
    first = build(config(teachers / "cnn.safetensors", {"name": "kd"}, store), ALONE.device).teacher
    others = [
        build(
            config(tmp_path / "other.safetensors", {"name": "kd"}, store, f"data.augment.period={period}"), ALONE.device
        )
        for period in (2, 3)  # with the views of the first one, and with views of its own
    ]
    with first.begun(ALONE):
        before = sorted((tmp_path / "S").rglob("*"))
        for other in others:
            message = r"keeps the outputs of a teacher with the sha256 \w{64}, but that of .*other"
            with pytest.raises(StoreError, match=message), other.teacher.begun(ALONE):
                pass
        assert sorted((tmp_path / "S").rglob("*")) == before


@pytest.mark.slow
def test_more_outputs_can_be_kept_for_other_methods(teachers, tmp_path, asked):
    more = (f"teacher.store={tmp_path / 'S'}", "teacher.store_outputs=[pooled, maps.2]", "training.epochs=1")
    trained(config(teachers / "cnn.safetensors", {"name": "kd"}, *more), tmp_path / "kd")
    for method, output in (("rkd", "pooled"), ("fitnet", "maps.2")):
        asked.clear()
        one = (f"teacher.store={tmp_path / 'S'}", "training.epochs=1")
        result = trained(config(teachers / "cnn.safetensors", {"name": method}, *one), tmp_path / method)
        assert result["teacher_store"]["outputs"] == [output]
        assert 16 not in asked


def test_of_all_that_is_kept_a_method_reads_its_own(teachers, tmp_path, asked, monkeypatch):
    read, original = set(), Entries.read

    def noted(self, places):
        read.add(Path(self._data.name).stem)
        return original(self, places)

    monkeypatch.setattr(Entries, "read", noted)
    more = (f"teacher.store={tmp_path / 'S'}", "teacher.store_outputs=[logits, pooled, maps]")
    losses = {}
    for method, own in (("kd", {"logits"}), ("fitnet", {"maps.2"}), ("at", {"maps.1", "maps.2", "maps.3"})):
        for settings in ((), more):
            chosen = config(teachers / "cnn.safetensors", {"name": method}, *settings)
            torch.manual_seed(0)
            job = build(chosen, ALONE.device)
            trainer = loop.Trainer(chosen.training, chosen.data, job, ALONE, seed=0)
            batches = training_batches(job.data.train, batch_size=16, augment=chosen.data.augment, seed=3, epoch=1)
            asked.clear()
            with job.teacher.begun(ALONE) if settings else nullcontext():
                read.clear()
                losses[settings] = trainer.losses(next(batches), None, Progress(1.0, 4))
            assert not settings or asked.count(16) == (method == "kd")  # which computes all for the others
        assert read == (own if method != "kd" else {"logits", "pooled", "maps.0", "maps.1", "maps.2", "maps.3"})
        assert all(torch.equal(value, losses[more][name]) for name, value in losses[()].items())


@pytest.mark.slow
def test_a_run_that_was_stopped_and_resumed_equals_an_uninterrupted_one(teachers, tmp_path, monkeypatch):
    def chosen(store):
        return config(teachers / "cnn.safetensors", {"name": "kd"}, f"teacher.store={tmp_path / store}")

    trained(chosen("S"), tmp_path / "whole")
    stop_after(8, monkeypatch)
    with suppress(RunError):
        trained(chosen("T"), tmp_path / "parts")
    monkeypatch.undo()
    (tmp_path / "T").rename(tmp_path / "moved")
    trained(chosen("moved"), tmp_path / "parts", resume=True)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    assert RunFolder(tmp_path / "parts").values()["teacher_facts"]["store"] == str(tmp_path / "moved")
    without = config(teachers / "cnn.safetensors", {"name": "kd"})
    with pytest.raises(RunError, match=r"these keys differ: teacher_facts"):
        trained(without, tmp_path / "parts", resume=True)


@pytest.mark.slow
def test_a_disk_that_gets_full_ends_the_run_which_goes_on_when_there_is_room(teachers, tmp_path, monkeypatch):
    chosen = config(teachers / "cnn.safetensors", {"name": "kd"}, f"teacher.store={tmp_path / 'S'}")
    original, count = os.pwrite, []

    def full(*arguments):
        count.append(1)
        if len(count) > 200:
            raise OSError(28, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(
        StoreError, match=r"No space left on device; what it holds is whole, and the run goes on with --res"
    ):
        trained(chosen, tmp_path / "run")
    monkeypatch.undo()
    trained(chosen, tmp_path / "run", resume=True)
    trained(chosen, tmp_path / "whole")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_images_that_cannot_be_decoded_are_left_out(teachers, tmp_path):
    from tests.kdprobe.data.test_judged import images

    for part in ("train", "test"):
        images(tmp_path / "D" / part, n=6)
    (tmp_path / "D" / "train" / "a" / "bad.png").write_bytes(b"x" * 50)
    torch.manual_seed(1)
    teacher = tmp_path / "t.safetensors"
    save(create("resnet8", n_classes=2, image_size=16), teacher)
    files = (
        f"data={{spec: 'folder:{tmp_path / 'D'}', skip_bad: true, storage: files, image_size: 16, seed: 3, "
        "augment: {period: 2}, workers: 0}",
        "training.batch_size=4",
    )  # fmt: skip
    stored = config(teacher, {"name": "kd"}, *files, f"teacher.store={tmp_path / 'S'}")
    for name, chosen in (("plain", config(teacher, {"name": "kd"}, *files)), ("writer", stored), ("reader", stored)):
        trained(chosen, tmp_path / name)
    assert RunFolder(tmp_path / "reader").metrics()[-1]["skipped"] == 1
    assert outcome(tmp_path / "writer") == outcome(tmp_path / "reader") == outcome(tmp_path / "plain")


def test_configurations_that_cached_logits_are_still_read(teachers):
    values = config(teachers / "cnn.safetensors", {"name": "kd"}).model_dump(mode="json")
    values["training"]["cache_teacher"] = False
    assert "cache_teacher" not in parse(values, option_types()).model_dump()["training"]


def progress(out, store):
    """Changes when a training begins its store, and each time it saves: however slow a machine is, it gets on."""
    return store.exists(), saved_at(out)


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_equals_an_uninterrupted_run(teachers, tmp_path):
    rng = random.Random(0)

    def chosen(store):
        settings = (f"teacher.store={tmp_path / store}", "training.saving.minutes=0", "training.epochs=3")
        return config(teachers / "cnn.safetensors", {"name": "at"}, *settings)

    trained(chosen("S"), tmp_path / "whole")
    for trial in range(2):
        out, path, told = (tmp_path / name for name in (f"run{trial}", f"{trial}.yaml", f"{trial}.txt"))
        path.write_text(write_yaml(chosen(f"S{trial}")))
        words = ["train", path, "--out", out, "--quiet", "--device", "cpu"]
        for attempt in itertools.count():
            if RunFolder(out).finished:
                break
            resume = ["--resume"] if (out / "state.pt").is_file() else []
            if not resume:
                shutil.rmtree(out, ignore_errors=True)
            before, process = progress(out, tmp_path / f"S{trial}"), killable.start([*words, *resume], told)
            until(lambda: progress(out, tmp_path / f"S{trial}") != before or not process.is_alive())  # noqa: B023
            process.join(rng.uniform(0, attempt))
            killable.end(process, told)
        assert outcome(out) == outcome(tmp_path / "whole"), f"trial {trial}"


@pytest.mark.slow
def test_cells_of_a_sweep_read_what_one_of_them_computed(teachers, tmp_path):
    """Two at a time, each by a process of its own; every cell equals a training that asks the teacher itself."""
    plain = config(teachers / "cnn.safetensors", {"name": "kd"}, "training.epochs=3")
    stored = config(
        teachers / "cnn.safetensors", {"name": "kd"}, "training.epochs=3", f"teacher.store={tmp_path / 'S'}"
    )
    for name, chosen in (("plain", plain), ("stored", stored)):
        (tmp_path / f"{name}.yaml").write_text(write_yaml(chosen))
        words = ["sweep", tmp_path / f"{name}.yaml", "--grid", "method.temperature=2,4", "--seeds", "2"]
        cli.run(*words, "--slots", "2", "--out", tmp_path / name, "--device", "cpu", "--quiet")
    found = {}
    for name in ("plain", "stored"):
        for path in (tmp_path / name / "cells").iterdir():
            values = RunFolder(path).values()
            found[name, values["seed"], values["method"]["temperature"]] = (path / LAST).read_bytes()
    assert len(found) == 8
    for (_, *cell), weights in found.items():
        assert weights == found["plain", *cell]
    assert len({found["plain", seed, t] for seed in (0, 1) for t in (2, 4)}) == 4


@pytest.mark.slow
def test_several_processes_write_and_read_one_store(teachers, tmp_path):
    torchrun = [
        "torch.distributed.run",
        "--standalone",
        "--local-addr=127.0.0.1",
        "--nproc-per-node=2",
        "-m",
        "kdprobe",
    ]
    chosen = config(teachers / "cnn.safetensors", {"name": "kd"}, f"teacher.store={tmp_path / 'S'}")
    (tmp_path / "c.yaml").write_text(write_yaml(chosen))
    for name in ("writer", "reader"):
        command = [sys.executable, "-m", *torchrun, "train", str(tmp_path / "c.yaml"), "--out", str(tmp_path / name)]
        done = subprocess.run(
            [*command, "--device", "cpu"], env=environment(), capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert f"float32, in 0.0 MB on disk, {'0' if name == 'writer' else '100'}% computed" in done.stderr
    assert outcome(tmp_path / "writer") == outcome(tmp_path / "reader")
