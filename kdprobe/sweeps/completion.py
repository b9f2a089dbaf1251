"""A whole sweep: its cells are checked, written into its folder, and brought to their end."""

from collections.abc import Callable, Sequence
from pathlib import Path

from kdprobe.errors import Stopped, SweepError
from kdprobe.sweeps.cells import Cell, Methods
from kdprobe.sweeps.driver import RETRIES, Driver
from kdprobe.sweeps.engine import Engine
from kdprobe.sweeps.ledger import Ledger, begin, check_folder
from kdprobe.sweeps.trial import try_cells
from kdprobe.training.signals import stop_requests


def complete(
    folder: Path,
    cells: Sequence[Cell],
    methods: Methods,
    open_engine: Callable[[], Engine],
    *,
    retries: int = RETRIES,
    say: Callable[[str], object] = lambda _: None,
    quiet: bool = True,
) -> Ledger:
    """Bring all cells to their end.

    Args:
        folder: of the sweep; cells that it holds already are not trained again.
        cells: of one grid.
        methods: type of the options of each method, by name.
        open_engine: called when the cells are known to be sound; an engine that cannot be had leaves no folder.
        retries: further tries of a cell that failed.
        say: is given a line about each event.
        quiet: show no progress.

    Raises:
        Stopped: when told to stop, after the cells that ran saved their states.
        SweepError: if cells failed in the end, and what `begin` and the engines raise.
    """
    check_folder(folder, cells, {})
    inputs = try_cells(cells, methods)
    check_folder(folder, cells, inputs)
    with stop_requests() as stop:
        engine = open_engine()
        try:
            ledger = begin(folder, cells, inputs=inputs)
            tally = Driver(ledger, engine, retries=retries, say=say, stop=stop, quiet=quiet).run()
        finally:
            engine.close()
    if stop.reason is not None:
        raise Stopped(
            f"stopped by {stop.reason}; the same command goes on, and kdprobe sweep status {ledger.path} shows how far "
            "it is"
        )
    if tally.failed:
        cell, reason = next(iter(tally.failed.items()))
        raise SweepError(
            f"{len(tally.failed)} of {len(ledger.distinct())} cells failed, the first one, {cell}, with: {reason}; "
            f"see {ledger.path / 'logs'}; the same command tries again"
        )
    return ledger
