"""A whole sweep: its cells are checked, written into its folder, and brought to their end."""

from collections.abc import Callable, Sequence
from pathlib import Path

from kdprobe.config import RunConfig
from kdprobe.errors import Stopped, SweepError
from kdprobe.runtime.signals import stop_requests
from kdprobe.sweeps.cells import Cell, Methods, Settings, make_cells
from kdprobe.sweeps.driver import RETRIES, Driver
from kdprobe.sweeps.engine import Engine
from kdprobe.sweeps.ledger import Ledger, begin, check_folder, open_ledger
from kdprobe.sweeps.places import as_begun, under_old_names
from kdprobe.sweeps.trial import try_cells
from kdprobe.training.places import missing_weights, require_inputs


def complete(
    folder: Path,
    config: RunConfig,
    grid: Sequence[Settings],
    methods: Methods,
    open_engine: Callable[[], Engine],
    *,
    retries: int = RETRIES,
    diverging: bool = False,
    say: Callable[[str], object] = lambda _: None,
    quiet: bool = True,
) -> Ledger:
    """Bring all cells to their end.

    Args:
        folder: of the sweep; cells that it holds already are not trained again.
        config: what all cells share.
        grid: the values of each cell.
        methods: type of the options of each method, by name.
        open_engine: called when the cells are known to be sound; an engine that cannot be had leaves no folder.
        retries: further tries of a cell that failed.
        diverging: whether trainings may diverge: such a cell comes to no result, but is no failure.
        say: is given a line about each event.
        quiet: show no progress.

    Raises:
        Stopped: when told to stop, after the cells that ran saved their states.
        SweepError: if cells failed in the end, and what `begin` and the engines raise.
    """
    base = config.model_dump(mode="json")
    begun, places = as_begun(folder, base, grid)
    cells = make_cells(begun, grid, methods)
    check_folder(folder, cells, {})
    if folder.exists():
        all_begun = _all_begun(folder, cells)
        require_inputs(config, folder, begun=all_begun)
        if all_begun and missing_weights(config):
            base = base | {"model": base["model"] | {"weights": None}}  # nothing starts from them any more
    now = [Cell(cell.id, cell.values, base) for cell in cells]
    inputs = try_cells(now, methods)
    before = under_old_names(inputs, cells, now) if places else {}
    inputs |= before
    check_folder(folder, cells, inputs, moved=before)
    with stop_requests() as stop:
        engine = open_engine()
        try:
            ledger = begin(folder, cells, inputs=inputs, places=places)
            tally = Driver(ledger, engine, retries=retries, say=say, stop=stop, quiet=quiet).run()
        finally:
            engine.close()
    if stop.reason is not None:
        raise Stopped(
            f"stopped by {stop.reason}; the same command goes on, and kdprobe sweep status {ledger.path} shows how far "
            "it is"
        )
    failed = {cell: why for cell, why in tally.failed.items() if not (diverging and ledger.run(cell).state == "failed")}
    if failed:
        cell, reason = next(iter(failed.items()))
        raise SweepError(
            f"{len(failed)} of {len(ledger.distinct())} cells failed, the first one, {cell}, with: {reason}; "
            f"see {ledger.path / 'logs'}; the same command tries again"
        )
    return ledger


def _all_begun(folder: Path, cells: Sequence[Cell]) -> bool:
    """Whether each of these cells of a sweep is done, or has saved a state to go on from."""
    if not (folder / "sweep.json").exists():
        return False
    ledger = open_ledger(folder)
    runs = [ledger.run(cell.id) for cell in cells]
    return all(run.finished or run.begun for run in runs)
