"""Numbers as pictures, tables and captions write them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any


def number(value: float, digits: int) -> str:
    """A number, or `-` where there is none."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def percentage(value: float) -> str:
    """A fraction as a percentage with one digit."""
    return f"{100 * value:.1f} %"


def with_ends(percents: Iterable[float], unit: str = "") -> str:
    """A percentage and the ends of its interval."""
    value, low, high = percents
    return f"{value:.1f}{unit} [{low:.1f}, {high:.1f}]"


def milliseconds(seconds: Iterable[float]) -> str:
    """A duration in milliseconds and the quartiles around it."""
    value, low, high = (1000 * one for one in seconds)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def intervals(facts: Mapping[str, Any]) -> str:
    """What kind of intervals a result has, and how they were found where it says so."""
    how = f" ({facts['interval']})" if "interval" in facts else ""
    return f"{100 * facts['confidence']:g} % intervals{how}"
