"""From files and folders to the written page."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from figures.report.page import check_kinds, page
from kdprobe.errors import ResultError
from kdprobe.results import Result, load_result


def find(places: Iterable[Path]) -> list[Path]:
    """The result files among `places`: files as given, folders searched through, sorted.

    Raises:
        ResultError: if a folder holds none, or a place is not there.
    """
    found: list[Path] = []
    for place in places:
        inside = sorted(place.rglob("*.npz")) if place.is_dir() else [place]
        if not inside:
            raise ResultError(f"there is no result (.npz) in the folder {place}")
        found += inside
    return list(dict.fromkeys(found))


def read(paths: Sequence[Path]) -> list[tuple[Path, Result]]:
    """Read results that the page has a section for."""
    results = [(path, load_result(path)) for path in paths]
    check_kinds(results)
    return results


def write_report(places: Iterable[Path], out: Path, *, title: str) -> Path:
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
    text = page(read(find(places)), title=title)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(out)
    return out
