import json
import os
import subprocess
import sys

import pytest
import torch

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.base import clamped, cosine
from kdprobe.runtime.compiling import Compilation, compile_training
from kdprobe.runtime.distributed import Ranks


def test_a_missing_compiler_is_said_and_does_no_harm(monkeypatch, capsys):
    def broken(_function):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", broken)
    module, cpu = torch.nn.Linear(2, 2), Ranks(0, 1, torch.device("cpu"))
    assert compile_training(module, [], cpu, is_static=True) is None
    assert module._compiled_call_impl is None
    assert "training.compile is off: no working compiler was found (no C++ compiler)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "methods"),
    [("inductor", ["kd", "dropkd"]), ("eager", ["reviewkd", "dpk", "wkd", "cskd", "cakd", "crd", "scn"])],
)
def test_each_network_is_one_graph_and_nothing_is_compiled_after_the_first_epoch(backend, methods, tmp_path):
    command = [sys.executable, "-m", "tests.compiled_steps", backend, *methods]
    own_cache = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}  # none that a killed process left half-written
    done = subprocess.run(command, env=own_cache, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["method"] for one in found] == methods
    for one in found:
        networks = 1 + DISTILLERS[one["method"]].uses_teacher
        assert one["breaks"] == []
        assert one["graphs"] == [2 * networks] * 4, "for a whole batch and for the last, smaller one"
        assert one["losses"] == pytest.approx(one["eager"], rel=1e-4)


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
