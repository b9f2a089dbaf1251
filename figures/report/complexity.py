"""What the networks cost: a table, and the convention behind each count."""

from collections.abc import Sequence
from pathlib import Path

from figures.checks import naming, require, require_length
from figures.report.chart import Panel, Table
from kdprobe.results import Result

_COUNTS = {
    "parameters": ("parameters (M)", 1e6),
    "macs": ("MACs (G)", 1e9),
    "flops": ("FLOPs (G)", 1e9),
    "module_operations": ("module operations (G)", 1e9),
}


def panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """A table for each result.

    Args:
        results: short file names and results of kind "complexity".
    """
    found = []
    for name, result in results:
        with naming(name):
            found.append(_panel(name if len(results) > 1 else "", result))
    return found


def _panel(heading: str, result: Result) -> Panel:
    require(result, dict.fromkeys(_COUNTS, 1), ("names", "n_classes", "image_size", "conventions"))
    facts = result.facts
    networks = require_length(result, "names", len(result.arrays["macs"]), "networks")
    folders = [Path(name).name for name in networks]
    shown = folders if len({*folders}) == len(folders) else networks  # where networks are runs, not the way there
    rows = [
        [
            str(name),
            *(f"{result.arrays[key][index] / unit:.3f}" for key, (_, unit) in _COUNTS.items()),
            str(facts["n_classes"][index]),
            str(facts["image_size"][index]),
        ]
        for index, name in enumerate(shown)
    ]
    note = "; ".join(f"{label}: {facts['conventions'][key]}" for key, (label, _) in _COUNTS.items()) + "."
    return Panel(
        heading, note, [], table=Table(["model", *(label for label, _ in _COUNTS.values()), "classes", "input"], rows)
    )
