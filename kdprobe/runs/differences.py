"""Whether methods differ: paired by seed, and by Holm's p values over all that are compared.

Two intervals that overlap, or do not, are no such test: seeds have in common what the pairing removes, and the more
methods there are, the more of them differ by chance.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from kdprobe.errors import RunError, near_matches
from kdprobe.formats.tables import aligned
from kdprobe.mean_interval import difference_interval, difference_p_value, differs, holm, worded, worded_p_value

Compared = dict[str, Any]  # a pair of methods, as the kind "comparison" stores it


def differences(
    values: Mapping[str, Float64[ndarray, "methods seeds"]],
    methods: Mapping[str, str],
    n_images: Sequence[int | None],
    *,
    baseline: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> list[Compared]:
    """Differences of methods, each quantity for itself.

    Args:
        values: of each quantity, NaN where a row has none for a seed; all but the CKA are shares of images.
        methods: by which method each row was trained, by the row's name.
        n_images: on how many images each was judged; None where that is not known.
        baseline: name of the row that is subtracted from all others; if not given, the one that was trained without
            distillation, if there is just one, and else every row is compared with every other.
        pairs: names of the rows that are compared, the one that is subtracted second, instead of those.

    Returns:
        for each quantity that has values, and each pair of methods: `quantity`, `method`, `other`, the `difference` of
        their means over the seeds of both, the ends `low` and `high` of its 95 % interval, `p_value`, Holm's
        `adjusted_p_value` over the pairs of the quantity, and the `reason` why there are none, which then are None.

    Raises:
        RunError: if no row has the name to compare with.
    """
    rows = list(methods)
    places = _pairs(methods, baseline) if pairs is None else [(rows.index(one), rows.index(two)) for one, two in pairs]
    found = []
    for quantity, table in values.items():
        if np.isnan(table).all():
            continue
        images = [None] * len(rows) if quantity == "cka" else n_images
        entries = [_difference(table[one], table[other], _both(images[one], images[other])) for one, other in places]
        adjusted = holm(np.array([entry["p_value"] for entry in entries]))
        for (one, other), entry, p_value in zip(places, entries, adjusted, strict=True):
            numbers = {**entry, "adjusted_p_value": float(p_value)}
            named = {"quantity": quantity, "method": rows[one], "other": rows[other]}
            found.append(named | {key: _defined(value) for key, value in numbers.items()})
    return found


def lines(found: Sequence[Compared]) -> str:
    """The differences of accuracies as lines of text."""
    pairs = [f"{entry['method']} - {entry['other']}" for entry in found]
    words = [worded_difference(entry, scale=100, unit=" points") for entry in found]
    return aligned({"difference": pairs, "": words})


def told(entry: Compared) -> str:
    """Whether a method is `higher` or `lower` than the other, or that this `cannot be told`."""
    if not differs(entry["adjusted_p_value"]):
        return "cannot be told"
    return "higher" if entry["difference"] > 0 else "lower"


def worded_difference(entry: Compared, *, scale: float = 1.0, digits: int = 2, unit: str = "") -> str:
    """`+1.20 ± 0.80 points (p = 0.031)` with Holm's p value, or the difference and why it is not tested."""
    if entry["difference"] is None:
        return f"not compared: {entry['reason']}"
    ends = [math.nan if entry[key] is None else entry[key] for key in ("difference", "low", "high")]
    number = worded(ends, scale=scale, digits=digits, signed=True, unit=unit)
    why = f"not tested: {entry['reason']}" if entry["reason"] else worded_p_value(entry["adjusted_p_value"])
    return f"{number} ({why})"


def against(rows: Sequence[str], baselines: Sequence[str]) -> list[tuple[str, str]]:
    """Every row with each of these baselines that is among the rows, each pair once."""
    found: dict[frozenset[str], tuple[str, str]] = {}
    for baseline in baselines:
        if baseline in rows:
            for row in rows:
                if row != baseline:
                    found.setdefault(frozenset((row, baseline)), (row, baseline))
    return list(found.values())


def _pairs(methods: Mapping[str, str], baseline: str | None) -> list[tuple[int, int]]:
    """Places of the rows that are compared: each with the baseline, or with every later one."""
    if baseline is not None and baseline not in methods:
        raise RunError(f"no row is named {baseline!r} to compare the others with{near_matches(baseline, methods)}")
    rows, plain = list(methods), [row for row, method in methods.items() if method == "plain"]
    if baseline is None and len(plain) == 1:
        baseline = plain[0]
    if baseline is None:
        return list(combinations(range(len(rows)), 2))
    return [(place, rows.index(baseline)) for place, row in enumerate(rows) if row != baseline]


def _difference(first: ndarray, second: ndarray, n_images: int | None) -> Compared:
    mean, low, high = difference_interval(first, second, n_images=n_images)
    n_seeds = int((~np.isnan(first - second)).sum())
    reason = "all seeds differ alike, and nothing else says by how much they might" if math.isnan(low + high) else ""
    if n_seeds < 2:
        reason = "they have one seed in common" if n_seeds else "they have no seed in common"
    return {
        "difference": mean,
        "low": low,
        "high": high,
        "p_value": difference_p_value(first, second, n_images=n_images),
        "reason": reason,
    }


def _both(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else min(one, other)


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
