"""From result files to picture files, and what the files are called."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.artist import Artist

from figures.picture import NO_NAMES, Names
from figures.pictures.by_kind import draw_checked, drawer
from figures.style import drawing_style, figure_of, save_figure
from kdprobe.errors import ResultError
from kdprobe.formats.outputs import Output, permit
from kdprobe.formats.renaming import renamed
from kdprobe.results import Result, check_result, figure_kind, load_result, naming

_WIDTH, _HEIGHT = 6.5, 11.0  # of a page, in inches


def draw_files(
    paths: Sequence[str | Path],
    formats: Iterable[str],
    *,
    out: str | Path | None = None,
    names: Names = NO_NAMES,
    style: str = "paper",
    width: str | float | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Draw each result into files named after it; all are read before the first is written.

    Args:
        paths: result files (`.npz`).
        formats: of `pdf`, `png`, `svg`.
        out: folder of the pictures; beside each result if not given.
        names: what layers, networks, methods or classes are called instead.
        style: `paper` or `slides`, as for `drawing_style`.
        width: of the pictures, as for `drawing_style`.
        overwrite: whether other files than such figures of kdprobe's may be lost.

    Returns:
        the files written.

    Raises:
        ResultError: naming the file that cannot be drawn, or two that would get one name; for a name that stands in
            no result.
        OutputError: if another file is in the way.

    Warns:
        UserWarning: of a picture that is higher than a page.

    Example:
        >>> import figures
        >>> import numpy as np
        >>> from kdprobe.provenance import provenance
        >>> from kdprobe.results import Result, save_result
        >>> arrays = {"epoch": np.arange(2), "train_loss": np.array([[2.0, 1.0]]), "accuracy": np.array([[0.5, 0.8]])}
        >>> result = Result("training", arrays, {"names": ["resnet8"]}, provenance(runs=["runs/resnet8"]))
        >>> save_result(result, "curves.npz", table="epoch,accuracy")
        >>> [path.name for path in figures.draw_files(["curves.npz"], ["png"])]
        ['curves.png']
    """
    targets: dict[Path, Path] = {}
    for path in map(Path, paths):
        target = Path(out or path.parent) / path.stem
        if target in targets:
            raise ResultError(f"{targets[target]} and {path} would both be drawn as {target}; give one at a time")
        targets[target] = path
    read = [_read(path) for path in targets.values()]
    results = dict(zip(targets, renamed(read, names), strict=True))
    pictures = {
        target: [target.with_name(f"{target.name}.{ending}") for ending in dict.fromkeys(formats)] for target in targets
    }
    for target, result in results.items():
        permit([Output(path, figure_kind(result.kind)) for path in pictures[target]], overwrite=overwrite)
    with drawing_style(style, width=width):
        for target, result in results.items():
            with naming(targets[target]):
                check_result(result, with_provenance=False)
                picture = draw_checked(result)
            _tell_height(picture, target.name)
            for path in pictures[target]:
                save_figure(picture, path, kind=figure_kind(result.kind), overwrite=overwrite)
    return [path for written in pictures.values() for path in written]


def _tell_height(picture: Artist, name: str) -> None:
    """Say of a picture that no page holds what makes it lower."""
    width, height = (float(side) for side in figure_of(picture).get_size_inches())
    if height > _HEIGHT:
        wider = ", or more width (`--width page`)" if width < _WIDTH else ""
        warnings.warn(f"{name} is {2.54 * height:.0f} cm high; a page needs fewer networks{wider}", stacklevel=3)


def _read(path: Path) -> Result:
    """Read a result of a kind that has a picture."""
    result = load_result(path)
    with naming(path):
        drawer(result.kind)
    return result
