"""A device is the one that was named, or an error."""

import pytest
import torch

from kdprobe.devices import pick_device
from kdprobe.errors import DeviceError


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
