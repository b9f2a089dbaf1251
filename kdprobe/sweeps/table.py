"""A sweep as a table: one row per cell that is done, and means over the seeds of equal cells."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from kdprobe.errors import SweepError
from kdprobe.files import write_text
from kdprobe.formats.tables import safe_csv
from kdprobe.mean_interval import OVER_SEEDS, worded_interval
from kdprobe.sweeps.ledger import Ledger

_NUMBERS = ("accuracy", "evaluated_images", "seconds")

Row = dict[str, Any]


def rows(ledger: Ledger) -> list[Row]:
    """One row per cell that is done: its values, its seed, accuracy, seconds of training and run folder.

    Raises:
        SweepError: if none is done.
    """
    states = ledger.states()
    found = []
    for cell in ledger.cells:
        result = states[cell.id].result
        if result is not None:
            numbers = {name: result.get(name) for name in _NUMBERS}
            found.append({**cell.values, "seed": result.get("seed"), **numbers, "run": f"cells/{cell.id}"})
    if not found:
        raise SweepError(f"{ledger.path} has no finished cell yet")
    return found


def write_table(found: list[Row], path: Path) -> None:
    """Write the rows as CSV; lists and mappings among the values as JSON."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in found for key in row)), lineterminator="\n")
    writer.writeheader()
    for row in found:
        writer.writerow(
            {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in row.items()}
        )
    write_text(path, safe_csv(text.getvalue()))


def worded_rows(found: list[Row]) -> str:
    """Mean accuracy and its 95 % interval over the seeds of each combination of values."""
    groups: dict[str, list[Row]] = {}
    for row in found:
        values = [f"{key}={value}" for key, value in row.items() if key not in (*_NUMBERS, "seed", "run")]
        groups.setdefault("  ".join(values) or "(base)", []).append(row)
    width = max(map(len, groups))
    lines = [f"{name:<{width}}  {_percent(group)}" for name, group in groups.items()]
    return "\n".join([*lines, f"accuracy: {OVER_SEEDS}"])


def _percent(group: list[Row]) -> str:
    n_images = min(row["evaluated_images"] or 0 for row in group) or None
    shares = [math.nan if row["accuracy"] is None else float(row["accuracy"]) for row in group]
    return worded_interval(shares, scale=100, n_images=n_images, unit=" %")
