"""A map's work as cells of a ledger: one for each network, then one for each tile of pairs.

Cells are brought to processors by the engines of sweeps, and go on where they were however they ended. A cell is named
by what decides its outcome, so that a map of more networks, or by another measure, takes over what it has in common
with the one before in the same folder.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analyses.map.members import Member, content_key
from analyses.map.showing import prepare_network
from analyses.map.tiles import measure_tile
from kdprobe.errors import AnalysisError, Stopped
from kdprobe.runtime.signals import StopRequest, stop_requests
from kdprobe.sweeps.cells import Cell
from kdprobe.sweeps.driver import RETRIES, Driver
from kdprobe.sweeps.engine import Engine
from kdprobe.sweeps.ledger import Ledger, begin, check_folder

_BLOCK = 8  # networks along each side of a tile
TASK = "analyses.map.work:work_on"


class MapCell(Cell):
    """A network of a map, or a tile of its pairs."""

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        return str(self.values["of"])


@dataclass(frozen=True)
class MapSettings:
    """How a map is measured.

    Attributes:
        measure: a name that `analyses.map.pairs.comparison` takes.
        rule: a name in `analyses.map.pairs.RULES`.
        data: the data SPEC.
        batch_size: samples in a minibatch.
        view: how image files are shown, as the fields of a `kdprobe.data.View`.
        told: for each network, facts that its file does not hold.
    """

    measure: str
    rule: str
    data: str
    batch_size: int
    view: Mapping[str, Any]
    told: Sequence[Mapping[str, Any]]


def work_on(config: Mapping[str, Any], out: Path, device: str) -> None:
    """Do the work of a cell, as `kdprobe.sweeps.work.Order.task` names it."""
    if "rows" in config:
        measure_tile(config, out)
    else:
        prepare_network(config, out, device)


def network_cells(members: Sequence[Member], settings: MapSettings) -> list[MapCell]:
    """A cell for each network."""
    return [_network_cell(one, told, settings) for one, told in zip(members, settings.told, strict=True)]


def tile_cells(networks: Sequence[Cell], settings: MapSettings) -> list[MapCell]:
    """The cells of all pairs of networks."""
    ids = [cell.id for cell in networks]
    blocks = [ids[start : start + _BLOCK] for start in range(0, len(ids), _BLOCK)]
    chosen = {"measure": settings.measure, "rule": settings.rule}
    size = {"batch_size": settings.batch_size}
    found = []
    for number, columns in enumerate(blocks):
        for place, rows in enumerate(blocks[: number + 1]):
            pairs = {"rows": rows, "columns": columns, **chosen}
            values = {"of": f"{settings.measure}, tile {place + 1}.{number + 1}", **pairs}
            found.append(MapCell(content_key(pairs | size), values, size))
    return found


def complete_map(
    folder: Path,
    members: Sequence[Member],
    settings: MapSettings,
    open_engine: Callable[[], Engine],
    *,
    retries: int = RETRIES,
    say: Callable[[str], object] = lambda _: None,
    quiet: bool = True,
) -> tuple[list[MapCell], list[MapCell]]:
    """Bring all networks and pairs of a map to their end.

    Args:
        folder: of the ledger; what it holds already is not done again.
        members: the networks.
        settings: how they are measured.
        open_engine: opens what brings cells to processors.
        retries: further tries of a cell that fails.
        say: is given a line about each event.
        quiet: show no progress.

    Returns:
        the cells of the networks, and those of the tiles.

    Raises:
        Stopped: when told to stop.
        AnalysisError: if cells failed in the end, with the reason of the first one.
        SweepError: if the folder or the engine cannot be used.
    """
    networks = network_cells(members, settings)
    tiles = tile_cells(networks, settings)
    cells = [*networks, *tiles]
    check_folder(folder, cells, {})
    with stop_requests() as stop:
        engine = open_engine()
        try:
            ledger = begin(folder, cells, trains=False)
            for label, part in (("networks", networks), ("pairs", tiles)):
                driver = Driver(
                    replace(ledger, cells=part),
                    engine,
                    retries=retries,
                    say=say,
                    stop=stop,
                    quiet=quiet,
                    label=label,
                    look=0.2,
                )
                _require_done(driver, ledger, stop)
        finally:
            engine.close()
    return networks, tiles


def _require_done(driver: Driver, ledger: Ledger, stop: StopRequest) -> None:
    tally = driver.run()
    if stop.reason is not None:
        raise Stopped(f"stopped by {stop.reason}; the same command goes on")
    if tally.failed:
        cell, reason = next(iter(tally.failed.items()))
        label = next(one.label for one in driver.ledger.cells if one.id == cell)
        raise AnalysisError(f"{label}: {reason}")


def _network_cell(member: Member, told: Mapping[str, Any], settings: MapSettings) -> MapCell:
    shown: dict[str, Any] = {"data": settings.data, "batch_size": settings.batch_size, "view": dict(settings.view)}
    told = {**told, **member.told}
    cell = member.key(**shown, facts=told) if member.spec else member.key()
    place = {"spec": member.spec, "file": member.file, "role": member.role, "named_by": member.named_by}
    values = {"of": member.name, **place, "sha256": member.sha256, "told": told, "data": shown["data"]}
    return MapCell(cell, values | {"view": shown["view"]}, {"batch_size": settings.batch_size})
