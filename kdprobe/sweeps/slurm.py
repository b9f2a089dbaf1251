"""The Slurm engine, through submitit: cells handed in together become one job array.

A job that Slurm stops and puts back into the queue continues from the cell's own checkpoint.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from kdprobe.errors import SweepError
from kdprobe.sweeps.cells import Cell
from kdprobe.sweeps.work import Order, Outcome, work


class Job:
    """What a Slurm job calls; submitit pickles it again when the job is put back into the queue."""

    def __call__(self, order: Order, cell: str, config: dict[str, Any]) -> Outcome:
        """Work on one cell."""
        return work(order, cell, config)

    def checkpoint(self, *arguments: Any) -> Any:
        """Called shortly before a job is stopped: the same again, which resumes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class SlurmEngine:
    """Job arrays of a Slurm cluster.

    Args:
        order: the sweep and the task.
        options: submitit's parameters, such as `slurm_partition`, `timeout_min`, `gpus_per_node`, `cpus_per_task`,
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
        self._gathered: list[tuple[Cell, Future[Outcome]]] = []
        self._jobs: list[tuple[Any, Future[Outcome]]] = []
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def submit(self, cell: Cell) -> Future[Outcome]:
        """Gather a cell for the next array."""
        future: Future[Outcome] = Future()
        with self._lock:
            self._gathered.append((cell, future))
        return future

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
                self._hand_in(gathered)
            for job, future in self._jobs:
                if job.done():
                    _settle(job, future)
            self._jobs = [(job, future) for job, future in self._jobs if not future.done()]

    def _hand_in(self, gathered: list[tuple[Cell, Future[Outcome]]]) -> None:
        try:
            with self._executor.batch():
                jobs = [self._executor.submit(Job(), self._order, cell.id, cell.config) for cell, _ in gathered]
        except Exception as error:  # submitit passes on whatever sbatch said
            for _, future in gathered:
                future.set_exception(error)
            return
        self._jobs += zip(jobs, (future for _, future in gathered), strict=True)


def _settle(job: Any, future: Future[Outcome]) -> None:
    try:
        future.set_result(job.result())
    except Exception as error:  # a lost job, in one of several ways
        future.set_exception(error)
