"""Lists of names, counts of things and ranges of percentages in sentences."""

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from kdprobe.formats.counts import counted
from kdprobe.mean_interval import differs, worded_p_value


def enumerated(words: Sequence[str], most: int = 8) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b and 5 more`; with semicolons where a word holds a comma."""
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} more"]
    if len(words) < 2:
        return "".join(words)
    between = "; " if any("," in word for word in words) else ", "
    last = " and " if between == ", " else "; and "
    return f"{between.join(words[:-1])}{last}{words[-1]}"


def worded_p_values(p_values: Sequence[float]) -> str:
    """The least sure of several p values: the largest where all show a difference, else the smallest."""
    found = all(map(differs, p_values))
    worst = worded_p_value(max(p_values) if found else min(p_values))
    alike = min(p_values) == max(p_values) or worst.startswith("p <")
    return worst if alike else f"{worst} at {'most' if found else 'least'}"


def from_to(
    percents: Sequence[tuple[str, NDArray[np.float64]]], *, digits: int = 0, bounded: Collection[str] = ()
) -> str:
    """`10 % [5, 15] (a) to 17 % [12, 22] (h)`: the lowest and the highest of several percentages with their intervals.

    Args:
        percents: names, with value, low and high each.
        digits: after the point.
        bounded: names of those that are lower bounds.
    """
    known = sorted(
        ((name, ends.tolist()) for name, ends in percents if not math.isnan(ends[0])), key=lambda one: one[1]
    )
    words = [
        f"{'at least ' * (name in bounded)}{value:z.{digits}f} % [{low:z.{digits}f}, {high:z.{digits}f}] ({name})"
        for name, (value, low, high) in known
    ]
    return " to ".join(dict.fromkeys(words[:1] + words[-1:]))


def capital(text: str) -> str:
    """A sentence with a capital letter, whatever it begins with."""
    return text[:1].upper() + text[1:]


def several(things: Sequence[str] | int, one: str, many: str = "") -> str:
    """Names with the verb that fits them: `a has`, `a and b have`; or a number with what is counted: `2 seeds`."""
    if isinstance(things, int):
        return counted(things, one)
    return f"{enumerated(things)} {one if len(things) == 1 else many}"
