"""Lists of names and counts of things in sentences."""

from collections.abc import Sequence

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


def capital(text: str) -> str:
    """A sentence with a capital letter, whatever it begins with."""
    return text[:1].upper() + text[1:]


def several(things: Sequence[str] | int, one: str, many: str = "") -> str:
    """Names with the verb that fits them: `a has`, `a and b have`; or a number with what is counted: `2 seeds`."""
    if isinstance(things, int):
        return counted(things, one)
    return f"{enumerated(things)} {one if len(things) == 1 else many}"
