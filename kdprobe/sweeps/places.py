"""A sweep whose teacher, data or first weights moved: its cells keep the names that they got from the old places."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdprobe.config import RunConfig, override
from kdprobe.runs.folder import PLACES
from kdprobe.sweeps.cells import Cell, Settings, input_names
from kdprobe.sweeps.ledger import open_ledger


def as_begun(path: Path, base: dict[str, Any], grid: Iterable[Settings]) -> tuple[dict[str, Any], dict[str, str]]:
    """The common configuration as the sweep in a folder began with it, and what has moved since.

    Args:
        path: the sweep's folder; it need not exist.
        base: what all cells have in common now.
        grid: the values of each cell; what is swept does not move.

    Raises:
        SweepError: as `open_ledger`.
    """
    if not (path / "sweep.json").exists():
        return base, {}
    before = open_ledger(path).cells[0].base
    swept = {key for values in grid for key, value in values.items() if value is not None}
    places = {
        key: _value(base, key)
        for key in PLACES
        if not any(f"{key}.".startswith(f"{name}.") for name in swept)
        and None not in (_value(before, key), _value(base, key))
        and _value(before, key) != _value(base, key)
    }
    return override(base, [f"{key}={json.dumps(_value(before, key))}" for key in places]), places


def under_old_names(inputs: Mapping[str, str], cells: Sequence[Cell], now: Sequence[Cell]) -> dict[str, str]:
    """The sha256 of what moved, by the names that the sweep knows it by.

    Args:
        inputs: sha256 by the present names.
        cells: cells with the configuration that the sweep began with.
        now: the same cells with the present configuration.
    """
    found = {}
    for one, other in zip(cells, now, strict=True):
        names = (input_names(RunConfig.model_validate(cell.config)) for cell in (one, other))
        for old, new in zip(*names, strict=True):
            if old is not None and new is not None and old != new and new in inputs:
                found[old] = inputs[new]
    return found


def _value(base: Mapping[str, Any], key: str) -> Any:
    value: Any = base
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
