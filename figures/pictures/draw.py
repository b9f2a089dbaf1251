"""From result files to picture files: which kind is drawn by what, and what the files are called."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from figures.checks import naming
from figures.pictures import (
    cka,
    cka_over_time,
    comparison,
    compound,
    confusion,
    curves,
    dropout,
    examples,
    knowledge,
    knowledge_comparison,
    reliability,
)
from figures.style import save
from kdprobe.errors import ResultError, near_matches
from kdprobe.formats.outputs import Output, permit
from kdprobe.results import Result, figure_kind, load_result

FIGURES: dict[str, Callable[[Result], Figure]] = {
    "cka": cka.draw,
    "cka-over-time": cka_over_time.draw,
    "comparison": comparison.draw,
    "compound": compound.draw,
    "dropout-sweep": dropout.draw,
    "evaluation": confusion.draw,
    "examples": examples.draw,
    "knowledge": knowledge.draw,
    "knowledge-comparison": knowledge_comparison.draw,
    "reliability": reliability.draw,
    "similarity": cka.draw,
    "training": curves.draw,
}


def draw(result: Result) -> Figure:
    """Draw a result as its kind asks for.

    Raises:
        ResultError: if no picture of this kind is known, or the result lacks something.
    """
    if result.kind not in FIGURES:
        raise ResultError(f"no picture of a result of kind {result.kind!r}{near_matches(result.kind, FIGURES)}")
    return FIGURES[result.kind](result)


def read(path: Path) -> Result:
    """Read a result of a kind that has a picture.

    Raises:
        ResultError: naming the file, if it is not one.
    """
    result = load_result(path)
    if result.kind not in FIGURES:
        raise ResultError(f"{path}: no picture of a result of kind {result.kind!r}{near_matches(result.kind, FIGURES)}")
    return result


def draw_files(
    paths: Sequence[str | Path], formats: Iterable[str], *, out: str | Path | None = None, overwrite: bool = False
) -> list[Path]:
    """Draw each result into files named after it, all read before the first is written.

    Args:
        paths: result files (`.npz`).
        formats: of `pdf`, `png`, `svg`.
        out: folder of the pictures; beside each result if not given.
        overwrite: also over files that are no such figures of kdprobe's.

    Returns:
        the files written.

    Raises:
        ResultError: naming the file that cannot be drawn, or two that would get one name.
        OutputError: if another file is in the way.
    """
    targets: dict[Path, Path] = {}
    for path in map(Path, paths):
        target = Path(out or path.parent) / path.stem
        if target in targets:
            raise ResultError(f"{targets[target]} and {path} would both be drawn as {target}; give one at a time")
        targets[target] = path
    results = {target: read(path) for target, path in targets.items()}
    pictures = {
        target: [target.with_name(f"{target.name}.{ending}") for ending in dict.fromkeys(formats)] for target in targets
    }
    for target, result in results.items():
        permit([Output(path, figure_kind(result.kind)) for path in pictures[target]], overwrite=overwrite)
    for target, result in results.items():
        with naming(targets[target]):
            figure = draw(result)
        for path in pictures[target]:
            save(figure, path, kind=figure_kind(result.kind), overwrite=overwrite)
    return [path for written in pictures.values() for path in written]
