"""The engines on real processes that are killed; the cells are stand-ins for training unless a test says otherwise."""

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kdprobe.errors import SweepError
from kdprobe.sweeps import local
from kdprobe.sweeps import ray as ray_engine
from kdprobe.sweeps.attempts import last_numbers, read_attempt
from kdprobe.sweeps.driver import Driver
from kdprobe.sweeps.ledger import begin, open_ledger
from kdprobe.sweeps.local import LocalEngine, Slot
from kdprobe.sweeps.ray import RayEngine
from kdprobe.sweeps.work import Order
from tests import small_sweeps as sweeps
from tests.kdprobe.cli.test_group import status_of
from tests.small_sweeps import until

pytestmark = pytest.mark.slow

TWO = [Slot(1), Slot(1)]

DRIVE = """
import sys
from pathlib import Path
from kdprobe.sweeps.driver import Driver
from kdprobe.sweeps.ledger import open_ledger
from kdprobe.sweeps.local import LocalEngine, Slot
from kdprobe.sweeps.work import Order
from kdprobe.runtime.signals import stop_requests

ledger = open_ledger(Path(sys.argv[1]), stale_after=float(sys.argv[4]))
task = f"tests.tiny_cells:{sys.argv[2]}"
order = Order(ledger.path.resolve(), task=task, device="cpu", stale_after=ledger.stale_after)
if sys.argv[3] == "local":
    engine = LocalEngine(order, [Slot(1), Slot(1)])
else:
    from kdprobe.sweeps.ray import RayEngine
    engine = RayEngine(order, address=sys.argv[3])
with stop_requests() as stop:
    tally = Driver(ledger, engine, backoff=0.1, look=0.5, stop=stop, say=print).run()
engine.close()
print("STOPPED" if stop.reason else "DONE", tally.found, tally.done, len(tally.failed), flush=True)
"""


@pytest.fixture(autouse=True)
def findable(monkeypatch):
    for key, value in sweeps.environment().items():
        monkeypatch.setenv(key, value)


def order_of(ledger, task):
    return Order(ledger.path, task=f"tests.tiny_cells:{task}", device="cpu", stale_after=ledger.stale_after)


def drive(ledger, engine, **options):
    try:
        return Driver(ledger, engine, backoff=0.1, look=0.5, **options).run()
    finally:
        engine.close()


