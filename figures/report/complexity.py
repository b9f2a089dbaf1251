"""What the networks cost: a table, and the convention behind each count."""

from collections.abc import Sequence
from pathlib import Path

from figures.report.elements import Panel, Results, Table, one_below_the_other
from figures.words import milliseconds
from kdprobe.results import Result

_COUNTS = {
    "parameters": ("parameters (M)", 1e6),
    "macs": ("MACs (G)", 1e9),
    "flops": ("FLOPs (G)", 1e9),
    "module_operations": ("module operations (G)", 1e9),
}


def complexity_panels(results: Results) -> list[Panel]:
    """A table for each result of kind "complexity"."""
    return one_below_the_other(results, _panel)


def _panel(heading: str, result: Result) -> Panel:
    facts = result.facts
    folders = [Path(name).name for name in facts["names"]]  # a run has its folder's name, without the path
    shown = folders if len({*folders}) == len(folders) else facts["names"]
    rows = [
        [
            str(name),
            *(f"{result.arrays[key][index] / unit:.3f}" for key, (_, unit) in _COUNTS.items()),
            str(facts["n_classes"][index]),
            str(facts["image_size"][index]),
        ]
        for index, name in enumerate(shown)
    ]
    labels = {key: label for key, (label, _) in _COUNTS.items()} | ({"latency": "ms"} if _timed(result) else {})
    note = "; ".join(f"{label}: {facts['conventions'].get(key, '')}" for key, label in labels.items()) + "."
    tables = [Table(["model", *(label for label, _ in _COUNTS.values()), "classes", "input"], rows)]
    return Panel(heading, note, [], tables=[*tables, _latencies(shown, result)] if _timed(result) else tables)


def _timed(result: Result) -> bool:
    return "latency" in result.arrays


def _latencies(names: Sequence[str], result: Result) -> Table:
    header = ["model", *(f"ms, batch of {size}" for size in result.arrays["batch_size"])]
    seconds = result.arrays["latency"]
    return Table(header, [[name, *map(milliseconds, row)] for name, row in zip(names, seconds, strict=True)])
