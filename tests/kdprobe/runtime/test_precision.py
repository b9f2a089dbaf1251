"""What a run computes in: asked for, found out when it begins, kept."""

import json
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from kdprobe.config import override, parse
from kdprobe.distillers import option_types
from kdprobe.errors import Stopped
from kdprobe.formats.yamls import read_yaml
from kdprobe.models import ModelInfo, attach
from kdprobe.models.checkpoint import LAST
from kdprobe.recipe import read_recipe, recipes
from kdprobe.runs.folder import RunFolder
from kdprobe.runtime import precision
from kdprobe.training import train
from tests.kdprobe.training.test_loop import stop_after

CPU = torch.device("cpu")


def config(*assignments):
    tiny = ["data.spec=tests.tiny:digits", "data.image_size=8", "training.epochs=2", "training.batch_size=16"]
    return parse(override(read_recipe("digits/resnet8"), [*tiny, *assignments]), option_types())


@pytest.fixture
def native(monkeypatch):
    """A processor that computes bfloat16, or does not."""

    def choose(answer):
        monkeypatch.setattr(precision, "computes_bf16", lambda _device: answer)

    return choose


def test_no_recipe_asks_for_a_precision():
    assert [name for name, file in recipes().items() if "precision" in file.read_text(encoding="utf-8")] == []
    assert config().training.precision == "auto"


@pytest.mark.parametrize(("avx512", "amx", "answer"), [(True, False, True), (False, True, True), (False, False, False)])
def test_a_processor_computes_bf16_with_either_extension(monkeypatch, avx512, amx, answer):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert precision.computes_bf16(CPU) is answer
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx512_core")
    assert not precision.computes_bf16(CPU)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert precision.computes_bf16(CPU) is answer


def test_what_torch_does_not_tell_is_not_there(monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not precision.computes_bf16(CPU)
    assert not precision.computes_bf16(torch.device("mps"))


@pytest.mark.parametrize("answer", [True, False])
def test_arm_and_cuda_say_it_themselves(monkeypatch, answer):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: answer, raising=False)
    assert precision.computes_bf16(CPU) is answer
    monkeypatch.setattr(torch.cuda, "device", lambda _device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: answer or including_emulation)
    assert precision.computes_bf16(torch.device("cuda")) is answer


@pytest.mark.parametrize(("answer", "found"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_resolved_told_and_stored(native, tmp_path, capsys, answer, found):
    native(answer)
    result = train(config("training.epochs=1"), tmp_path, device="cpu")
    assert f"computing in {found} on cpu" in capsys.readouterr().err
    assert result["precision"] == found
    assert read_yaml((tmp_path / "config.yaml").read_text(), source="it")["training"]["precision"] == "auto"
    assert json.loads((tmp_path / "env.json").read_text())["precision"] == found


def test_a_resumed_run_computes_as_it_began(native, tmp_path, monkeypatch):
    native(False)
    train(config(), tmp_path / "whole", device="cpu", quiet=True)
    stop_after(5, monkeypatch)
    with pytest.raises(Stopped):
        train(config(), tmp_path / "run", device="cpu", quiet=True)
    monkeypatch.undo()
    native(True)  # a machine of another kind
    assert train(config(), tmp_path / "run", resume=True, device="cpu", quiet=True)["precision"] == "fp32"
    assert (tmp_path / "run" / LAST).read_bytes() == (tmp_path / "whole" / LAST).read_bytes()


@pytest.mark.parametrize("text", ["[", '{"precision": "half"}'])
def test_an_environment_that_tells_nothing_is_found_out_again(native, tmp_path, text, monkeypatch):
    stop_after(5, monkeypatch)
    with pytest.raises(Stopped):
        train(config(), tmp_path, device="cpu", quiet=True)
    monkeypatch.undo()
    (tmp_path / "env.json").write_text(text)
    native(False)
    assert train(config(), tmp_path, resume=True, device="cpu", quiet=True)["precision"] == "fp32"
    (tmp_path / "env.json").unlink()
    assert RunFolder(tmp_path).precision() is None


@pytest.mark.slow
def test_emulation_is_told_once_with_its_cost(native, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(precision, "emulation_cost", lambda *_: 12.34)
    native(False)
    train(config("training.precision=bf16"), tmp_path / "asked", device="cpu", quiet=True)
    told = "bf16 is emulated on this cpu device: in a trial a step took 12.3 times as long as in fp32; training.precis"
    assert capsys.readouterr().err.count(told) == 1
    train(config("training.precision=fp32"), tmp_path / "single", device="cpu", quiet=True)
    native(True)
    train(config("training.precision=bf16"), tmp_path / "native", device="cpu", quiet=True)
    assert "emulated" not in capsys.readouterr().err


def test_the_trial_measures_the_network_and_leaves_no_trace():
    seen = []

    class Counting(nn.Sequential):
        def forward(self, x):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x), [x]

    model = Counting(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 36, 5))
    attach(model, ModelInfo("counting", 5, 8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert precision.emulation_cost(model, torch.full((2, 3, 8, 8), 0.5), "bf16") > 0
    assert set(seen) == {True, False}
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
