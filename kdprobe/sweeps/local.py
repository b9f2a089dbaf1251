"""The local engine: one child process per slot, each pinned to its GPU or to processors of its own.

A child imports torch once. On processors it forks for each cell: cells cost no imports, and a crash or a failure leaves
nothing behind. On a GPU the child itself serves cells, one after another, because a device that was touched does not
survive a fork; it is replaced after a cell that failed, and when it is a minute old, so that long cells have a process
each. A child that dies is replaced too.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from kdprobe.errors import SweepError
from kdprobe.sweeps.cells import Cell
from kdprobe.sweeps.work import Order, Outcome
from kdprobe.sweeps.worker import lost
from kdprobe.user_code import child_command

Start = Literal["fork", "spawn"]

_OLD = 60.0  # seconds of life after which a child that does not fork gets no further cell
_PATIENCE = 60.0  # seconds that a child has to save its state


@dataclass(frozen=True)
class Slot:
    """Room for one cell at a time.

    Attributes:
        threads: threads for the work on the CPU.
        gpu: value of CUDA_VISIBLE_DEVICES; None leaves it alone.
    """

    threads: int
    gpu: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What pins a child to this slot."""
        pinned = {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}
        return {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads), **pinned}


def make_slots(
    count: int | None, *, processors: int, n_gpus: int, environment: Mapping[str, str] | None = None
) -> list[Slot]:
    """Divide a machine.

    Args:
        count: slots; one per GPU if not given, or without GPUs one per four processors, two at least where
            there are two.
        processors: how many the machine has.
        n_gpus: how many torch sees; 0 to compute on the CPU.
        environment: CUDA_VISIBLE_DEVICES may name the GPUs in it, and OMP_NUM_THREADS may limit the threads per cell.

    Raises:
        SweepError: if there would be no slot.
    """
    if count is not None and count < 1:
        raise SweepError(f"--slots must be at least 1, but is {count}")
    n_slots = count or n_gpus or max(min(processors, 2), processors // 4)
    environment = os.environ if environment is None else environment
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if len(visible) == n_gpus and all(visible) else [str(number) for number in range(n_gpus)]
    each, allowed = max(processors // n_slots, 1), environment.get("OMP_NUM_THREADS", "")
    threads = min(each, int(allowed)) if allowed.isdecimal() and int(allowed) else each
    return [Slot(threads, names[number % n_gpus] if n_gpus else None) for number in range(n_slots)]


def pick_start(asked: Start | None, *, on_processors: bool, system: str = sys.platform) -> Start:
    """How cells get their processes.

    Args:
        asked: what the user wants, if anything.
        on_processors: cells compute on the CPU.
        system: as `sys.platform` names it; libraries of other systems than Linux do not expect a fork.

    Raises:
        SweepError: if there is no fork.
    """
    if asked == "fork" and system == "win32":
        raise SweepError("--start fork is not for Windows, which has no fork; leave it out or give --start spawn")
    return asked or ("fork" if on_processors and system == "linux" else "spawn")


class LocalEngine:
    """Child processes of this one.

    Args:
        order: the sweep and the task.
        slots: what cells run in.
        start: `fork` gives each cell a fork of its slot's child, `spawn` the child itself.
    """

    def __init__(self, order: Order, slots: Sequence[Slot], *, start: Start = "fork") -> None:
        self.order, self.slots, self.start = order, len(slots), start
        self._queue: queue.Queue[tuple[Cell, int, Future[Outcome]] | None] = queue.Queue()
        self._closing = threading.Event()
        self._children: dict[int, _Child] = {}
        self._threads = [
            threading.Thread(target=self._serve, args=(number, slot), daemon=True) for number, slot in enumerate(slots)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, cell: Cell, given_up: int = 0) -> Future[Outcome]:
        """Queue a cell for the next free slot."""
        future: Future[Outcome] = Future()
        self._queue.put((cell, given_up, future))
        return future

    def abandon(self, cell: Cell) -> None:
        """Kill the processes that train a cell."""
        for child in list(self._children.values()):
            if child.cell == cell.id:
                child.kill()

    def close(self) -> None:
        """Stop the children, which save their states first."""
        self._closing.set()
        for child in list(self._children.values()):
            child.stop()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self, number: int, slot: Slot) -> None:
        child: _Child | None = None
        while (job := self._queue.get()) is not None and not self._closing.is_set():
            cell, given_up, future = job
            try:
                if child is None or not child.fresh():
                    if child is not None:
                        child.dismiss()
                    child = None  # until there is another one
                    child = self._children[number] = _Child(self.order, slot, number, self.start)
                    if self._closing.is_set():
                        child.stop()
                outcome = child.ask(cell, given_up)
            except (OSError, ValueError) as error:
                future.set_exception(error)
                if child is not None:
                    child.spent = True
            else:
                child.spent = outcome.name in ("failed", "stopped")
                future.set_result(outcome)
        if child is not None:
            child.dismiss()


class _Child:
    """One worker process, and the one that it has forked for a cell."""

    def __init__(self, order: Order, slot: Slot, number: int, start: Start) -> None:
        command = [*child_command("kdprobe.sweeps.worker"), str(order.folder), "--task", order.task]
        command += ["--device", order.device, "--stale-after", str(order.stale_after)]
        command += ["--start", start, "--trust", *order.trust]
        with (order.folder / "logs" / f"slot-{number}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **slot.environment},
                start_new_session=True,  # Ctrl-C reaches only the driver, which asks each child once
            )
        self.forks, self.born = start == "fork", time.monotonic()
        self.spent = False
        self.cell: str | None = None
        self._at: int | None = None  # the process that is at the cell
        self._asked, self._lock = False, threading.Lock()  # to stop, which each process is told once

    def fresh(self) -> bool:
        """Whether it may get another cell."""
        unspent = self.forks or (not self.spent and time.monotonic() - self.born < _OLD)
        return unspent and self.process.poll() is None

    def kill(self) -> None:
        """End it and what it forked for its cell, at once."""
        with self._lock:
            self.process.kill()
            _send(self._at, signal.SIGKILL)

    def stop(self) -> None:
        """Have the process at the cell save its state and end; one that is at none ends at once."""
        with self._lock:
            if self._asked:
                return
            self._asked = True
            if self._at is None:
                self.process.terminate()
            _send(self._at, signal.SIGTERM)

    def _begun(self, process: int) -> None:
        with self._lock:
            self._at = process
            if self._asked and process != self.process.pid:
                _send(process, signal.SIGTERM)

    def ask(self, cell: Cell, given_up: int) -> Outcome:
        """Give it a cell and wait.

        Raises:
            OSError: if the process at the cell dies; ValueError if its last words are cut short.
        """
        self.cell = cell.id
        try:
            return self._answer({"cell": cell.id, "config": cell.config, "given_up": given_up})
        finally:
            with self._lock:
                self.cell = self._at = None

    def _answer(self, request: dict[str, Any]) -> Outcome:
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: PT018
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        status: int | None = None
        for line in self.process.stdout:
            said = json.loads(line)
            if (status := said.get("status")) is not None:
                break
            if "process" not in said:
                return Outcome(**said)
            self._begun(said["process"])
        raise lost(self.process.wait() if status is None else status)

    def dismiss(self) -> None:
        """End it: it leaves when there can be no more cells."""
        try:
            self.process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def _send(process: int | None, number: int) -> None:
    if process is not None:
        with suppress(ProcessLookupError):
            os.kill(process, number)
