"""A map's work as cells of a ledger: one for each network, then one for each tile of pairs.

Cells are brought to processors by the engines of sweeps, and go on where they were however they ended. A cell is named
by what decides its outcome, so that a map of more networks, or by another measure, takes over what it has in common
with the one before in the same folder.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from analyses.map.members import Member, content_key
from analyses.map.showing import prepare_network
from analyses.map.tiles import measure_tile
from analyses.similarity.intervals import SAMPLE_GROUPS
from kdprobe.devices import exact_float32
from kdprobe.errors import AnalysisError, Stopped, SweepError
from kdprobe.runtime.signals import StopRequest, stop_requests
from kdprobe.sweeps.cells import Cell
from kdprobe.sweeps.driver import RETRIES, Driver
from kdprobe.sweeps.engine import Engine
from kdprobe.sweeps.ledger import begin, check_folder, taken_back_on

_BLOCK = 8  # networks along each side of a tile
TASK = "analyses.map.work:work_on"


class MapCell(Cell):
    """A network of a map, a tile of its pairs, or a tile of their null."""

    @property
    def config(self) -> dict[str, Any]:
        """What `work_on` is given."""
        return {**self.base, **self.values}

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        return str(self.values["of"])

    def blamed(self, reason: str) -> str:
        """Why it failed: what names two of its networks needs no more."""
        named = any(reason.startswith(f"{name} and ") for name in self.values.get("names", {}).values())
        return reason if named else f"{self.label}: {reason}"


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
        groups: of images, one left out at a time for intervals of other measures than CKA; 0 for none.
        permutations: of the images, for the null of each pair; 0 for none.
    """

    measure: str
    rule: str
    data: str
    batch_size: int
    view: Mapping[str, Any]
    told: Sequence[Mapping[str, Any]]
    groups: int = SAMPLE_GROUPS
    permutations: int = 0


class MapCells(NamedTuple):
    """The cells of a map.

    Attributes:
        networks: one for each.
        tiles: of all pairs.
        nulls: of the null of all pairs.
    """

    networks: list[MapCell]
    tiles: list[MapCell]
    nulls: list[MapCell]


@exact_float32
def work_on(config: Mapping[str, Any], out: Path, device: str) -> None:
    """Do the work of a cell, as `kdprobe.sweeps.work.Order.task` names it."""
    if "rows" in config:
        measure_tile(config, out)
    else:
        prepare_network(config, out, device)


def network_cells(members: Sequence[Member], settings: MapSettings) -> list[MapCell]:
    """A cell for each network."""
    return [_network_cell(one, told, settings) for one, told in zip(members, settings.told, strict=True)]


def tile_cells(networks: Sequence[Cell], settings: MapSettings, *, null: bool = False) -> list[MapCell]:
    """The cells of all pairs of networks, or of their null."""
    starts = range(0, len(networks), _BLOCK)
    blocks = [(row, column) for column in starts for row in starts if row <= column]
    return [_tile_cell(networks, row, column, settings, null) for row, column in blocks]


def _tile_cell(networks: Sequence[Cell], row: int, column: int, settings: MapSettings, null: bool) -> MapCell:
    """The tile of two blocks of networks, of which the first ones stand at these places."""
    blocks = [networks[start : start + _BLOCK] for start in (row, column)]
    rows, columns = ([cell.id for cell in block] for block in blocks)
    named = {cell.id: cell for cell in (*blocks[0], *blocks[1])}
    pairs: dict[str, Any] = {"rows": rows, "columns": columns, "measure": settings.measure, "rule": settings.rule}
    decides, size = dict(pairs), {"batch_size": settings.batch_size}
    if null:  # orders belong to a network's content, wherever it stands
        seeds = {cell.id: int(content_key(cell.values["content"]), 16) for cell in named.values()}
        decides |= {"permutations": settings.permutations, "seeds": seeds}
    elif settings.groups and settings.measure != "cka":
        decides |= {"groups": settings.groups}
    ends = [f"{start + 1} to {start + len(block)}" for start, block in zip((row, column), blocks, strict=True)]
    label = f"{settings.measure}{' under chance' if null else ''}, networks {' beside '.join(dict.fromkeys(ends))}"
    names = {cell.id: cell.values["of"] for cell in named.values()}
    values = {"of": label, "names": names, "groups": settings.groups, **decides}
    return MapCell(content_key(decides | size), values, size)


def complete_map(
    folder: Path,
    members: Sequence[Member],
    settings: MapSettings,
    open_engine: Callable[[], Engine],
    *,
    retries: int = RETRIES,
    say: Callable[[str], object] = lambda _: None,
    quiet: bool = True,
) -> MapCells:
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
        the cells of the networks, those of the tiles, and those of their null.

    Raises:
        Stopped: when told to stop.
        AnalysisError: if a network or a pair cannot be measured, with the reason of the first one; the folder is then
            as it was before.
        SweepError: if the folder or the engine cannot be used, or cells failed for a reason that can pass.
    """
    networks = network_cells(members, settings)
    tiles = tile_cells(networks, settings)
    nulls = tile_cells(networks, settings, null=True) if settings.permutations else []
    cells = [*networks, *tiles, *nulls]
    check_folder(folder, cells, {})
    with taken_back_on(AnalysisError, folder), stop_requests() as stop:
        engine = open_engine()
        try:
            ledger = begin(folder, cells, trains=False)
            for label, part in (("networks", networks), ("pairs", tiles), ("null", nulls)):
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
                _require_done(driver, part, stop)
        finally:
            engine.close()
    return MapCells(networks, tiles, nulls)


def _require_done(driver: Driver, cells: Sequence[MapCell], stop: StopRequest) -> None:
    tally = driver.run()
    if stop.reason is not None:
        raise Stopped(f"stopped by {stop.reason}; the same command goes on")
    reasons = {cell.id: cell.blamed(tally.failed[cell.id]) for cell in cells if cell.id in tally.failed}
    for cell, reason in reasons.items():
        if cell in tally.final:
            raise AnalysisError(reason)
    for cell, reason in reasons.items():
        log = driver.ledger.path / "logs" / f"{cell}.log"
        raise SweepError(f"{reason}; see {log}; the same command tries again")


def _network_cell(member: Member, told: Mapping[str, Any], settings: MapSettings) -> MapCell:
    shown: dict[str, Any] = {"data": settings.data, "batch_size": settings.batch_size, "view": dict(settings.view)}
    told = {**told, **member.told}
    cell = member.key(**shown, facts=told) if member.spec else member.key()
    place = {"spec": member.spec, "file": member.file, "role": member.role, "named_by": member.named_by}
    known = {"sha256": member.sha256, "content": member.content, "told": told}
    values = {"of": member.name, **place, **known, "data": shown["data"]}
    return MapCell(cell, values | {"view": shown["view"]}, {"batch_size": settings.batch_size})
