"""What has to be known to read a result, once for each: what was left out, what is no usual value, unfinished runs."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from figures.checks import remarks_on
from kdprobe.results import Result

_LAYERS = ("teacher_layer", "student_layer", "layer")


def remarks_html(results: Sequence[tuple[str, Result]]) -> str:
    """The remarks of all results of a section as a list; empty where there are none.

    Args:
        results: short file names and results.
    """
    told = [(name, text) for name, result in results for text in remarks(result)]
    items = "".join(
        f"<li>{f'<b>{escape(name)}</b>: ' if len(results) > 1 else ''}{escape(text)}</li>" for name, text in told
    )
    return f'<ul class="remarks" aria-label="remarks">{items}</ul>' if items else ""


def remarks(result: Result) -> list[str]:
    """The remarks of one result, each once, as plain text."""
    facts = result.facts
    found = [*remarks_on(result), *_left_out(facts.get("left_out")), *_counts(facts), *_of_networks(result.provenance)]
    return list(dict.fromkeys(found))


def _left_out(cells: Any) -> Iterator[str]:
    """What is not among the numbers, whether it is named by layers or as a mapping of names to reasons."""
    if isinstance(cells, dict):
        cells = [{"layer": name, "reason": reason} for name, reason in cells.items()]
    for cell in cells if isinstance(cells, list) else []:
        if isinstance(cell, dict):
            named = " and ".join(str(cell[key]) for key in _LAYERS if key in cell)
            yield f"left out: {named}: {cell.get('reason', '')}" if named else f"left out: {cell.get('reason', '')}"
        else:
            yield f"left out: {cell}"


def _counts(facts: dict[str, Any]) -> Iterator[str]:
    if count := facts.get("n_left_out"):
        yield f"{count} images are left out, in minibatches too small to be counted"
    if weighting := facts.get("weighting"):
        yield str(weighting)
    if reason := facts.get("no_interval"):
        yield f"no interval where none is shown: {reason}"


def _of_networks(origin: Any) -> Iterator[str]:
    """What has to be known of the networks' weights, wherever it stands in the provenance."""
    if isinstance(origin, dict):
        if isinstance(remark := origin.get("remark"), str) and remark:
            yield remark
        for value in origin.values():
            yield from _of_networks(value)
    elif isinstance(origin, list):
        for value in origin:
            yield from _of_networks(value)
