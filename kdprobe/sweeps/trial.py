"""What is wrong with a sweep's cells, found before anything is written: the first step of some of them is tried.

Not all are needed: a mistake that all cells have shows in the first one, and a mistake in a value of an axis shows in
the first cell that has this value. Of the numbers on an axis, the smallest and the largest are tried; axes that cannot
matter before the second step are left out.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from kdprobe.config import RunConfig, parse
from kdprobe.data import DataSet
from kdprobe.sweeps.cells import Cell, Methods, input_names
from kdprobe.training.build import data_of
from kdprobe.training.rehearsal import try_out

_LATER = (
    *("seed", "data.workers", "probe"),
    *(f"training.{key}" for key in ("epochs", "optimizer", "schedule", "evaluate", "saving")),
)


def try_cells(cells: Sequence[Cell], methods: Methods) -> dict[str, str]:
    """Try the first step of some cells.

    Args:
        cells: cells of one grid.
        methods: type of the options of each method, by name.

    Returns:
        sha256 of each teacher, data set and weights file, by their names.

    Raises:
        KdprobeError: as `training.rehearsal.try_out`.
    """
    sets: dict[str, DataSet] = {}
    found: dict[str, str] = {}
    for cell in _to_be_tried(cells):
        config = parse(cell.config, methods, source=f"the cell {cell.label}")
        key = json.dumps([config.data.model_dump(mode="json"), config.data.seed_or(config.seed)])
        if key not in sets:
            sets[key] = data_of(config, decode=False)
        inputs = try_out(_uncompiled(config), sets[key])
        hashes = zip(input_names(config), (inputs.teacher, inputs.data, inputs.weights), strict=True)
        found |= {name: digest for name, digest in hashes if name is not None and digest is not None}
    return found


def _to_be_tried(cells: Sequence[Cell]) -> Iterator[Cell]:
    """The first cell, and the first one with each value that is to be tried."""
    yield cells[0]
    for axis in dict.fromkeys(key for cell in cells for key in cell.values):
        if f"{axis}.".startswith(tuple(f"{name}." for name in _LATER)):
            continue
        firsts = {json.dumps(cell.values[axis]): cell for cell in reversed(cells) if axis in cell.values}
        for value in _extreme([cell.values[axis] for cell in firsts.values()]):
            if (chosen := firsts[json.dumps(value)]) is not cells[0]:
                yield chosen


def _extreme(values: list[Any]) -> list[Any]:
    """The smallest and the largest where all values are numbers, else all of them."""
    if all(type(value) in (int, float) for value in values):
        return list(dict.fromkeys((min(values), max(values))))
    return values


def _uncompiled(config: RunConfig) -> RunConfig:
    """Compiling takes a minute and changes nothing about what is found."""
    return config.model_copy(update={"training": config.training.model_copy(update={"compile": False})})
