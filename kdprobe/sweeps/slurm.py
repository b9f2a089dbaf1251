"""The Slurm engine, through submitit: cells submitted together become job arrays.

A job works on its cells one after another, each in a fork of its process. Shortly before the job's time limit the state
of its cell is saved, and it goes back into the queue, from where it continues. Whether a job is still queued or running
is asked of `squeue`, which needs no accounting; one that is neither and left no result is lost.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing.context import ForkProcess
from tempfile import TemporaryFile
from types import FrameType
from typing import IO, Any, NamedTuple, TypeVar

from kdprobe.errors import SweepError
from kdprobe.runtime.signals import stop_requests
from kdprobe.sweeps.cells import Cell
from kdprobe.sweeps.work import Order, Outcome, work
from kdprobe.sweeps.worker import lost, prepare

_Item = TypeVar("_Item")
#: a cell's id, its configuration and the number of the attempt at it that was given up
_Given = tuple[str, dict[str, Any], int]

_ANSWER = 60.0  # seconds that Slurm has to answer
_USUAL_ARRAY = 1000  # jobs of an array, unless Slurm is configured otherwise


class SlurmJob:
    """What a Slurm job calls; submitit pickles it again when the job is put back into the queue."""

    def __call__(self, order: Order, cells: Sequence[_Given]) -> list[Outcome | ChildProcessError]:
        """Work on cells, each given as `work` takes it."""
        return _Forks(order).work(cells)

    def checkpoint(self, *arguments: Any) -> Any:
        """Called shortly before a job is stopped: the same again, which resumes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class _Forks:
    """One fork of this process after another, each at a cell, until Slurm asks for the processors.

    Slurm signals the first process of a job, and with some of its plugins all of them. So this process passes on what
    it hears as SIGTERM, and a fork ignores the signal before the time limit: what it starts would obey it.
    """

    def __init__(self, order: Order) -> None:
        from submitit.core.job_environment import JobEnvironment

        self._order, self._told = order, False
        self._fork: ForkProcess | None = None
        self._limit = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]

    def work(self, cells: Sequence[_Given]) -> list[Outcome | ChildProcessError]:
        prepare(self._order)
        put_back = signal.getsignal(self._limit)

        def told(number: int, frame: FrameType | None) -> None:
            self._told = True
            if self._fork is not None:
                self._fork.terminate()
            if number == self._limit and callable(put_back):
                if self._fork is not None:
                    self._fork.join()  # its state is saved then
                put_back(number, frame)  # and ends this process

        before = {number: signal.signal(number, told) for number in (signal.SIGTERM, self._limit)}
        try:
            return [self._work(*cell) for cell in cells]
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _work(self, *cell: Any) -> Outcome | ChildProcessError:
        with TemporaryFile("w+", encoding="utf-8") as said:
            with self._deaf():
                if self._told:
                    return Outcome("stopped", "stopped before it began")
                self._fork = multiprocessing.get_context("fork").Process(target=self._answer, args=(said, *cell))
                self._fork.start()
            self._fork.join()
            if self._fork.exitcode:
                return lost(self._fork.exitcode)
            said.seek(0)
            return Outcome(**json.load(said))

    def _answer(self, said: IO[str], *cell: Any) -> None:
        signal.signal(self._limit, signal.SIG_IGN)
        with stop_requests() as stop, stop.at_once():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, self._limit})
            outcome = work(self._order, *cell)
        json.dump(asdict(outcome), said)
        said.flush()  # a fork's end does not

    @contextmanager
    def _deaf(self) -> Iterator[None]:
        """While there are two processes that know nothing of each other, signals wait."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, self._limit})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, self._limit})


class SlurmEngine:
    """Job arrays of a Slurm cluster.

    Args:
        order: the sweep and the task.
        options: parameters for submitit, such as `slurm_partition`, `timeout_min`, `gpus_per_node`, `cpus_per_task`,
            `slurm_array_parallelism`.
        cluster: `slurm`; `local` of submitit is for trying out.
        cells_per_job: cells that a job trains, one after another; short ones then share the seconds of its imports.
        look: seconds between looks at the jobs, and in which cells are gathered for one array.
        patience: seconds that a job may be out of the queue until its result is seen; shared folders take their time.

    Raises:
        SweepError: if submitit or Slurm is not installed, or an option is unknown or cannot be.
    """

    slots = 10_000

    def __init__(
        self,
        order: Order,
        *,
        options: Mapping[str, Any] | None = None,
        cluster: str = "slurm",
        cells_per_job: int = 1,
        look: float = 2.0,
        patience: float = 60.0,
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise SweepError("the engine 'slurm' is not installed; pip install 'kdprobe[slurm]'") from error
        if cluster not in ("slurm", "local"):
            raise SweepError(f"--slurm cluster must be slurm or local, but is {cluster}")
        if type(cells_per_job) is not int or cells_per_job < 1:
            raise SweepError(f"--slurm cells_per_job must be a whole number, at least 1, but is {cells_per_job}")
        try:
            self._executor = submitit.AutoExecutor(folder=order.folder / "logs" / "slurm", cluster=cluster)
            self._executor.update_parameters(**(options or {}))
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            raise SweepError(f"Slurm cannot be used as asked: {' '.join(str(error).split())}") from error
        self._order, self._look, self._patience = order, look, patience
        self._array = _longest_array() if cluster == "slurm" else _USUAL_ARRAY
        self._asks_slurm, self._each = cluster == "slurm", cells_per_job
        self._gathered: list[_Asked] = []
        self._jobs: list[tuple[Any, Sequence[_Asked]]] = []
        self._seen: dict[str, float] = {}  # when each job was last known to be queued or running
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def submit(self, cell: Cell, given_up: int = 0) -> Future[Outcome]:
        """Gather a cell for the next array."""
        asked = _Asked(cell, given_up, Future())
        with self._lock:
            self._gathered.append(asked)
        return asked.future

    def abandon(self, cell: Cell) -> None:
        """Cancel a cell's job; the others that it has are lost with it."""
        for job, asked in list(self._jobs):
            if cell.id in [one.cell.id for one in asked]:
                job.cancel()

    def close(self) -> None:
        """Cancel what is queued or running; jobs that a dead driver left behind simply go on."""
        self._closing.set()
        self._thread.join()
        for job, _ in self._jobs:
            job.cancel(check=False)
        while self._jobs:
            time.sleep(min(self._look, 1.0))
            self._settle()

    def _watch(self) -> None:
        while not self._closing.wait(self._look):
            with self._lock:
                gathered, self._gathered = self._gathered, []
            for array in _batches(_batches(gathered, self._each), self._array):
                self._submit_together(array)
            self._settle()

    def _submit_together(self, array: "Sequence[Sequence[_Asked]]") -> None:
        try:
            with self._executor.batch():
                jobs = [
                    self._executor.submit(
                        SlurmJob(), self._order, [(one.cell.id, one.cell.config, one.given_up) for one in asked]
                    )
                    for asked in array
                ]
        except Exception as error:  # submitit passes on whatever sbatch printed
            for asked in array:
                _keep(asked, [error] * len(asked))
            return
        self._jobs += zip(jobs, array, strict=True)
        self._seen |= dict.fromkeys((job.job_id for job in jobs), time.monotonic())

    def _settle(self) -> None:
        """Keep the promises of jobs that are over."""
        alive = _alive() if self._asks_slurm and self._jobs else None
        left = []
        for job, asked in self._jobs:
            if job.paths.result_pickle.exists() or (not self._asks_slurm and job.done()):
                _keep(asked, _outcomes(job, len(asked)))
            elif alive is None or job.job_id in alive:
                self._seen[job.job_id] = time.monotonic()
                left.append((job, asked))
            elif time.monotonic() - self._seen[job.job_id] > self._patience:
                log = job.paths.stderr
                gone = ChildProcessError(f"its job {job.job_id} ended without a result; see {log}")
                _keep(asked, [gone] * len(asked))
            else:
                left.append((job, asked))
        self._jobs = left


