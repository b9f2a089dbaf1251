"""How far a sweep is, in lines for a person."""

from collections.abc import Iterator

from kdprobe.sweeps.ledger import Ledger, State, seconds_to_go
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
        return f"{damaged}running on {attempt.host}, {epochs} epochs done, heartbeat {age:.0f} s ago"
    if state.name == "failed" and attempt is not None:
        return f"{damaged}failed in attempt {attempt.number}: {attempt.error}"
    return damaged.removesuffix("; ") or None
