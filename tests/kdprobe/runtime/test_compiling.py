import json
import os
import statistics
import subprocess
import sys

import pytest
import torch

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.base import clamped, cosine
from kdprobe.runtime.compiling import Compilation, compile_training
from kdprobe.runtime.distributed import Ranks
from kdprobe.training.loop import Trainer
from kdprobe.training.state import Position
from tests.small_jobs import job_of, save_teachers


def test_a_missing_compiler_is_said_and_does_no_harm(monkeypatch, capsys):
    tried = []

    def broken(_function):
        def called(x):
            tried.append(x.device.type)
            raise RuntimeError("no C++ compiler")

        return called

    monkeypatch.setattr(torch, "compile", broken)
    module, group = torch.nn.Linear(2, 2), Ranks(0, 1, torch.device("meta"))
    assert compile_training(module, [], group, is_static=True) is None
    assert tried == ["meta"], "the compiler for the device that is trained on"
    assert module._compiled_call_impl is None
    assert "training.compile is off: no working compiler was found (no C++ compiler)" in capsys.readouterr().err


def compiled(device, backend, methods, cache):
    """What `tests.compiled_steps` prints."""
    command = [sys.executable, "-m", "tests.compiled_steps", device, backend, *methods]
    own_cache = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache)}  # none that a killed process left half-written
    done = subprocess.run(command, env=own_cache, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["method"] for one in found] == methods
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "methods"),
    [
        ("inductor", ["dropkd"]),
        ("aot_eager", ["kd", "reviewkd", "at", "rkd", "rsd", "fitnet"]),
        ("eager", ["dpk", "wkd", "cskd", "cakd", "crd", "scn"]),
    ],
)
def test_each_network_is_one_graph_and_nothing_is_compiled_after_the_first_epoch(backend, methods, tmp_path):
    for one in compiled("cpu", backend, methods, tmp_path):
        networks = 1 + DISTILLERS[one["method"]].uses_teacher
        assert one["breaks"] == []
        assert one["graphs"] == [2 * networks] * 4, "for a whole batch and for the last, smaller one"
        assert one["losses"] == pytest.approx(one["eager"], rel=1e-4)
        assert len(one["losses"]) == len(one["gradients"]) == 12
        assert statistics.median(one["gradients"]) < 1e-5
        assert max(one["gradients"]) < 0.05, "as far as a ReLU that rounding opens or closes moves them"


@pytest.mark.parametrize("epoch", [0.0, 0.75, 2.5, 3.0, 9.9])
def test_progress_on_a_device_is_the_same(epoch):
    number = Progress(epoch, 10)
    scalar = Progress(Compilation(torch.device("cpu"), [], replays=False).scalar(epoch), 10)
    for ask in (
        lambda progress: progress.whole,
        lambda progress: progress.ramp(4),
        lambda progress: progress.ramp(0),
        lambda progress: progress.warmup(5),
        lambda progress: progress.warmup(5, first=0),
        lambda progress: clamped(progress.epoch - 2, low=0.0),
        lambda progress: cosine(progress.epoch),
    ):
        assert float(ask(scalar)) == pytest.approx(ask(number), rel=1e-6)


REMEMBERING = ("cka", "scn")
STATIC = [name for name, method in DISTILLERS.items() if method.is_static]


@pytest.mark.parametrize(
    "method", [name if name in REMEMBERING else pytest.param(name, marks=pytest.mark.slow) for name in STATIC]
)
def test_what_a_method_remembers_stays_where_a_cuda_graph_looks_for_it(method, tmp_path):
    """A compiler takes every tensor of a module for one that keeps its place; for another one a graph is made anew."""
    config, job = job_of(save_teachers(tmp_path), method)
    trainer = Trainer(config.training, config.data, job, Ranks(0, 1, torch.device("cpu")), seed=0)
    places = []
    for batch in trainer._batches(Position()):
        torch.stack([*trainer.losses(batch, None, Progress(0.5, 3)).values()]).sum().backward()
        owned = [value for module in job.objective.modules() for value in module.buffers(recurse=False)]
        owned += [x for module in job.objective.modules() for x in vars(module).values() if isinstance(x, torch.Tensor)]
        places.append([value.data_ptr() for value in owned])
    assert len(places) == 3
    assert places[0] == places[1] == places[2]
