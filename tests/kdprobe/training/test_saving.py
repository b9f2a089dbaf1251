"""When a run saves what, and that a kill between two states costs time and nothing else."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from kdprobe.config import TrainingConfig, override
from kdprobe.distillers import Method, option_types
from kdprobe.models import create
from kdprobe.models.checkpoint import AUXILIARY, BEST, LAST, read_meta
from kdprobe.runs.folder import RunFolder
from kdprobe.runtime.signals import StopRequest
from kdprobe.sweeps.cells import cell_id, make_cells
from kdprobe.sweeps.ledger import begin, open_ledger
from kdprobe.training import saving, train
from kdprobe.training.saving import Keeper
from kdprobe.training.state import Position
from tests.kdprobe.training.test_loop import config, distilled, outcome, teacher  # noqa: F401 - a fixture

WEIGHTS = (LAST, BEST, AUXILIARY)


class Killed(BaseException):
    """What no part of the program handles."""


@pytest.fixture
def clock(monkeypatch):
    """The clock of what saves; it stands still but for the test."""
    found = SimpleNamespace(now=0.0)
    monkeypatch.setattr(saving, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [1, 4, 7]),
        ({"seconds": 60, "epochs": 2}, [2, 6, 7]),
        ({"seconds": 0, "epochs": 3}, [3, 6, 7]),
        ({"seconds": 1e9}, [1, 7]),
    ],
)
def test_states_are_so_many_seconds_apart(tmp_path, clock, given, expected):
    settings = TrainingConfig(epochs=7, saving=given)
    network, method = create("resnet8", n_classes=2, image_size=8), MagicMock(spec=Method, state_dict=dict)
    keeper = Keeper(
        RunFolder(tmp_path),
        settings,
        StopRequest(),
        keeps_snapshot=lambda _: False,
        method=method,
        options={},
        exported=network,
        stateful={},
        writes=True,
    )
    saved = []
    for epoch in range(1, 8):
        clock.now += 25
        position = Position(epoch=epoch, best_epoch=min(epoch, 5))
        keeper.save_epoch(position, {"epoch": epoch, "accuracy": 0.5}, best=epoch <= 5)
        if (tmp_path / "state.pt").exists() and (now := state_epoch(tmp_path)) not in saved:
            saved.append(now)
            assert read_meta(tmp_path / LAST)["training"]["epoch"] == now
            assert read_meta(tmp_path / BEST)["training"]["epoch"] == min(now, 5)
    assert saved == expected
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 7


def state_epoch(out):
    return torch.load(out / "state.pt", weights_only=True)["position"]["epoch"]


def killed_after(epoch, chosen, out):
    """Train up to a kill right after the metrics of an epoch are written."""
    append = RunFolder.append_metrics

    def last_words(self, record):
        append(self, record)
        if record["epoch"] == epoch:
            raise Killed

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr(RunFolder, "append_metrics", last_words)
        train(chosen, out, resume=out.exists(), device="cpu", quiet=True)


@pytest.mark.slow
def test_killed_between_two_states_and_resumed_it_ends_with_the_same_bytes(teacher, tmp_path, clock, monkeypatch):  # noqa: F811
    """An epoch takes 25 seconds."""
    save_epoch = Keeper.save_epoch

    def later(self, *arguments, **options):
        clock.now += 25
        save_epoch(self, *arguments, **options)

    monkeypatch.setattr(Keeper, "save_epoch", later)
    chosen = distilled(teacher, "training.epochs=6", "data.per_class=4", "training.saving.seconds=60")
    train(chosen, tmp_path / "whole", device="cpu", quiet=True)
    out = tmp_path / "killed"
    killed_after(2, chosen, out)
    assert (state_epoch(out), len(RunFolder(out).metrics())) == (1, 2)
    killed_after(5, chosen, out)
    position = torch.load(out / "state.pt", weights_only=True)["position"]
    assert position["epoch"] == read_meta(out / LAST)["training"]["epoch"] == 2
    assert read_meta(out / BEST)["training"]["epoch"] == position["best_epoch"]
    train(chosen, out, resume=True, device="cpu", quiet=True)
    assert outcome(out) == outcome(tmp_path / "whole")
    assert all((out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in WEIGHTS)


def test_sweeps_and_cells_that_do_not_know_the_seconds_are_the_same(tmp_path):
    chosen = config("digits/resnet8")
    assert cell_id(config("digits/resnet8", "training.saving.seconds=7")) == cell_id(chosen)
    assert cell_id(config("digits/resnet8", "training.saving.epochs=7")) != cell_id(chosen)
    whole = override(chosen.model_dump(mode="json"), ["training.saving.seconds=60"])
    older = override(whole, [])
    del older["training"]["saving"]["seconds"]
    grid = [{"seed": 0}]
    begin(tmp_path, make_cells(older, grid, option_types()))
    begin(tmp_path, make_cells(older, grid, option_types()))
    begin(tmp_path, make_cells(whole, grid, option_types()))
    assert open_ledger(tmp_path).cells == make_cells(whole, grid, option_types())
