"""The Slurm engine: on a real cluster of one node where Slurm is installed, and on submitit's stand-in for one."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest

from kdprobe.config import override
from kdprobe.distillers import option_types
from kdprobe.errors import SweepError
from kdprobe.recipe import read_recipe
from kdprobe.sweeps.attempts import read_attempt
from kdprobe.sweeps.cells import make_cells
from kdprobe.sweeps.driver import Driver
from kdprobe.sweeps.ledger import begin
from kdprobe.sweeps.slurm import SlurmEngine
from kdprobe.sweeps.work import Order, work
from tests import small_sweeps as sweeps
from tests.kdprobe.sweeps.test_engines import check_all_done, drive, n_done, order_of, running
from tests.slurm_cluster import LONGEST_ARRAY, missing, said, slurm_cluster
from tests.small_sweeps import until

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]
pytest.importorskip("submitit")

DRIVE = """
import sys
from pathlib import Path
from kdprobe.sweeps.driver import Driver
from kdprobe.sweeps.ledger import open_ledger
from kdprobe.sweeps.slurm import SlurmEngine
from kdprobe.sweeps.work import Order

ledger = open_ledger(Path(sys.argv[1]))
engine = SlurmEngine(Order(ledger.path, task="tests.tiny_cells:tiny", device="cpu"), look=0.3, patience=1)
tally = Driver(ledger, engine, look=0.5, say=print).run()
print(tally.found + tally.done, flush=True)
"""


@pytest.fixture(autouse=True)
def _findable(monkeypatch):
    for key, value in sweeps.environment().items():
        monkeypatch.setenv(key, value)


@pytest.fixture(scope="module")
def _one_node():
    if reason := missing():
        pytest.skip(reason)
    with slurm_cluster() as told:
        yield told


@pytest.fixture
def cluster(_one_node, monkeypatch):
    for key, value in _one_node.items():
        monkeypatch.setenv(key, value)
    return _one_node


def engine_of(ledger, task, **options):
    return SlurmEngine(order_of(ledger, task), look=0.3, patience=1.0, **options)


def jobs(told, state="running"):
    """Ids of the jobs in a state."""
    return said(told, "squeue", "--noheader", "--array", f"--states={state}", "--format=%i").split()


def test_cells_are_killed_cancelled_and_put_back(tmp_path, cluster, capfd, caplog):
    ledger = sweeps.ledger(tmp_path / "s", rates=(0.3, 0.5), n_seeds=1)
    ledger_cells, told = len(ledger.cells), []
    assert ledger_cells == LONGEST_ARRAY, "one array holds them all"

    def disturb():
        os.kill(until(lambda: running(ledger))[0], signal.SIGKILL)
        for command in (["scancel"], ["scontrol", "requeue"]):
            before = n_done(ledger)
            until(lambda: n_done(ledger) > before and jobs(cluster) and running(ledger))  # noqa: B023 - called here
            subprocess.run([*command, jobs(cluster)[0]], check=False)

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    tally = drive(ledger, engine_of(ledger, "tiny"), say=told.append)
    disturbing.join()
    assert tally.done == ledger_cells
    check_all_done(ledger, ledger_cells)
    hit = [line for line in told if re.search("ended without a result; see|interrupted; trying again", line)]
    assert hit, told  # a cancelled job may have seconds left, in which its cell stops by itself
    printed = capfd.readouterr()
    assert "sacct" not in printed.out + printed.err + caplog.text  # a logger may write where it was first imported


def test_two_hundred_cells_in_arrays(tmp_path, cluster, capfd, caplog):
    ledger = sweeps.ledger(tmp_path / "s", n_seeds=8)
    assert len(ledger.cells) == 200
    tally = drive(ledger, engine_of(ledger, "instant", cells_per_job=25))
    assert (tally.done, tally.tries) == (200, 200)
    check_all_done(ledger, 200)
    assert len(list(ledger.attempts.iterdir())) == 200, "each cell was begun once"
    arrays = Counter(log.name.partition("_")[0] for log in (ledger.path / "logs" / "slurm").glob("*_log.out"))
    assert list(arrays.values()) == [LONGEST_ARRAY] * 2, "eight jobs"
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_jobs_outlive_their_driver_and_its_successor_takes_what_they_leave(tmp_path, cluster):
    ledger = sweeps.ledger(tmp_path / "s", rates=(0.5,), n_seeds=2)
    command = [sys.executable, "-c", DRIVE, str(ledger.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        until(lambda: running(ledger), first)
        first.kill()
    second = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    assert second.stdout.split()[-1] == "2", second.stdout
    check_all_done(ledger, n_cells=2)


def test_a_cell_longer_than_its_time_limit_is_put_back_and_goes_on_to_the_same_bytes(tmp_path, cluster):
    """Nobody but Slurm stops it: its epoch takes 69 seconds, the shortest limit there is is a minute."""
    base = override(read_recipe("digits/resnet8"), ["training.epochs=1", "data.workers=1"])
    cells = make_cells(base, [{"seed": 0}], option_types())
    stopped, quiet = (begin(tmp_path / name, cells) for name in ("stopped", "quiet"))
    limit = {"timeout_min": 1, "slurm_signal_delay_s": 20, "cpus_per_task": 2}
    tally = drive(stopped, engine_of(stopped, "slow_at_first", options=limit))
    assert (tally.done, tally.tries) == (1, 1), "Slurm itself puts the job back"
    log = (stopped.path / "logs" / f"{cells[0].id}.log").read_text()
    steps = [int(step) for step in re.findall(r"stopped by SIGTERM in epoch 1 after step (\d+)", log)]
    assert 0 < steps[0] < 23
    assert steps == sorted(steps), "it may be stopped again where processors are busy"
    assert read_attempt(stopped.attempts, cells[0].id, len(steps) + 1).ended
    assert work(Order(quiet.path, device="cpu"), cells[0].id, cells[0].config).name == "done"
    one, other = (ledger.run(cells[0].id).path / "last.safetensors" for ledger in (stopped, quiet))
    assert one.read_bytes() == other.read_bytes()


def test_cells_that_are_left_are_cancelled_with_the_sweep(tmp_path, cluster):
    ledger = sweeps.ledger(tmp_path / "s", rates=(0.5,), n_seeds=2)
    engine = engine_of(ledger, "long")
    driving = threading.Thread(target=Driver(ledger, engine, look=0.5).run, daemon=True)
    driving.start()
    until(lambda: running(ledger))
    engine.close()
    until(lambda: not jobs(cluster, "running,pending,completing"))
    assert n_done(ledger) == 0


def test_slurm_that_does_not_answer_loses_no_job(tmp_path, cluster, monkeypatch):
    ledger = sweeps.ledger(tmp_path / "s", rates=(0.5,), n_seeds=1)
    engine = engine_of(ledger, "tiny")
    driver = Driver(ledger, engine, look=0.5)
    submitted = until(lambda: engine._array) and driver
    monkeypatch.setattr("kdprobe.sweeps.slurm._alive", lambda: None)
    try:
        tally = submitted.run()
    finally:
        engine.close()
    assert (tally.done, tally.tries) == (1, 1)


class TestStandIn:
    def test_an_array_of_cells(self, tmp_path):
        ledger = sweeps.ledger(tmp_path / "s", rates=(0.5,), n_seeds=2)
        told = []
        engine = SlurmEngine(order_of(ledger, "once_broken"), cluster="local", look=0.3)
        tally = drive(ledger, engine, say=told.append)
        assert tally.done == 2
        assert sum("ValueError: no such luck; trying again" in line for line in told) == 2
        assert all(state.name == "done" for state in ledger.states().values())

    def test_without_slurm(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(SweepError, match=r"Slurm cannot be used as asked: Could not detect"):
            SlurmEngine(Order(tmp_path))
        with pytest.raises(SweepError, match=r"Slurm cannot be used as asked: .*nonsense"):
            SlurmEngine(Order(tmp_path), cluster="local", options={"nonsense": "x"})