class _Asked(NamedTuple):
    """A cell, the attempt at it that was given up, and the promise of its outcome."""

    cell: Cell
    given_up: int
    future: Future[Outcome]


def _batches(items: Sequence[_Item], size: int) -> list[Sequence[_Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _outcomes(job: Any, count: int) -> Sequence[Outcome | Exception]:
    try:
        found: list[Outcome | Exception] = job.result()
    except Exception as error:  # a lost job, in one of several ways
        return [error] * count
    return found


def _keep(asked: Sequence[_Asked], outcomes: Sequence[Outcome | Exception]) -> None:
    for one, outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, Exception):
            one.future.set_exception(outcome)
        else:
            one.future.set_result(outcome)


def _alive() -> set[str] | None:
    """Jobs of this user that are queued or running; None if Slurm does not answer."""
    found = _told("squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}")
    return None if found is None else set(found.split())


def _longest_array() -> int:
    """How many jobs an array may have here."""
    config = (_told("scontrol", "show", "config") or "").splitlines()
    sizes = [line.partition("=")[2].strip() for line in config if line.startswith("MaxArraySize")]
    return max(int(sizes[0]) - 1, 1) if sizes and sizes[0].isdecimal() else _USUAL_ARRAY


def _told(*command: str) -> str | None:
    """What a command of Slurm prints; None if it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ANSWER)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
