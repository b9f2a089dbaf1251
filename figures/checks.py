"""What a picture needs of its result, checked once before drawing."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kdprobe.errors import ResultError
from kdprobe.results import Result


@contextmanager
def naming(name: object) -> Iterator[None]:
    """Put the file's name before whatever is wrong with its result."""
    try:
        yield
    except ResultError as error:
        raise ResultError(f"{name}: {error}") from error


def require(result: Result, arrays: Mapping[str, int], facts: Iterable[str] = ()) -> None:
    """Check that a result has the arrays, with so many dimensions each, and the facts of its kind.

    Raises:
        ResultError: naming what is missing or of another shape.
    """
    for name, dimensions in arrays.items():
        if name not in result.arrays:
            raise ResultError(f"this {result.kind!r} result has no array {name!r}")
        if result.arrays[name].ndim != dimensions:
            shape = list(result.arrays[name].shape)
            raise ResultError(f"{name!r} of a {result.kind!r} result has {dimensions} dimensions, but is {shape}")
    for name in facts:
        if name not in result.facts:
            raise ResultError(f"this {result.kind!r} result does not state {name!r}")


def require_epochs(result: Result) -> None:
    """Check that the epochs are in order.

    Raises:
        ResultError: if they are not, or one is below 0.
    """
    epochs = [int(epoch) for epoch in result.arrays["epoch"]]
    if epochs != sorted(set(epochs)) or min(epochs, default=0) < 0:
        raise ResultError(f"the epochs of a {result.kind!r} result must go up from 0 or more, but are {epochs[:8]}")


def remarks_on(result: Result) -> list[str]:
    """What a result says has to be known to read it, each remark once, with how many of its cells it concerns."""
    counts: dict[str, int] = {}
    for cell in result.facts.get("remarks") or []:
        reason = str(cell.get("reason", "") if isinstance(cell, dict) else cell)
        counts[reason] = counts.get(reason, 0) + 1
    return [f"{reason} ({count} times)" if count > 1 else reason for reason, count in counts.items() if reason]


def require_length(result: Result, fact: str, length: int, what: str) -> list[Any]:
    """The list stated as `fact`, which must name each of `length` things.

    Raises:
        ResultError: if it does not.
    """
    names = list(result.facts[fact])
    if len(names) != length:
        raise ResultError(f"a {result.kind!r} result has {length} {what}, but states {len(names)} {fact!r}")
    return names
