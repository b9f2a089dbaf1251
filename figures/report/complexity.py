"""What the networks cost: a table, and the convention behind each count."""

from pathlib import Path

from figures.report.elements import Panel, Results, Table, one_below_the_other
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
    note = "; ".join(f"{label}: {facts['conventions'][key]}" for key, (label, _) in _COUNTS.items()) + "."
    table = Table(["model", *(label for label, _ in _COUNTS.values()), "classes", "input"], rows)
    return Panel(heading, note, [], tables=[table])
