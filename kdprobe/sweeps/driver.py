"""The driver: keeps an engine busy with the cells that are left, and tries again what was lost."""

import heapq
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from kdprobe.errors import KdprobeError
from kdprobe.runtime.signals import StopRequest
from kdprobe.sweeps.attempts import BEATS, Heartbeats, last_numbers, over, read_attempt
from kdprobe.sweeps.cells import Cell
from kdprobe.sweeps.engine import Engine
from kdprobe.sweeps.ledger import Ledger
from kdprobe.sweeps.work import Outcome
from kdprobe.terminal.progress import progress

RETRIES = 2  # of a cell that failed by itself
LOSSES = 20  # of a cell whose worker was lost: machines die often enough, and states are saved
_LONGEST = 30.0  # seconds between two tries


@dataclass
class Counts:
    """The outcome of a sweep.

    Attributes:
        found: cells that were done at the beginning.
        done: cells that were finished since, by any process.
        failed: reason of each cell that was given up, by id.
        final: those of them that would fail again.
        tries: how often a cell was given to a worker.
    """

    found: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    final: set[str] = field(default_factory=set)
    tries: int = 0


class Driver:
    """Brings every cell of a ledger to its end.

    Args:
        ledger: the sweep's.
        engine: brings cells to processors; it stays open.
        retries: further tries of a cell that failed.
        backoff: seconds before the first of them; doubled each time.
        look: seconds between looks at cells that other drivers' workers train.
        say: called with a line about each event.
        quiet: show no progress.
        stop: set when the sweep is asked to stop.
        label: what the progress is called.
    """

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        *,
        retries: int = RETRIES,
        backoff: float = 1.0,
        look: float = 2.0,
        say: Callable[[str], object] = lambda _: None,
        stop: StopRequest | None = None,
        quiet: bool = True,
        label: str = "sweep",
    ) -> None:
        self.ledger, self.engine = ledger, engine
        self.retries, self.backoff, self.look, self.say = retries, backoff, look, say
        self.stop, self.quiet, self._label = stop or StopRequest(), quiet, label
        self._shown: Callable[[int], object] = lambda _: None
        self.counts = Counts()
        self._tries: Counter[tuple[str, str]] = Counter()
        self._waiting: list[tuple[float, int, Cell]] = []
        self._running: dict[Future[Outcome], Cell] = {}
        self._given_up: dict[str, int] = {}
        self._heartbeats, self._watched_at = Heartbeats(ledger.stale_after), time.monotonic()
        self._order, self._again = 0, "trained" if ledger.trains else "measured"

    def run(self) -> Counts:
        """Work until nothing is left, or until asked to stop."""
        self._find()
        found = self.counts.found
        with progress(
            self._label, self._n_cells, unit="cells", done=found, detail=self._pace, quiet=self.quiet
        ) as self._shown:
            while (self._waiting or self._running) and self.stop.reason is None:
                self._submit()
                self._collect()
        return self.counts

    def _find(self) -> None:
        """Find the cells that are done; before anything is begun, their weights are read."""
        states = self.ledger.states()
        self._n_cells = len(states)
        with progress("checking", self._n_cells, unit="cells", quiet=self.quiet) as shown:
            for cell in self.ledger.distinct():
                if self.stop.reason is not None:
                    return
                state = states[cell.id]
                if state.name == "done":
                    state = self.ledger.state(cell.id, hashed=True)
                if state.name == "done":
                    self.counts.found += 1
                else:
                    self._later(cell, 0.0)
                if state.damaged:
                    self.say(f"{cell.label}: {state.damaged}; the cell is {self._again} again")
                shown(1)

    def _pace(self) -> str:
        """Which epochs the running cells have reached, and how fast they are together."""
        last = [lines[-1] for cell in list(self._running.values()) if (lines := self._metrics(cell))]
        if not last:
            return f"{len(self._running)} running"
        epochs = ", ".join(str(record["epoch"]) for record in last)
        speed = sum(record["images"] / max(record["seconds"], 1e-9) for record in last)
        return f"{len(self._running)} running, after epoch {epochs}, {speed:,.0f} images/s"

    def _metrics(self, cell: Cell) -> list[dict[str, Any]]:
        try:
            return self.ledger.run(cell.id).metrics()
        except (KdprobeError, OSError):
            return []

    def _submit(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now and len(self._running) < self.engine.slots:
            cell = heapq.heappop(self._waiting)[2]
            state = self.ledger.state(cell.id, self._heartbeats, hashed=True)
            if state.name == "done":
                self._finished(cell, "done elsewhere")
            elif state.name == "running":
                self._later(cell, self.look)
            else:
                self.counts.tries += 1
                number = 0 if state.attempt is None else state.attempt.number
                self._given_up[cell.id] = number
                self._running[self.engine.submit(cell, number)] = cell

    def _collect(self) -> None:
        pause = max(self._waiting[0][0] - time.monotonic(), 0.01) if self._waiting else 0.5
        if not self._running:
            time.sleep(min(pause, 0.5))
            return
        for future in wait(self._running, timeout=min(pause, 0.5), return_when=FIRST_COMPLETED).done:
            self._judge(self._running.pop(future), future)
        self._watch()

    def _watch(self) -> None:
        """Give up workers of this driver that no longer show signs of life, such as frozen ones."""
        if time.monotonic() - self._watched_at < self.ledger.stale_after / BEATS:
            return
        self._watched_at = time.monotonic()
        numbers = last_numbers(self.ledger.attempts)
        for future, cell in self._running.items():
            number = numbers.get(cell.id, 0)
            if number <= self._given_up[cell.id] or future.done():
                continue  # it is queued
            attempt = read_attempt(self.ledger.attempts, cell.id, number)
            if not over(attempt) and self._heartbeats.silent(attempt):
                self.say(f"{cell.label}: its worker, process {attempt.process} on {attempt.host}, is silent; given up")
                self.engine.abandon(cell)

    def _judge(self, cell: Cell, future: Future[Outcome]) -> None:
        error = future.exception()
        outcome = Outcome("failed", _first_line(error)) if error else future.result()
        if outcome.name == "done":
            self._finished(cell, "done")
        elif outcome.name == "busy":
            self._later(cell, self.look)
        else:
            lost = error is not None or outcome.name == "stopped"
            if outcome.final:
                self.counts.final.add(cell.id)
            self._try_again(
                cell, outcome.error, lost=lost, limit=LOSSES if lost else 0 if outcome.final else self.retries
            )

    def _try_again(self, cell: Cell, reason: str, *, lost: bool, limit: int) -> None:
        kind = "lost" if lost else "failed"
        tries = self._tries[cell.id, kind]
        if self.stop.reason is not None:
            return
        if tries >= limit:
            self.counts.failed[cell.id] = reason
            self.ledger.give_up(cell.id, reason)
            self.say(f"{cell.label}: given up: {reason}")
            return
        self._tries[cell.id, kind] += 1
        delay = min(self.backoff * 2**tries, _LONGEST)
        self.say(f"{cell.label}: {reason}; trying again in {delay:g} s")
        self._later(cell, delay)

    def _finished(self, cell: Cell, how: str) -> None:
        self.counts.done += 1
        self._shown(1)
        n_done = self.counts.found + self.counts.done
        accuracy = (self.ledger.state(cell.id).result or {}).get("accuracy")
        worded = "" if accuracy is None else f", accuracy {accuracy:.4f}"
        self.say(f"[{n_done}/{self._n_cells}] {cell.label}: {how}{worded}")

    def _later(self, cell: Cell, seconds: float) -> None:
        self._order += 1
        heapq.heappush(self._waiting, (time.monotonic() + seconds, self._order, cell))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