def driver_process(ledger, task, engine, stale_after=60):
    command = [sys.executable, "-c", DRIVE, str(ledger.path), task, engine, str(stale_after)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def running(ledger):
    """Processes at cells now, as the ledger tells."""
    states = ledger.states().values()
    return [state.attempt.process for state in states if state.name == "running" and state.attempt.process]


@contextmanager
def killing_workers(ledger, every):
    """Kill a random process that is at a cell, every few seconds."""
    stop, kills, chance = threading.Event(), [], random.Random(0)

    def kill():
        while not stop.wait(every):
            if found := running(ledger):
                kills.append(chance.choice(found))
                try:
                    os.kill(kills[-1], signal.SIGKILL)
                except ProcessLookupError:
                    kills.pop()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield kills
    finally:
        stop.set()
        thread.join()


def check_all_done(ledger, n_cells=25):
    assert [state.name for state in ledger.states().values()] == ["done"] * n_cells
    sweeps.check_nothing_twice(ledger)


class TestLocal:
    def test_workers_are_killed(self, tmp_path):
        ledger = sweeps.ledger(tmp_path / "s")
        said = []
        with killing_workers(ledger, every=2.5) as kills:
            tally = drive(ledger, LocalEngine(order_of(ledger, "tiny"), TWO), say=said.append)
        assert tally.done == 25
        assert any("its process was killed by signal 9; trying again" in line for line in said)
        assert len(kills) >= 2
        check_all_done(ledger)

    def test_the_driver_is_killed_and_started_again(self, tmp_path):
        ledger = sweeps.ledger(tmp_path / "s")
        for _ in range(2):
            process = driver_process(ledger, "tiny", "local")
            before = n_done(ledger)
            until(lambda: n_done(ledger) >= before + 5, process)  # noqa: B023 - called here
            process.kill()
            process.communicate()
        text = driver_process(ledger, "tiny", "local").communicate(timeout=200)[0]
        assert "DONE" in text
        check_all_done(ledger)

    def test_two_drivers_on_one_folder(self, tmp_path):
        ledger = sweeps.ledger(tmp_path / "s")
        processes = [driver_process(ledger, "tiny", "local") for _ in range(2)]
        for process in processes:
            assert "DONE" in process.communicate(timeout=200)[0]
        check_all_done(ledger)

    def test_told_to_stop_it_stops_its_children(self, tmp_path):
        ledger = sweeps.ledger(tmp_path / "s")
        process = driver_process(ledger, "tiny", "local")
        children = until(lambda: running(ledger), process)
        process.terminate()
        assert "STOPPED" in process.communicate(timeout=60)[0]
        for child in children:
            with pytest.raises(ProcessLookupError):
                os.kill(child, 0)

    @pytest.mark.parametrize("start", ["fork", "spawn"])
    def test_slots_are_pinned_and_children_serve_several_cells(self, tmp_path, start):
        ledger = sweeps.ledger(tmp_path / "s", rates=(0.3, 0.5, 0.7))
        drive(ledger, LocalEngine(order_of(ledger, "pinned"), [Slot(1, "0"), Slot(3, "5")], start=start))
        logs = (ledger.path / "logs").glob("????????????????.log")
        said = [json.loads(log.read_text().splitlines()[1]) for log in logs]
        seen = {(one["CUDA_VISIBLE_DEVICES"], one["OMP_NUM_THREADS"]) for one in said}
        assert seen <= {("0", "1"), ("5", "3")}
        children, at_cells = (len({one["pids"][place] for one in said}) for place in (0, 1))
        assert (children, at_cells) == ((len(seen), len(said)) if start == "fork" else (1, len(seen)))

    def test_killed_at_a_cell_a_fork_costs_no_imports(self, tmp_path, monkeypatch):
        started, child_command = [], local.child_command
        monkeypatch.setattr(local, "child_command", lambda name: started.append(name) or child_command(name))
        ledger = sweeps.ledger(tmp_path / "s", rates=(0.3, 0.5))
        said, engine = [], LocalEngine(order_of(ledger, "tiny"), [Slot(1)])
        thread = threading.Thread(target=kill_one, args=(ledger,))
        thread.start()
        assert drive(ledger, engine, say=said.append).done == 4
        thread.join()
        assert sum("its process was killed by signal 9; trying again" in line for line in said) == 1
        assert len(started) == 1
        check_all_done(ledger, 4)

    @pytest.mark.parametrize("start", ["fork", "spawn"])
    def test_a_child_that_failed_is_replaced(self, tmp_path, start):
        ledger = sweeps.ledger(tmp_path / "s", rates=(0.3, 0.5))
        said, engine = [], LocalEngine(order_of(ledger, "once_broken"), [Slot(1)], start=start)
        tally = drive(ledger, engine, say=said.append)
        assert tally.done == 4
        assert sum("ValueError: no such luck; trying again" in line for line in said) == 4
        processes = {read_attempt(ledger.attempts, cell.id, 1).process for cell in ledger.cells}
        assert len(processes) == 4

    @pytest.mark.parametrize("start", ["fork", "spawn"])
    def test_a_cell_that_crashes_loses_itself_alone(self, tmp_path, start):
        ledger = sweeps.ledger(tmp_path / "s", rates=(0.5,), n_seeds=3)
        said, engine = [], LocalEngine(order_of(ledger, "crashing_once"), [Slot(1)], start=start)
        assert drive(ledger, engine, say=said.append).done == 3
        assert sum("its process was killed by signal 9; trying again" in line for line in said) == 1
        tries = {cell.values["seed"]: last_numbers(ledger.attempts)[cell.id] for cell in ledger.cells}
        assert tries == {0: 2, 1: 1, 2: 1}

    def test_without_a_fork_a_long_cell_has_a_process_of_its_own(self, tmp_path, monkeypatch):
        monkeypatch.setattr(local, "_OLD", 0.0)  # all cells are long
        ledger = sweeps.ledger(tmp_path / "s", rates=(0.5,), n_seeds=3)
        assert drive(ledger, LocalEngine(order_of(ledger, "instant"), [Slot(1)], start="spawn")).done == 3
        processes = {read_attempt(ledger.attempts, cell.id, 1).process for cell in ledger.cells}
        assert len(processes) == 3

    def test_real_cells_killed_in_training_resume_and_equal_undisturbed_ones(self, tmp_path):
        from kdprobe.config import override
        from kdprobe.distillers import option_types
        from kdprobe.recipe import read_recipe
        from kdprobe.sweeps.cells import make_cells, product

        base = override(read_recipe("digits/resnet8"), ["training.epochs=3", "training.saving.seconds=0"])
        cells = make_cells(base, product({"seed": [0, 1]}), option_types())
        disturbed, quiet = (begin(tmp_path / name, cells) for name in ("disturbed", "quiet"))
        engine = LocalEngine(Order(disturbed.path, device="cpu"), [Slot(1)])
        waiting = threading.Thread(target=kill_after_an_epoch, args=(disturbed, cells[0].id), daemon=True)
        waiting.start()
        drive(disturbed, engine)
        waiting.join()
        drive(quiet, LocalEngine(Order(quiet.path, device="cpu"), [Slot(1)]))
        assert read_attempt(disturbed.attempts, cells[0].id, 2).ended
        for cell in cells:
            one, other = (ledger.run(cell.id) for ledger in (disturbed, quiet))
            assert one.result()["accuracy"] == other.result()["accuracy"]
            weights = [(run.path / "last.safetensors").read_bytes() for run in (one, other)]
            assert weights[0] == weights[1]
            assert [record["epoch"] for record in one.metrics()] == [1, 2, 3]

    def test_a_fork_trains_the_bytes_of_a_fresh_process(self, tmp_path):
        """With two threads, which did not run before the fork."""
        from kdprobe.config import override
        from kdprobe.distillers import option_types
        from kdprobe.recipe import read_recipe
        from kdprobe.sweeps.cells import make_cells, product

        base = override(read_recipe("digits/resnet8"), ["training.epochs=1", "data.per_class=2"])
        cells = make_cells(base, product({"seed": [0, 1]}), option_types())
        ledgers = []
        for start in ("fork", "spawn"):
            ledgers.append(begin(tmp_path / start, cells))
            order = Order(ledgers[-1].path, device="cpu")
            assert drive(ledgers[-1], LocalEngine(order, [Slot(2)], start=start)).done == 2
        for cell in cells:
            one, other = (ledger.run(cell.id).result()["sha256"] for ledger in ledgers)
            assert one == other


def has_state(ledger):
    """Whether the first cell's newest attempt has saved one."""
    return ledger.run(ledger.cells[0].id).state_path.exists()


def kill_after_an_epoch(ledger, cell):
    until(lambda: has_state(ledger))
    os.kill(read_attempt(ledger.attempts, cell, 1).process, signal.SIGKILL)


@contextmanager
def two_nodes():
    """A Ray cluster of two nodes on this machine; yields its address."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    try:
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def two_nodes_with_a_token():
    """Two nodes as their users start them, which listen to this machine alone; yields address and environment."""
    pytest.importorskip("ray")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    told = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address=127.0.0.1"]
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="ray-"))  # sockets want a short path
        head = ["--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false", f"--temp-dir={folder}"]
        for place in (head, [f"--address={address}"]):
            command = [*start, "--num-cpus=1", *place]
            node = subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            stack.callback(node.communicate)
            stack.callback(node.terminate)
            while "This command will now block" not in (line := node.stdout.readline()):
                assert line, "the node did not start"
        yield address, told


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
class TestRay:
    @pytest.fixture(autouse=True)
    def _as_important_as_the_rest(self, monkeypatch):
        monkeypatch.setenv("RAY_worker_niceness", "0")  # its workers step back otherwise, on a busy machine for minutes

    def test_workers_are_killed(self, tmp_path):
        ledger = sweeps.ledger(tmp_path / "s")
        with two_nodes() as address, killing_workers(ledger, every=4) as kills:
            tally = drive(ledger, RayEngine(order_of(ledger, "tiny"), address=address))
        assert tally.done == 25
        assert len(kills) >= 2
        check_all_done(ledger)

    def test_the_driver_is_killed_and_started_again(self, tmp_path):
        ledger = sweeps.ledger(tmp_path / "s")
        with two_nodes() as address:
            process = driver_process(ledger, "tiny", address)
            until(lambda: n_done(ledger) >= 5, process)
            process.kill()
            process.communicate()
            text = driver_process(ledger, "tiny", address).communicate(timeout=200)[0]
        assert "DONE" in text
        check_all_done(ledger)

    def test_nodes_that_want_a_token(self, tmp_path):
        ledger = sweeps.ledger(tmp_path / "s", rates=(0.5,), n_seeds=2)
        command = [sys.executable, "-c", DRIVE, str(ledger.path), "tiny"]
        with two_nodes_with_a_token() as (address, told):
            text = {}
            for name, environment in (("stranger", os.environ), ("friend", told)):
                done = subprocess.run(
                    [*command, address, "60"], env=environment, capture_output=True, text=True, check=False, timeout=200
                )
                text[name] = done.stdout + done.stderr
        assert "does not answer, or wants the token of RAY_AUTH_TOKEN" in text["stranger"]
        assert "DONE 0 2 0" in text["friend"]
        check_all_done(ledger, n_cells=2)

    def test_a_cluster_too_small_for_a_cell(self, tmp_path):
        ledger = sweeps.ledger(tmp_path / "s", rates=(0.5,))
        with pytest.raises(SweepError, match="a cell takes 7 GPU, but the cluster has "):
            RayEngine(order_of(ledger, "tiny"), gpus=7)

    @pytest.mark.parametrize("imported", [False, True])
    def test_a_cluster_of_ones_own_listens_to_this_machine_alone(self, tmp_path, imported):
        code = (
            f"import pathlib, sys\n{'import ray' if imported else ''}\n"
            "from kdprobe.sweeps.ray import RayEngine\nfrom kdprobe.sweeps.work import Order\n"
            "from tests.small_sweeps import listening_below\n"
            "engine = RayEngine(Order(pathlib.Path('.').resolve()))\n"
            "print(sorted(listening_below()))\nengine.close()"
        )
        if shutil.which("ss") is None:
            pytest.skip("there is no ss")
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
        )
        places = set(json.loads(done.stdout.splitlines()[-1].replace("'", '"')))
        assert places
        assert places <= {"127.0.0.1", "[::ffff:127.0.0.1]", "[::1]"}

    def test_a_signal_still_reaches_the_sweep(self, tmp_path):
        before = signal.getsignal(signal.SIGTERM)
        engine = RayEngine(Order(tmp_path))
        try:
            assert signal.getsignal(signal.SIGTERM) is before
        finally:
            engine.close()


class TestNoCluster:
    @pytest.mark.parametrize("listening", [False, True])
    def test_an_address_that_does_not_answer(self, listening, tmp_path, capsys, monkeypatch):
        pytest.importorskip("ray")
        monkeypatch.chdir(tmp_path)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            if listening:
                listener.listen()
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            start = time.perf_counter()
            arguments = ["sweep", "digits/resnet8", "--grid", "seed=1,2", "--engine", "ray", "--address", address]
            status, text = status_of(capsys, *arguments)
            seconds = time.perf_counter() - start
        assert status == 2
        said = "is not a Ray cluster, does not answer, or wants" if listening else "no Ray cluster answers at"
        assert said in text
        assert text.count("\n") == 1
        assert seconds < 60, "Ray itself waits for minutes"
        assert not list(tmp_path.iterdir()), "nothing may be written"

    def test_no_cluster_to_be_found(self, tmp_path, monkeypatch):
        ray = pytest.importorskip("ray")

        def init(**options):  # the real one would find any cluster on this machine
            raise ConnectionError(f"no running instance for {options['address']}\nand more lines")

        monkeypatch.setattr(ray, "init", init)
        with pytest.raises(SweepError, match="no Ray cluster at 'auto': no running instance for auto; start one with"):
            RayEngine(Order(tmp_path), address="auto")

    def test_what_is_no_address(self):
        with pytest.raises(SweepError, match="a cluster's address is auto or HOST:PORT, but got 'head-node'"):
            ray_engine._check_answers("head-node")


def kill_one(ledger):
    os.kill(until(lambda: running(ledger))[0], signal.SIGKILL)


def n_done(ledger):
    return sum(state.name == "done" for state in ledger.states().values())


def test_the_ledger_is_told_by_a_second_reader_while_the_sweep_runs(tmp_path):
    ledger = sweeps.ledger(tmp_path / "s", rates=(0.3, 0.5))
    process = driver_process(ledger, "tiny", "local")
    seen = set()
    while process.poll() is None:
        states = open_ledger(ledger.path).states()
        seen |= {state.name for state in states.values()}
        time.sleep(0.1)
    process.communicate()
    assert seen == {"left", "running", "done"}


def test_from_the_command_line_stopped_and_gone_on_with(tmp_path):
    command = [sys.executable, "-m", "kdprobe", "sweep", "digits/resnet8", "--grid", "training.epochs=2,3"]
    command += ["--seeds", "1", "--out", str(tmp_path / "s"), "--device", "cpu", "--slots", "2"]
    command += ["--set", "training.saving.seconds=0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    until((tmp_path / "s" / "sweep.json").exists, process)
    ledger = open_ledger(tmp_path / "s")
    until(lambda: any(ledger.run(cell.id).state_path.exists() for cell in ledger.cells), process)
    process.terminate()
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "kdprobe: stopped by SIGTERM; the same command goes on" in errors.splitlines()[-1]
    assert {state.name for state in ledger.states().values()} <= {"left", "done"}
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "accuracy: mean ± half-width of the 95 % t-interval over seeds" in done.stdout
    assert len((tmp_path / "s" / "sweep.csv").read_text().splitlines()) == 3
    assert [len(ledger.run(cell.id).metrics()) for cell in ledger.cells] == [2, 3]
    again = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=True)
    assert (again.stdout, again.stderr) == (done.stdout, "")


def test_cells_that_fail_are_told_in_one_line(tmp_path):
    """After a step that is not the first; and not three times, as it would come again."""
    command = [sys.executable, "-m", "kdprobe", "sweep", "digits/resnet8", "--grid", "training.epochs=2"]
    command += ["--set", "training.optimizer.lr=1e30", "--out", str(tmp_path / "s"), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "kdprobe: 1 of 1 cells failed, the first one, " in done.stderr
    assert "not finite" in done.stderr or "NaN or infinity" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(list((tmp_path / "s" / "attempts").iterdir())) == 1


def test_data_that_are_not_there_are_told_before_anything_is_written(tmp_path):
    command = [sys.executable, "-m", "kdprobe", "sweep", "digits/resnet8", "--grid", "training.epochs=2"]
    command += ["--data", f"folder:{tmp_path / 'nowhere'}", "--out", str(tmp_path / "s"), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nowhere" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("driver_too", [False, True], ids=["worker", "worker and driver"])
def test_a_frozen_worker_costs_no_cell(tmp_path, driver_too):
    """Its driver ends it; where that is frozen with it, another driver's worker takes the cell away."""
    ledger = sweeps.ledger(tmp_path / "s", rates=(0.5,))
    first = driver_process(ledger, "tiny", "local", stale_after=3)
    worker = until(lambda: running(ledger), first)[0]
    until(lambda: has_state(ledger), first)
    frozen = [worker, first.pid] if driver_too else [worker]
    for process in frozen:
        os.kill(process, signal.SIGSTOP)
    second = driver_process(ledger, "tiny", "local", stale_after=3) if driver_too else first
    assert "DONE" in second.communicate(timeout=100)[0]
    if driver_too:
        for process in frozen:
            os.kill(process, signal.SIGCONT)
        assert "DONE" in first.communicate(timeout=100)[0]
    check_all_done(ledger, n_cells=1)
