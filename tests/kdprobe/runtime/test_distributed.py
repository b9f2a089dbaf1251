"""Several processes on one machine, as torchrun starts them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from kdprobe.errors import ConfigError
from kdprobe.features.minibatches import fixed_order
from kdprobe.features.store import FeatureStore
from kdprobe.models.checkpoint import save
from kdprobe.models.creation import create
from kdprobe.runs.folder import RunFolder
from kdprobe.runtime.distributed import Ranks

pytestmark = pytest.mark.slow

VIT = (
    "digits/vit-teacher",
    "training.precision=fp32",
    "model.args={patch_size: 8, embed_dim: 24, depth: 2, num_heads: 2}",
)
RESNET = ("digits/resnet8",)


def processes(number):
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--local-addr=127.0.0.1",
        f"--nproc-per-node={number}",
        "-m",
        "kdprobe",
    ]


def command(n_processes, out, recipe, *assignments):
    settings = [word for assignment in assignments for word in ("--set", assignment)]
    return [*processes(n_processes), "train", recipe, *settings, "--out", str(out), "--device", "cpu", "--quiet"]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*arguments, extra=()):
    done = subprocess.run(
        [*command(*arguments), *extra], env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


SAY = """
import os
import sys
import torch
from kdprobe import cli

def say(*words):  # in one piece, which `print` does not promise: lines of several processes would mix
    os.write(1, " ".join(["", *map(str, words), "\\n"]).encode())
"""


def run_script(text, tmp_path, n_processes, *arguments):
    """What processes print that do something before they are `kdprobe`."""
    script = tmp_path / "script.py"
    script.write_text(f"{SAY}\n{text}\ncli.run(*sys.argv[1:])\n")
    words = command(n_processes, *arguments)
    place = words.index("-m", words.index("--standalone"))
    words[place : place + 2] = [str(script)]
    paths = {**environment(), "PYTHONPATH": os.pathsep.join(["", *sys.path])}
    done = subprocess.run(words, env=paths, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(out):
    return [record["loss"] for record in RunFolder(out).metrics()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    run(1, out, *VIT, "training.epochs=4")
    return out


@pytest.mark.parametrize("world", [2, 3])
def test_many_processes_give_the_curve_of_one(alone, tmp_path, world):
    done = run(world, tmp_path / "run", *VIT, "training.epochs=4")
    assert losses(tmp_path / "run") == pytest.approx(losses(alone), abs=1e-5)
    assert RunFolder(tmp_path / "run").result()["accuracy"] == RunFolder(alone).result()["accuracy"]
    assert done.stdout.count("accuracy") == 1


def test_accumulation_and_mixing_work_on_many(tmp_path):
    settings = ("training.epochs=1", "training.accumulate=2", "training.mixing.mixup=0.5", "training.ema_decay=0.9")
    run(2, tmp_path / "run", *RESNET, *settings)
    assert RunFolder(tmp_path / "run").finished


def test_a_process_that_dies_ends_the_others_and_the_run_resumes_with_another_number(tmp_path):
    out = tmp_path / "run"
    arguments = (*VIT, "training.epochs=30")
    process = subprocess.Popen(command(3, out, *arguments), env=environment(), stderr=subprocess.PIPE, text=True)
    while len(RunFolder(out).metrics()) < 2:
        time.sleep(0.1)
        assert process.poll() is None, process.stderr.read()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    victim = max(map(int, children.split()))
    os.kill(victim, signal.SIGKILL)
    start = time.monotonic()
    _, text = process.communicate(timeout=60)
    assert time.monotonic() - start < 30
    assert process.returncode != 0
    told = {line for line in text.splitlines() if line.startswith("kdprobe: ")}
    assert "[rank" not in text, "our processes print no traceback"
    assert all("another process" in line or "stopped by SIGTERM" in line for line in told), text
    assert not RunFolder(out).finished
    run(2, out, *arguments, extra=["--resume"])
    assert len(RunFolder(out).metrics()) == 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_told_to_stop_saves_first_and_resumes_exactly_with_another_number(alone, tmp_path, number):
    out = tmp_path / "run"
    arguments = (*VIT, "training.epochs=4")
    process = subprocess.Popen(command(2, out, *arguments), env=environment(), stderr=subprocess.PIPE, text=True)
    while not (out / "metrics.jsonl").is_file():
        time.sleep(0.01)
        assert process.poll() is None, process.stderr.read()
    process.send_signal(number)
    _, text = process.communicate(timeout=60)
    stopped = set(re.findall(r"stopped by .* in epoch (\d) after step (\d+); continue with --resume", text))
    assert len(stopped) == 1, text
    assert "kdprobe/training" not in text, "our processes print no traceback"
    saved = torch.load(out / "state.pt", weights_only=True)
    position = saved["position"]
    assert (position["epoch"] + 1, position["step"]) == tuple(map(int, stopped.pop()))
    assert saved["parts"]["tally"]["sums"]
    run(3, out, *arguments, extra=["--resume"])
    assert losses(out) == pytest.approx(losses(alone), abs=1e-5)


@pytest.mark.parametrize("more", [(), ("training.ema_decay=0.9",), ("training.saving.minutes=0",)])
def test_batch_norm_statistics_of_all_processes_outlive_a_stop(tmp_path, more):
    arguments = (*RESNET, "training.precision=fp32", "training.epochs=4", *more)
    run(2, tmp_path / "whole", *arguments)
    out = tmp_path / "stopped"
    process = subprocess.Popen(command(2, out, *arguments), env=environment(), stderr=subprocess.PIPE, text=True)
    while not (out / "metrics.jsonl").is_file():
        time.sleep(0.01)
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert torch.load(out / "state.pt", weights_only=True)["position"]["step"]
    run(2, out, *arguments, extra=["--resume"])
    whole, stopped = (load_file(folder / "last.safetensors") for folder in (tmp_path / "whole", out))
    statistics = [name for name in whole if "running" in name]
    assert statistics
    for name in whole:
        if name in statistics:
            torch.testing.assert_close(stopped[name], whole[name], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(stopped[name], whole[name]), name


def test_relabelled_images_are_relabelled_in_all_processes(tmp_path):
    """In the last epoch, so that no label has an effect yet, and without ranks, which are those within a process."""
    method = "{name: scn, relabel_epochs: 1, relabel_margin: 0, rank_weight: 0}"
    arguments = (*VIT, f"method={method}", "training.epochs=2")
    for world in (1, 2):
        run(world, tmp_path / str(world), *arguments)
    cured = []
    for world in (1, 2):
        state = torch.load(tmp_path / str(world) / "state.pt", weights_only=True)
        cured.append(dict(state["parts"]["objective"]["method._extra_state"].tolist()))
    assert len(cured[0]) > 50
    assert len(cured[0].items() ^ cured[1].items()) < len(cured[0]) / 20, "but for those on the edge"


def test_many_processes_dump_parts_of_their_own(tmp_path):
    save(create("resnet8", n_classes=10, image_size=16, data="digits"), tmp_path / "net.safetensors")
    out = tmp_path / "features.h5"
    dump = ["dump", "--student", str(tmp_path / "net.safetensors"), "--out", str(out), "--device", "cpu", "--quiet"]
    subprocess.run([*processes(2), *dump], env=environment(), capture_output=True, text=True, check=True, timeout=300)
    assert sorted(file.name for file in tmp_path.glob("features*")) == [
        "features.0000.h5",
        "features.0001.h5",
        "features.h5",
    ]
    with FeatureStore.open(out) as store:
        assert store.index.tolist() == fixed_order(store.n_samples).tolist(), "as one process shows them"


def test_synchronised_batch_norm_needs_cuda():
    group = Ranks(0, 2, torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"training\.sync_bn needs CUDA devices, but this process has cpu"):
        group.wrap(torch.nn.BatchNorm2d(2), sync_bn=True)


def test_each_process_draws_numbers_of_its_own(tmp_path):
    script = """
