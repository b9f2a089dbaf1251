"""From files and folders to the written page."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from figures.report.page import SECTIONS, page
from kdprobe.errors import ResultError, near_matches
from kdprobe.results import Result, load_result, results_below


def find(places: Iterable[Path]) -> list[Path]:
    """The result files among `places`: files as given, folders searched through, sorted.

    Raises:
        ResultError: if a folder holds none, or a place is not there.
    """
    found: list[Path] = []
    for place in places:
        inside = results_below(place) if place.is_dir() else [place]
        if not inside:
            raise ResultError(f"there is no result (.npz) in the folder {place}")
        found += inside
    return list(dict.fromkeys(found))


def read(places: Sequence[Path]) -> list[tuple[Path, Result]]:
    """Read all results in `places`.

    Raises:
        ResultError: as `find`, if a file is not a result, or one given by name has no section.
    """
    results = [(path, load_result(path)) for path in find(places)]
    for path, result in results:
        if path in places and result.kind not in SECTIONS:
            known = near_matches(result.kind, SECTIONS)
            raise ResultError(f"{path}: the report has no section for results of kind {result.kind!r}{known}")
    return results


def write_report(places: Sequence[Path], out: Path, *, title: str) -> Path:
    """Write one self-contained page about all results in `places`.

    Args:
        places: result files and folders.
        out: the page's file.
        title: heading of the page.

    Returns:
        `out`.

    Raises:
        ResultError: if a place holds no result, or one cannot be shown.
    """
    text = page(read(places), title=title)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(out)
    return out
