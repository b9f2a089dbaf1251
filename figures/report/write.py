"""From files and folders to the written page."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from figures.report.page import page
from kdprobe.errors import OutputError, ResultError
from kdprobe.formats.outputs import Output, permit, write_sealed
from kdprobe.formats.renaming import renamed
from kdprobe.results import check_result, load_result, results_below

_KIND = "report"


def result_files(places: Iterable[str | Path]) -> list[Path]:
    """The result files in `places`: files as they are given, and those in and below folders, sorted.

    Raises:
        ResultError: if a folder holds none.
    """
    found: list[Path] = []
    for place in map(Path, places):
        inside = results_below(place) if place.is_dir() else [place]
        if not inside:
            raise ResultError(
                f"there is no result (.npz) in the folder {place}; of runs, `kdprobe runs compare {place} --out "
                "comparison.npz` and `kdprobe runs curves` make results"
            )
        found += inside
    return list(dict.fromkeys(found))


def write_report(
    places: Sequence[str | Path],
    out: str | Path,
    *,
    title: str,
    names: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one self-contained page about all results in `places`.

    Args:
        places: result files and folders.
        out: the page's file.
        title: the page's heading.
        names: what layers, networks, methods or classes are called instead.
        overwrite: whether another file than a report of kdprobe's may be lost.

    Returns:
        `out`.

    Raises:
        ResultError: if a place holds no result, one cannot be shown, or a name stands in none.
        OutputError: if another file is in the way, or the name of `out` does not end in .html.

    Example:
        >>> import figures
        >>> import numpy as np
        >>> from kdprobe.provenance import provenance
        >>> from kdprobe.results import Result, save_result
        >>> arrays = {"epoch": np.arange(2), "train_loss": np.array([[2.0, 1.0]]), "accuracy": np.array([[0.5, 0.8]])}
        >>> result = Result("training", arrays, {"names": ["resnet8"]}, provenance(runs=["runs/resnet8"]))
        >>> save_result(result, "curves.npz", table="epoch,accuracy")
        >>> figures.write_report(["curves.npz"], "report.html", title="Two epochs").name
        'report.html'
    """
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"a report's name must end in .html, but {out} does not")
    permit([Output(out, _KIND)], overwrite=overwrite)
    files = result_files(places)
    found = [load_result(path) for path in files]
    if names:
        found = renamed(found, names)
        for result in found:
            check_result(result, with_provenance=False)
    results = list(zip(files, found, strict=True))
    write_sealed(out, page(results, title=title), _KIND, overwrite=overwrite)
    return out
