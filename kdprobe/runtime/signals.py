"""Requests to stop: remembered until the step is done and everything is saved."""

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")

#: seconds in which signals are one request: a scheduler tells all processes of a job, and then a parent its child
_ONE = 0.5


class StopRequest:
    """Whether the run was asked to stop, and how."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._at_once, self._heard = False, 0.0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Remember the signal; a later one, or one while there is nothing to save, interrupts at once."""
        now, again = time.monotonic(), self.reason is not None
        if again and now - self._heard < _ONE:
            return
        self.reason, self._heard = signal.Signals(number).name, now
        if again or self._at_once:
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While nothing can be lost, a signal, even one that came before, interrupts whatever is going on."""
        self._at_once = True
        try:
            if self.reason is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on until a signal comes, which also interrupts waiting for the next item."""
        waited = iter(items)
        while True:
            try:
                with self.at_once():
                    item = next(waited)
            except (StopIteration, KeyboardInterrupt):
                return
            yield item


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Listen to SIGINT (Ctrl-C) and SIGTERM inside; elsewhere than in the main thread nothing is listened to."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
