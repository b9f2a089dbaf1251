"""How far a sweep is, in lines for a person."""

import os
from collections.abc import Iterable, Iterator

from kdprobe.formats.counts import counted
from kdprobe.sweeps.attempts import last_number, read_attempt
from kdprobe.sweeps.ledger import Ledger, State
from kdprobe.terminal.progress import worded_time

_STATES = ("done", "running", "failed", "left")


def status_lines(ledger: Ledger) -> Iterator[str]:
    """The numbers of cells by their states, a line for each cell of which there is more to say, and the time to go."""
    states = ledger.states()
    counts = {name: sum(state.name == name for state in states.values()) for name in _STATES}
    yield f"{len(states)} cells: " + ", ".join(f"{count} {name}" for name, count in counts.items())
    for cell in ledger.distinct():
        if line := _status(ledger, states[cell.id]):
            yield f"  {cell.id}  {cell.label}: {line}"
    if counts["done"] < len(states):
        seconds = seconds_to_go(ledger, states.values())
        yield "time to go: " + ("unknown" if seconds is None else worded_time(seconds))


def _status(ledger: Ledger, state: State) -> str | None:
    """What there is to say of a cell that runs, failed, or has a damaged result or damaged weights."""
    damaged = f"{state.damaged}, so it is not done; " if state.damaged else ""
    attempt = state.attempt
    if state.name == "running" and attempt is not None:
        epochs = len(ledger.run(attempt.path.name.partition(".")[0]).metrics())
        age = ledger.heartbeat_age(attempt)
        return f"{damaged}running on {attempt.host}, {counted(epochs, 'epoch')} done, heartbeat {age:.0f} s ago"
    if state.name == "failed" and attempt is not None:
        return f"{damaged}failed in attempt {attempt.number}: {attempt.error}"
    return damaged.removesuffix("; ") or None


def seconds_to_go(ledger: Ledger, states: Iterable[State]) -> float | None:
    """How long the rest will take at the present pace; None while nothing runs or nothing is done yet.

    A running cell counts half: on average it is halfway.
    """
    states = list(states)
    running = [state.attempt for state in states if state.name == "running" and state.attempt]
    left = sum(state.name in ("left", "failed") for state in states)
    took = _durations(ledger)
    if not running or not took:
        return None
    return sum(took) / len(took) * (left + len(running) / 2) / len(running)


def _durations(ledger: Ledger, *, of_last: int = 50) -> list[float]:
    """Seconds from the last attempt's beginning to its result, of the cells finished last."""
    found = []
    for cell in ledger.distinct():
        try:
            found.append((os.stat(f"{ledger.path}/cells/{cell.id}/result.json").st_mtime, cell.id))
        except FileNotFoundError:
            continue
    durations = []
    for finished, cell_id in sorted(found)[-of_last:]:
        number = last_number(ledger.attempts, cell_id)
        if number:
            durations.append(max(finished - read_attempt(ledger.attempts, cell_id, number).started, 0.0))
    return durations
