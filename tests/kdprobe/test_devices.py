"""A device is the one that was named, or an error."""

import subprocess
import sys

import pytest
import torch

from kdprobe import devices
from kdprobe.devices import exact_float32, float32, float32_settings, pick_device
from kdprobe.errors import DeviceError
from kdprobe.provenance import provenance


def test_the_named_device() -> None:
    assert pick_device("cpu") == torch.device("cpu")


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")


def test_numbered_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match=r"no device 'cuda:2': this machine has 2 CUDA devices"):
        pick_device("cuda:2")


def test_no_silent_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError, match=r"no device 'cuda': this machine has 0 CUDA devices"):
        pick_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"there is no device 'mps' on this machine"):
        pick_device("mps")


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:", "cuda:one", "mps:1", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"the device must be auto, cpu, cuda, cuda:N or mps, but is '{name}'"):
        pick_device(name)


def _settings():
    backends = torch.backends
    places = (
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    )
    return [place.fp32_precision for place in places]


@pytest.fixture
def settings():
    """Puts torch's settings back, and gives them."""
    before = _settings()
    with float32():
        yield before


@pytest.mark.parametrize("general", ["none", "tf32"])
@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("old", ["highest", "high", "medium"])
def test_float32_is_as_chosen_and_then_as_before(settings, general, tf32, old):
    torch.set_float32_matmul_precision(old)
    torch.backends.fp32_precision = general
    try:
        before = _settings()
        with float32(tf32=tf32):
            assert _settings() == ["tf32" if tf32 else "ieee"] * 5
            assert float32_settings() == dict.fromkeys(("products", "convolutions"), "tf32" if tf32 else "exact")
            assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
        assert _settings() == before
    finally:
        torch.backends.fp32_precision = "none"


def test_older_names_tell_what_they_told_as_torch_begins_and_inside():
    code = (
        "import torch\nfrom kdprobe.devices import float32\nseen = [torch.backends.cudnn.allow_tf32]\n"
        "for tf32 in (False, True):\n"
        "    with float32(tf32=tf32), torch.backends.cudnn.flags(enabled=True):\n        pass\n"
        "    seen.append(torch.backends.cudnn.allow_tf32)\nprint(seen)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[True, True, True]"


def test_settings_by_newer_names_come_back_where_the_older_ones_cannot_be_told(settings):
    torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = "tf32", "ieee"
    before = _settings()
    with float32():
        assert float32_settings() == {"products": "exact", "convolutions": "exact"}
    assert _settings() == before


def test_a_measurement_is_exact_unless_its_caller_chose(settings):
    measured = exact_float32(float32_settings)
    torch.set_float32_matmul_precision("high")
    with float32(tf32=True):
        assert measured()["products"] == provenance()["float32"]["products"] == "tf32"
    token = devices._CHOSEN.set(False)
    assert measured()["products"] == "exact"
    devices._CHOSEN.reset(token)
