"""What installed packages add for kinds of results of their own, by entry point."""

from importlib.metadata import entry_points
from typing import Any

from kdprobe.errors import ResultError


def offered(group: str) -> set[str]:
    """The kinds for which installed packages offer something."""
    return {entry.name for entry in entry_points(group=group)}


def installed(group: str, kind: str) -> Any:
    """What an installed package offers for a kind; None if none does.

    Args:
        group: of entry points.
        kind: of results.

    Raises:
        ResultError: if it cannot be imported.
    """
    for entry in entry_points(group=group, name=kind):
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise ResultError(
                f"results of kind {kind!r} need {entry.value} ({group}), which cannot be imported: {error}"
            ) from error
    return None
