import re

import pytest
import torch

from kdprobe.errors import RunError
from kdprobe.runtime.distributed import Ranks
from kdprobe.training import state
from kdprobe.training.tally import Tally


def test_a_state_from_more_devices_is_restored(monkeypatch, tmp_path):
    restored = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.zeros(2), torch.ones(2)])
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda numbers, device: restored.append((numbers.tolist(), device))
    )
    state.save_state(tmp_path / "state.pt", {}, state.Position(n_images=7))
    with torch.random.fork_rng(devices=[]):
        state.restore_state(tmp_path / "state.pt", {}, n_images=7)
    assert restored == [([0, 0], 0)]


def test_a_file_that_is_no_state_is_told(tmp_path):
    torch.save([1], tmp_path / "state.pt")
    with pytest.raises(RunError, match=r"state\.pt is damaged and passed over \(it holds no state\)"):
        state.restore_state(tmp_path / "state.pt", {}, n_images=7)
    torch.save({"version": state.VERSION}, tmp_path / "state.pt")
    with pytest.raises(
        RunError, match=r"was saved by another version of kdprobe, which differs in best_accuracy, best_epoch"
    ):
        state.restore_state(tmp_path / "state.pt", {}, n_images=7)


@pytest.mark.parametrize("change", [{"epoch": "3"}, {"step": 1.5}, {"seconds": [1]}, {"n_images": True}])
def test_a_position_of_other_types_is_damage(tmp_path, change):
    state.save_state(tmp_path / "state.pt", {}, state.Position())
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save({**content, "position": {**content["position"], **change}}, tmp_path / "state.pt")
    name, value = next(iter(change.items()))
    with pytest.raises(RunError, match=rf"is damaged: {name} of its position is {re.escape(repr(value))}"):
        state.restore_state(tmp_path / "state.pt", {}, n_images=0)
    for damaged in (3, {"tally": {"sums": [1]}}):
        torch.save({**content, "parts": damaged}, tmp_path / "state.pt")
        with pytest.raises(RunError, match="belongs to another model or method"):
            state.restore_state(tmp_path / "state.pt", {"tally": Tally(Ranks(0, 1, torch.device("cpu")))}, n_images=0)
