"""What a Slurm job does with its cells, and when Slurm signals it; that takes no cluster."""

import os
import signal

import pytest

from kdprobe.sweeps.attempts import read_attempt
from kdprobe.sweeps.slurm import SlurmJob
from kdprobe.sweeps.work import Order, Outcome
from tests import small_sweeps as sweeps

pytest.importorskip("submitit")


@pytest.fixture
def ledger(tmp_path):
    return sweeps.ledger(tmp_path / "s", rates=(0.5,), n_seeds=2)


@pytest.fixture
def put_back(ledger):
    """Stands for what submitit does before the limit; tells whether the first cell was at rest then."""
    seen = []

    def handler(*_):
        seen.append(read_attempt(ledger.attempts, ledger.cells[0].id, 1).ended)
        raise SystemExit

    before = signal.signal(signal.SIGUSR2, handler)
    yield seen
    signal.signal(signal.SIGUSR2, before)


def outcomes(ledger, task):
    order = Order(ledger.path, task=f"tests.tiny_cells:{task}", device="cpu")
    return SlurmJob()(order, [(cell.id, cell.config, 0) for cell in ledger.cells])


def test_cells_are_trained_one_after_another_each_in_a_process(ledger):
    assert outcomes(ledger, "instant") == [Outcome("done")] * 2
    processes = [read_attempt(ledger.attempts, cell.id, 1).process for cell in ledger.cells]
    assert len({os.getpid(), *processes}) == 3


def test_a_cell_that_takes_its_process_along_does_not_take_the_others(ledger):
    for outcome in outcomes(ledger, "once_killed"):
        assert isinstance(outcome, ChildProcessError)
        assert str(outcome) == "its process was killed by signal 9"
    assert outcomes(ledger, "once_killed") == [Outcome("done")] * 2


def test_a_task_that_is_not_there_is_each_cells_failure(ledger):
    for outcome in outcomes(ledger, "nonsense"):
        assert (outcome.name, "nonsense" in outcome.error) == ("failed", True)


def test_near_the_limit_a_job_is_put_back_once_its_cell_is_at_rest(ledger, put_back):
    with pytest.raises(SystemExit):
        outcomes(ledger, "near_its_limit")
    assert put_back == [True]
    assert read_attempt(ledger.attempts, ledger.cells[0].id, 1).error is None
    assert len(list(ledger.attempts.iterdir())) == 1, "the other was not begun"


def test_told_to_end_a_job_begins_no_other_cell(ledger, put_back):
    before = signal.getsignal(signal.SIGTERM)
    stopped = [Outcome("stopped", "interrupted"), Outcome("stopped", "stopped before it began")]
    assert outcomes(ledger, "cancelled") == stopped
    assert put_back == []
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(list(ledger.attempts.iterdir())) == 1
