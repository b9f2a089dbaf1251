"""Durations by a clock that is made up, and the command."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from analyses import latency
from analyses.commands.complexity import complexity as command
from analyses.latency import hardware, latencies, pass_times
from kdprobe.errors import ConfigError, DeviceError
from kdprobe.models import ModelInfo, attach, create
from kdprobe.results import load_result


class Clock:
    """Stands still but for what `take` lets pass."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def take(self, seconds):
        self.now += seconds


def test_passes_are_timed_when_they_are_warm():
    clock, durations = Clock(), iter([5.0, 0.1, 0.1, 0.1, *[0.2, 0.1, 0.1] * 1000])
    times = pass_times(lambda: clock.take(next(durations)), seconds=2, clock=clock)
    assert times.max() == pytest.approx(0.2)  # the first one was slow
    assert times.sum() == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize(("each", "count", "before"), [(60.0, 10, 3), (1e-6, 1000, 1000), (0.05, 40, 10)])
def test_there_are_enough_passes_and_not_too_many(each, count, before):
    clock, calls = Clock(), list[None]()

    def forward():
        calls.append(None)
        clock.take(each)

    times = pass_times(forward, seconds=2, clock=clock)
    assert len(times) == pytest.approx(count, abs=1)
    assert len(calls) - len(times) == pytest.approx(before, abs=1)
    np.testing.assert_allclose(times, each)


class Watched(nn.Module):
    """Notes how it is called."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(3, 2), []

    def forward(self, x):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.seen.append((len(x), torch.get_num_threads(), x.shape[-1]))
        return self.layer(x.mean((2, 3)))


def test_networks_are_run_at_each_batch_size_with_the_threads_that_are_named():
    model = attach(Watched(), ModelInfo("watched", 2, 12)).train()
    before = torch.get_num_threads()
    found = latencies([model, model], (1, 7), threads=before + 1, seconds=0)
    assert torch.get_num_threads() == before
    assert model.training
    assert {*model.seen} == {(1, before + 1, 12), (7, before + 1, 12)}
    assert (found.seconds.shape, found.threads, found.batch_sizes) == ((2, 2, 3), before + 1, (1, 7))
    median, low, high = found.seconds.reshape(-1, 3).T
    assert (low > 0).all()
    assert (low <= median).all()
    assert (median <= high).all()
    assert f"on {found.device} with {before + 1} thread" in found.words
    assert found.device == hardware("cpu")
    assert found.device.startswith("cpu (")


def test_too_large_a_batch_is_an_error_of_the_users():
    class Greedy(Watched):
        def forward(self, x):
            if len(x) > 1:
                raise torch.OutOfMemoryError
            return super().forward(x)

    model = attach(Greedy(), ModelInfo("greedy", 2, 12)).train()
    with pytest.raises(
        DeviceError, match=r"memory of cpu is too small for 8 images of 12 px in greedy; give a smaller"
    ):
        latencies([model], (1, 8), seconds=0)
    assert model.training


def test_the_command_puts_latencies_beside_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latency, "pass_times", lambda forward, seconds: pass_times(forward, seconds=seconds * 0))

    def run(*words):
        arguments = ["resnet8", "resnet14", "--image-size", "8", "--out", str(tmp_path), "--device", "cpu", *words]
        return CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)

    done = run("--latency", "--batch-size", "4", "--threads", "1")
    assert "ms, batch 1" in done.stdout
    assert "ms, batch 4" in done.stdout
    assert (
        f"latency: duration of one forward pass in ms, its median with lower and upper quartile, in float32 after "
        f"warming up, on {hardware('cpu')} with 1 thread and torch {torch.__version__}" in done.stderr
    )
    result = load_result(tmp_path / "complexity.npz", kind="complexity")
    assert result.arrays["batch_size"].tolist() == [1, 4]
    assert result.arrays["latency"].shape == (2, 2, 3)
    assert (result.provenance["device"], result.provenance["threads"]) == (hardware("cpu"), 1)
    table = pd.read_csv(tmp_path / "complexity.csv")
    np.testing.assert_allclose(table.ms_at_batch_4, 1000 * result.arrays["latency"][:, 1, 0])
    np.testing.assert_allclose(table.ms_at_batch_1_upper_quartile, 1000 * result.arrays["latency"][:, 0, 2])
    run("--latency", "--tf32", "--overwrite")
    faster = load_result(tmp_path / "complexity.npz")
    assert "upper quartile, in TF32 after warming up" in faster.facts["conventions"]["latency"]
    assert (faster.provenance["float32"], result.provenance["float32"]) == tuple(
        dict.fromkeys(("products", "convolutions"), how) for how in ("tf32", "exact")
    )
    for words in (["--threads", "1"], ["--batch-size", "4"], ["--tf32"]):
        with pytest.raises(ConfigError, match=r"--batch-size, --threads and --tf32 are for --latency; add it"):
            run(*words)
    assert "latency" not in run().stderr
    assert "latency" not in load_result(tmp_path / "complexity.npz").arrays


def test_a_network_from_the_house_is_timed():
    found = latencies([create("resnet8", n_classes=10, image_size=8)], (2,), seconds=0)
    assert (found.seconds > 0).all()
