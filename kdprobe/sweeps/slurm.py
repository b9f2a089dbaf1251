"""The Slurm engine, through submitit: cells submitted together become one job array.

A job that Slurm stops and puts back into the queue continues from the cell's own checkpoint.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from kdprobe.errors import SweepError
from kdprobe.sweeps.cells import Cell
from kdprobe.sweeps.work import Order, Outcome, work


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

    Raises:
        SweepError: if submitit or Slurm is not installed, or an option is unknown.
    """

    slots = 10_000

    def __init__(
        self, order: Order, *, options: Mapping[str, Any] | None = None, cluster: str = "slurm", look: float = 2.0
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
        self._order, self._look = order, look
        self._gathered: list[_Asked] = []
        self._jobs: list[tuple[Any, _Asked]] = []
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
            job.cancel()
        while any(not job.done() for job, _ in self._jobs):
            time.sleep(0.1)

    def _watch(self) -> None:
        while not self._closing.wait(self._look):
            with self._lock:
                gathered, self._gathered = self._gathered, []
            if gathered:
                self._submit_together(gathered)
            for job, asked in self._jobs:
                if job.done():
                    _settle(job, asked.future)
            self._jobs = [(job, asked) for job, asked in self._jobs if not asked.future.done()]

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


class _Asked(NamedTuple):
    """A cell, the attempt at it that was given up, and the promise of its outcome."""

    cell: Cell
    given_up: int
    future: Future[Outcome]


def _settle(job: Any, future: Future[Outcome]) -> None:
    try:
        future.set_result(job.result())
    except Exception as error:  # a lost job, in one of several ways
        future.set_exception(error)
