"""How far something is: a bar on a terminal, elsewhere a plain line on standard error every few seconds.

Whatever takes long says so here: `progress` where it can be counted, `phase` where it cannot; `say` writes a line in
between. Lines come from a thread of their own, so that long steps (the first one, a compilation, loading) give a sign
of life as well.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

from kdprobe.terminal import echo, printable

EVERY = 13.0  # seconds between two lines, to stay below the 15 that are promised on a busy machine too

_SILENT: ContextVar[bool] = ContextVar("silent", default=False)
_BRIEF: ContextVar[bool] = ContextVar("brief", default=False)
_BARS: list[object] = []


@contextmanager
def progress(
    label: str,
    total: int,
    *,
    unit: str = "images",
    done: int = 0,
    after: int = 0,
    detail: Callable[[], str] = lambda: "",
    quiet: bool = False,
) -> Iterator[Callable[[int], object]]:
    """Show how much of something is done.

    Args:
        label: what it is.
        total: how much there is.
        unit: what is counted, in the plural.
        done: how much was done at the beginning.
        after: how much of the same kind follows when this is done, for the time left.
        detail: gives what else a line says, when it is written.
        quiet: show nothing.

    Yields:
        a function to be called after each step with how much it did.
    """
    if quiet or not _speaks():
        yield lambda _: None
    elif on_terminal() or in_notebook():
        from tqdm.auto import tqdm

        with tqdm(total=total, initial=done, desc=printable(label), unit=f" {unit}", leave=False, delay=0.5) as bar:
            _BARS.append(bar)
            try:
                yield bar.update
            finally:
                _BARS.remove(bar)
    else:
        task = _Counted(label, total, unit, done, after, detail)
        with _PULSE.showing(task):
            yield task.update


@contextmanager
def phase(label: str, *, quiet: bool = False) -> Iterator[None]:
    """Give a sign of life, where there is no terminal, from something that takes long and is not counted.

    Args:
        label: what it is.
        quiet: show nothing, neither of this nor of anything inside.
    """
    token = _SILENT.set(quiet or _SILENT.get())
    try:
        with nullcontext() if on_terminal() or not _speaks() else _PULSE.showing(_Task(label)):
            yield
    finally:
        _SILENT.reset(token)


def say(text: str) -> None:
    """Write a line about what is going on to standard error, above a bar; it counts as a sign of life."""
    if _BRIEF.get():
        return
    _PULSE.last = time.monotonic()
    if _BARS:
        from tqdm import tqdm

        tqdm.write(printable(text), file=sys.stderr)
    else:
        echo(text, err=True)


@contextmanager
def brief() -> Iterator[None]:
    """Leave out the lines of `say` inside, and show only how far things are."""
    token = _BRIEF.set(True)
    try:
        yield
    finally:
        _BRIEF.reset(token)


def on_terminal() -> bool:
    """Whether both of the process's outputs are a terminal."""
    streams = (sys.__stdout__, sys.stderr)
    return all(stream is not None and not stream.closed and stream.isatty() for stream in streams)


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel, whose output is no terminal and still shows bars."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def worded_time(seconds: float) -> str:
    """Seconds, minutes or hours, in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _speaks() -> bool:
    """Whether anything may be shown: nobody asked for silence, and this is the first of torchrun's processes."""
    return not _SILENT.get() and os.environ.get("RANK", "0") == "0"


class _Task:
    """Something that is going on."""

    def __init__(self, label: str) -> None:
        self.label, self.start = label, time.monotonic()

    def text(self) -> str:
        """How far it is."""
        return f"{_elapsed(round(time.monotonic() - self.start))} so far"


class _Counted(_Task):
    """Something whose steps are counted."""

    def __init__(self, label: str, total: int, unit: str, done: int, after: int, detail: Callable[[], str]) -> None:
        super().__init__(label)
        self.total, self.unit, self.after, self.detail = total, unit, after, detail
        self.begun = self.done = done
        self.steps = self.largest = 0

    def update(self, count: int) -> None:
        """Count another step, which did this much."""
        self.done += count
        self.steps += 1
        self.largest = max(self.largest, count)

    def text(self) -> str:
        """How far it is, how fast, and how long it will take."""
        detail = self.detail()
        parts = [f"{self.done:,}/{self.total:,} {self.unit}", *([detail] if detail else [])]
        new, seconds = self.done - self.begun, time.monotonic() - self.start
        if new and seconds:
            if self.largest > 1:
                ahead = -(-max(self.total - self.done, 0) // self.largest)
                parts.insert(0, f"step {self.steps:,}/{self.steps + ahead:,}")
            left = (max(self.total - self.done, 0) + self.after) * seconds / new
            parts += [f"{_rate(new / seconds)} {self.unit}/s", f"{worded_time(left)} left"]
        else:
            parts.append(super().text())
        return ", ".join(parts)


def _elapsed(seconds: int) -> str:
    """A time to the second, so that each line about it says something new."""
    if seconds < 90:
        return worded_time(seconds)
    hours, rest = divmod(seconds, 3600)
    return f"{f'{hours} h ' if hours else ''}{rest // 60} min {rest % 60} s"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


class _Pulse:
    """A thread that writes a line whenever none has been written for a while."""

    def __init__(self) -> None:
        self.last = 0.0
        self._tasks: list[_Task] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def showing(self, task: _Task) -> Iterator[None]:
        """Show a task while it goes on; of several, all their names and how far the newest is."""
        with self._changed:
            if not self._tasks:
                self.last = time.monotonic()
            self._tasks.append(task)
            if self._thread is None or not self._thread.is_alive():  # as in the child of a fork
                self._thread = threading.Thread(target=self._beat, name="progress", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._tasks.remove(task)
                self._changed.notify_all()

    def _beat(self) -> None:
        while (line := self._next_line()) is not None:
            try:
                say(line)
            except (OSError, ValueError):
                return  # nobody listens any more

    def _next_line(self) -> str | None:
        """Wait until a line is due; None when everything has ended."""
        with self._changed:
            while self._tasks and (rest := self.last + EVERY - time.monotonic()) > 0:
                self._changed.wait(rest)
            tasks = list(self._tasks)
            if not tasks:
                self._thread = None
                return None
        names = dict.fromkeys(task.label for task in tasks)
        return f"{', '.join(names)}: {tasks[-1].text()}"


_PULSE = _Pulse()
