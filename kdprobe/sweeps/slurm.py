"""The Slurm engine, through submitit: cells submitted together become job arrays.

A job that Slurm stops and puts back into the queue continues from the cell's own checkpoint. Whether a job is still
queued or running is asked of `squeue`, which needs no accounting; one that is neither and left no result is lost.
"""

import os
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from kdprobe.errors import SweepError
from kdprobe.sweeps.cells import Cell
from kdprobe.sweeps.work import Order, Outcome, work

_ANSWER = 60.0  # seconds that Slurm has to answer
_USUAL_ARRAY = 1000  # jobs of an array, unless Slurm is configured otherwise


class SlurmJob:
    """What a Slurm job calls; submitit pickles it again when the job is put back into the queue."""

    def __call__(self, order: Order, cell: str, config: dict[str, Any], given_up: int) -> Outcome:
        """Work on one cell."""
        return work(order, cell, config, given_up)

    def checkpoint(self, *arguments: Any) -> Any:
        """Called shortly before a job is stopped: the same again, which resumes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class SlurmEngine:
    """Job arrays of a Slurm cluster.

    Args:
        order: the sweep and the task.
        options: parameters for submitit, such as `slurm_partition`, `timeout_min`, `gpus_per_node`, `cpus_per_task`,
            `slurm_array_parallelism`.
        cluster: `slurm`; `local` and `debug` of submitit are for trying out.
        look: seconds between looks at the jobs, and in which cells are gathered for one array.
        patience: seconds that a job may be out of the queue until its result is seen; shared folders take their time.

    Raises:
        SweepError: if submitit or Slurm is not installed, or an option is unknown.
    """

    slots = 10_000

    def __init__(
        self,
        order: Order,
        *,
        options: Mapping[str, Any] | None = None,
        cluster: str = "slurm",
        look: float = 2.0,
        patience: float = 60.0,
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise SweepError("the engine 'slurm' is not installed; pip install 'kdprobe[slurm]'") from error
        try:
            self._executor = submitit.AutoExecutor(folder=order.folder / "logs" / "slurm", cluster=cluster)
            self._executor.update_parameters(**(options or {}))
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            raise SweepError(f"Slurm cannot be used as asked: {' '.join(str(error).split())}") from error
        self._order, self._look, self._patience = order, look, patience
        self._array = _longest_array() if cluster == "slurm" else _USUAL_ARRAY
        self._asks_slurm = cluster == "slurm"
        self._gathered: list[_Asked] = []
        self._jobs: list[tuple[Any, _Asked]] = []
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
        """Cancel a cell's job."""
        for job, asked in list(self._jobs):
            if asked.cell.id == cell.id:
                job.cancel()

    def close(self) -> None:
        """Cancel what is queued or running; jobs that a dead driver left behind simply go on."""
        self._closing.set()
        self._thread.join()
        for job, _ in self._jobs:
            job.cancel(check=False)
        while self._jobs:
            time.sleep(0.1)
            self._settle()

    def _watch(self) -> None:
        while not self._closing.wait(self._look):
            with self._lock:
                gathered, self._gathered = self._gathered, []
            for start in range(0, len(gathered), self._array):
                self._submit_together(gathered[start : start + self._array])
            self._settle()

    def _submit_together(self, gathered: "list[_Asked]") -> None:
        try:
            with self._executor.batch():
                jobs = [
                    self._executor.submit(SlurmJob(), self._order, asked.cell.id, asked.cell.config, asked.given_up)
                    for asked in gathered
                ]
        except Exception as error:  # submitit passes on whatever sbatch printed
            for asked in gathered:
                asked.future.set_exception(error)
            return
        self._jobs += zip(jobs, gathered, strict=True)
        self._seen |= dict.fromkeys((job.job_id for job in jobs), time.monotonic())

    def _settle(self) -> None:
        """Keep the promises of jobs that are over."""
        alive = _alive() if self._asks_slurm and self._jobs else None
        left = []
        for job, asked in self._jobs:
            if job.paths.result_pickle.exists() or (not self._asks_slurm and job.done()):
                _keep(job, asked.future)
            elif alive is None or job.job_id in alive:
                self._seen[job.job_id] = time.monotonic()
                left.append((job, asked))
            elif time.monotonic() - self._seen[job.job_id] > self._patience:
                log = job.paths.stderr
                asked.future.set_exception(ChildProcessError(f"its job {job.job_id} ended without a result; see {log}"))
            else:
                left.append((job, asked))
        self._jobs = left


class _Asked(NamedTuple):
    """A cell, the attempt at it that was given up, and the promise of its outcome."""

    cell: Cell
    given_up: int
    future: Future[Outcome]


def _keep(job: Any, future: Future[Outcome]) -> None:
    try:
        future.set_result(job.result())
    except Exception as error:  # a lost job, in one of several ways
        future.set_exception(error)


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
