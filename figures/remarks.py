"""What readers of a result have to know: what was left out, which values are unusual, which runs are unfinished."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from kdprobe.results import Result

_LAYERS = ("teacher_layer", "student_layer", "layer")


def remarks_on(result: Result) -> list[str]:
    """The remarks on its numbers, each of them once, with the number of cells that it is about."""
    counts = Counter(remark["reason"] for remark in result.facts.get("remarks", ()) if remark["reason"])
    return [f"{reason} ({count} times)" if count > 1 else reason for reason, count in counts.items()]


def all_remarks(result: Result) -> list[str]:
    """The same, and what is left out, how minibatches count, and what is remarkable about the networks' weights."""
    facts = result.facts
    found = [
        *remarks_on(result),
        *_left_out(facts.get("left_out", ())),
        *_counts(facts),
        *of_networks(result.provenance),
    ]
    return list(dict.fromkeys(found))


def first_few(remarks: Sequence[str], most: int = 3) -> list[str]:
    """The first remarks, and the number of further ones."""
    return [*remarks[:most], *([f"and {len(remarks) - most} more"] if len(remarks) > most else [])]


def _left_out(cells: Sequence[dict[str, Any]]) -> Iterator[str]:
    for cell in cells:
        layers = " and ".join(str(cell[key]) for key in _LAYERS if key in cell)
        yield f"left out: {layers}: {cell['reason']}" if layers else f"left out: {cell['reason']}"


def _counts(facts: dict[str, Any]) -> Iterator[str]:
    if count := facts.get("n_left_out"):
        yield f"{count} images are left out, in minibatches too small to be counted"
    if weighting := facts.get("weighting"):
        yield str(weighting)
    if reason := facts.get("no_interval"):
        yield f"no interval where none is shown: {reason}"


def of_networks(origin: Any) -> Iterator[str]:
    """Remarks on weights, wherever they are in the provenance."""
    if isinstance(origin, dict):
        if isinstance(remark := origin.get("remark"), str) and remark:
            yield remark
        for value in origin.values():
            yield from of_networks(value)
    elif isinstance(origin, list):
        for value in origin:
            yield from of_networks(value)
