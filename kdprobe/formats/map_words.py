"""What a map of many networks shows, in sentences for the terminal and the report."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from kdprobe.results import Result

_Pair = tuple[int, int]


def map_findings(result: Result) -> Iterator[str]:
    """Which networks are most and least alike, nearest to each teacher, beyond chance, and what groups them.

    Args:
        result: of kind "map".
    """
    facts = result.facts
    names, teachers = facts["networks"], facts["teachers"]
    pairs = _by_similarity(result, list(combinations(range(len(names)), 2)))
    for words, pair in zip(("most alike", "least alike"), (pairs[:1] + pairs[-1:]), strict=False):
        yield f"{words}: {names[pair[0]]} and {names[pair[1]]}, {_worded(result, pair)}"
    students = [place for place, taught in enumerate(teachers) if not taught]
    for row in np.flatnonzero(teachers).tolist():
        for pair in _by_similarity(result, [(row, place) for place in students])[:1]:
            yield f"nearest to the teacher {names[row]}: {names[pair[1]]}, {_worded(result, pair)}"
    if "calibration" in facts:
        yield _beyond_chance(result)
    yield from map(_grouped, facts["groupings"])
    if undefined := facts["undefined"]:
        of = " and ".join(undefined[0]["networks"])
        yield f"{len(undefined)} pairs have no value, as {of}: {undefined[0]['reason']}"


def _by_similarity(result: Result, pairs: Sequence[_Pair]) -> list[_Pair]:
    """The pairs that have a value, the most alike ones first."""
    matrix = result.arrays["similarity"]
    return sorted((pair for pair in pairs if not np.isnan(matrix[pair])), key=lambda pair: -matrix[pair])


def _worded(result: Result, pair: _Pair) -> str:
    value, low, high = (float(result.arrays[key][pair]) for key in ("similarity", "low", "high"))
    return f"{value:.3f}" + ("" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]")


def _beyond_chance(result: Result) -> str:
    """How many pairs of networks exceed their null."""
    known, p_values = result.facts["calibration"], result.arrays["p_adjusted"]
    both = np.maximum(p_values, p_values.T)[np.triu_indices(len(p_values), 1)]
    defined = both[~np.isnan(both)]
    return (
        f"{(defined <= known['alpha']).sum()} of {len(defined)} pairs of networks exceed their null of "
        f"{known['permutations']} random orders of the images (p <= {known['alpha']:g} for all pairs together)"
    )


def _grouped(grouping: Mapping[str, Any]) -> str:
    """What the test of a grouping says."""
    other = "seeds" if grouping["of"] == "methods" else "methods"
    head = f"{grouping['of']}, given {other} (PERMANOVA)"
    if grouping["p_value"] is None:
        return f"{head}: not tested, {grouping['reason']}"
    share = f"{100 * grouping['share']:.1f} % of the squared distances"
    return f"{head}: {share}, p = {grouping['p_value']:.4f} of {grouping['n_networks']} networks"
