"""Numbers as pictures, tables and captions write them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdprobe.results import Result


def number(value: float, digits: int) -> str:
    """A number, or `-` where there is none."""
    return "-" if math.isnan(value) else f"{value:z.{digits}f}"


def percentage(value: float) -> str:
    """A fraction as a percentage with one digit."""
    return f"{100 * value:.1f} %"


def with_ends(percents: Iterable[float], unit: str = "", *, lower_bound: bool = False) -> str:
    """A percentage and the ends of its interval; after `≥` where the true one may be larger."""
    value, low, high = percents
    return f"{'≥ ' * lower_bound}{value:z.1f}{unit} [{low:z.1f}, {high:z.1f}]"


def each_with_ends(values: NDArray[Any], low: NDArray[Any], high: NDArray[Any], digits: int = 3) -> list[Any]:
    """Numbers as `0.885 [0.861, 0.910]`, without the interval where there is none, `-` where there is no number.

    Args:
        values: of any shape, which the nested lists of the texts have too.
        low: the ends of their intervals.
        high: the same.
        digits: after the point.
    """

    def text(value: float, below: float, above: float) -> str:
        ends = "" if math.isnan(below + above) else f" [{number(below, digits)}, {number(above, digits)}]"
        return number(value, digits) + ends

    found: list[Any] = np.vectorize(text, otypes=[object])(values, low, high).tolist()
    return found


def lower_bounds(result: Result, who: str) -> list[Any]:
    """Whether each general share of a network is a lower bound: per pair of layers, or per student and pair."""
    flags: list[Any] = (
        result.facts.get(f"{who}_lower_bound") or np.zeros(result.arrays[f"{who}_general"].shape[:-1], bool).tolist()
    )
    return flags


def milliseconds(seconds: Iterable[float]) -> str:
    """A duration in milliseconds and the quartiles around it."""
    value, low, high = (1000 * one for one in seconds)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def intervals(facts: Mapping[str, Any]) -> str:
    """What kind of intervals a result has, and how they were found where it says so."""
    how = f" ({facts['interval']})" if "interval" in facts else ""
    return f"{100 * facts['confidence']:g} % intervals{how}"


def neighbours(facts: Mapping[str, Any]) -> str:
    """Of how many others a result counts neighbours, and what chance gives; empty for other measures."""
    if "neighbours" not in facts:
        return ""
    chance = f", {facts['chance']:.3f} by chance" if "chance" in facts else ""
    return f"{facts['neighbours']} neighbours of {facts['n_samples'] - 1} others{chance}"


def inherited_heading(result: Result, group: int) -> str:
    """What a method has in common with its teacher's mistakes, and the controls with them, in a line."""
    of_students, of_controls = result.arrays["counts"][group]
    n_mistakes, name = result.facts["n_teacher_wrong"], result.facts["groups"][group]
    words = f"{name} makes {of_students:.1f} of the teacher's {n_mistakes} mistakes"
    return words if math.isnan(of_controls) else f"{words}, a control {of_controls:.1f}"