from kdprobe.training import loop

def look(self, *given):
    say("drawn", int(torch.randint(2**40, ())))
    original(self, *given)

original, loop.Trainer._train_epoch = loop.Trainer._train_epoch, look
"""
    text = run_script(
        script, tmp_path, 2, tmp_path / "run", *RESNET, "training.epochs=1", "data.spec=tests.tiny:digits"
    )
    assert len(set(re.findall(r"drawn (\d+)", text))) == 2, text


def test_a_rest_smaller_than_the_processes_joins_the_batch_before(tmp_path):
    settings = ("training.epochs=1", "training.batch_size=31", "data.spec=tests.tiny:digits")  # 96 = 3 * 31 + 3
    run(4, tmp_path / "run", *VIT, *settings)
    (record,) = RunFolder(tmp_path / "run").metrics()
    assert (record["steps"], record["images"]) == (3, 96)


def test_without_labels_layers_that_nothing_teaches_stay_as_they_begin(tmp_path):
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    run(1, tmp_path / "teacher", *RESNET, "data.image_size=16", "training.epochs=1", "data.per_class=4")
    taught = (f"teacher={tmp_path / 'teacher'}", "method={name: fitnet, ce_weight: 0}", "training.precision=fp32")
    given = (*RESNET, f"data.spec=images:{tmp_path / 'pictures'}", "data.image_size=16", "training.epochs=2", *taught)
    run(2, tmp_path / "run", *given, "training.batch_size=8", "training.saving.snapshots=2")
    assert RunFolder(tmp_path / "run").result()["accuracy"] is None
    begun, done = (load_file(tmp_path / "run" / "snapshots" / f"epoch-000{epoch}.safetensors") for epoch in (0, 2))
    same = {name for name in begun if name.endswith("conv1.weight") and torch.equal(begun[name], done[name])}
    assert same == {"layer3.0.conv1.weight"}


def test_images_that_are_skipped_count_for_no_process(tmp_path):
    script = """
from kdprobe.training import loop

def look(self, batch, position):
    share = original(self, batch, position)
    say("share", self.group.rank, position.step, len(batch.labels), float(share))
    return share

original, loop.Trainer._weight = loop.Trainer._weight, look
"""
    for split, classes in (("train", "ab"), ("test", "ab")):
        for name in classes:
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(8):
                Image.new("RGB", (32, 32), (i, 0, 0)).save(tmp_path / split / name / f"{i}.png")
    for i in range(3):
        (tmp_path / "train" / "a" / f"{i}.png").write_bytes(b"no image")
    data = (f"data.spec=folder:{tmp_path}", "data.skip_bad=true", "data.workers=0", "data.storage=files")
    text = run_script(script, tmp_path, 2, tmp_path / "run", *VIT, *data, "training.epochs=1", "training.batch_size=16")
    found = {int(rank): (int(n), float(share)) for rank, n, share in re.findall(r"share (\d) 0 (\d+) (\S+)", text)}
    assert sum(n for n, _ in found.values()) == 13
    assert [share for _, share in found.values()] == pytest.approx([2 * n / 13 for n, _ in found.values()])
