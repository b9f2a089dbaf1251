"""Which kind of result is drawn by what."""

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from figures.picture import NO_NAMES, DrawsAxes, DrawsFigure, Names
from figures.pictures.cka import draw_cka
from figures.pictures.cka_over_time import draw_cka_over_time
from figures.pictures.comparison import draw_comparison
from figures.pictures.compound import draw_compound
from figures.pictures.confusion import draw_confusion
from figures.pictures.curves import draw_curves
from figures.pictures.diagnosis import draw_diagnosis
from figures.pictures.dropout import draw_dropout
from figures.pictures.examples import draw_examples
from figures.pictures.fidelity import draw_fidelity
from figures.pictures.images import draw_images
from figures.pictures.inherited_errors import draw_inherited_errors
from figures.pictures.knowledge import draw_knowledge
from figures.pictures.knowledge_comparison import draw_knowledge_comparison
from figures.pictures.map import draw_map
from figures.pictures.reliability import draw_reliability
from figures.pictures.tuned_comparison import draw_tuned_comparison
from figures.style import Palette
from kdprobe.errors import ResultError, near_matches
from kdprobe.formats.renaming import with_names
from kdprobe.kinds import installed, offered
from kdprobe.results import Result, check_result, load_result

_GROUP = "kdprobe.figures"  # entry points of other packages: kind -> a function like those below

FIGURES: dict[str, DrawsAxes | DrawsFigure] = {
    "cka": draw_cka,
    "cka-over-time": draw_cka_over_time,
    "comparison": draw_comparison,
    "compound": draw_compound,
    "diagnosis": draw_diagnosis,
    "dropout-sweep": draw_dropout,
    "evaluation": draw_confusion,
    "examples": draw_examples,
    "fidelity": draw_fidelity,
    "images": draw_images,
    "inherited-errors": draw_inherited_errors,
    "knowledge": draw_knowledge,
    "knowledge-comparison": draw_knowledge_comparison,
    "map": draw_map,
    "reliability": draw_reliability,
    "similarity": draw_cka,
    "training": draw_curves,
    "tuned-comparison": draw_tuned_comparison,
}


class Analysis(Protocol):
    """What an analysis found, as an object of its own."""

    def to_result(self) -> Result:
        """The same as a result."""


def draw(
    result: Result | Analysis | str | Path,
    *,
    ax: Axes | None = None,
    fig: FigureBase | None = None,
    names: Names = NO_NAMES,
    palette: Palette | None = None,
) -> Axes | FigureBase:
    """Draw a result as its kind asks for.

    Args:
        result: a result, a saved one's file, or what an analysis found (`analyses.cka.CKAResult`).
        ax: matplotlib axes to draw into, of pictures with one panel: CKA and other similarities, CKA over epochs,
            dropout rates, the diagnosis of a run.
        fig: a matplotlib figure to fill, or a part of one (`figure.subfigures()`), of any picture. Without both, a new
            figure as wide as a column or a page of a paper, or as `figures.drawing_style` says.
        names: what layers, networks, methods or classes are called instead: `{"blocks.11": "block 12"}`.
        palette: colours of methods or networks, of a matrix those from its lowest to its highest value; a list, or a
            name that seaborn knows. Without it, colours that all readers can tell apart.

    Returns:
        the axes of a picture with one panel, the figure of one with several; `figures.save_figure` writes both.

    Raises:
        ResultError: if it cannot be read, does not fit its kind, its kind has no picture or another number of panels,
            nothing has a name of `names`, or `fig` is too low.
        ConfigError: if the palette is none.

    Example:
        >>> import figures
        >>> import numpy as np
        >>> from kdprobe.provenance import provenance
        >>> from kdprobe.results import Result, save_result
        >>> arrays = {"epoch": np.arange(2), "train_loss": np.array([[2.0, 1.0]]), "accuracy": np.array([[0.5, 0.8]])}
        >>> result = Result("training", arrays, {"names": ["resnet8"]}, provenance(runs=["runs/resnet8"]))
        >>> save_result(result, "curves.npz", table="epoch,accuracy")
        >>> figures.draw("curves.npz").axes[0].get_xlabel()
        'epoch'
    """
    if isinstance(result, str | Path):
        result = load_result(result)
    elif not isinstance(result, Result):
        if not hasattr(result, "to_result"):
            raise ResultError(f"draw takes a result, its file, or what an analysis found, but got {result!r:.60}")
        result = result.to_result()
    check_result(result, with_provenance=False)
    return draw_checked(with_names(result, names), ax=ax, fig=fig, palette=palette)


def draw_checked(result: Result, **given: Any) -> Axes | FigureBase:
    """Draw a result that fits its kind, with those options of its function that are not None."""
    drawn, options = drawer(result.kind), {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name not in signature(drawn).parameters:
            instead = "; it has several panels: give fig" if name == "ax" and result.kind in FIGURES else ""
            raise ResultError(f"a picture of kind {result.kind!r} takes no {name}{instead}")
    return drawn(result, **options)


def drawer(kind: str) -> Callable[..., Axes | FigureBase]:
    """The function that draws results of a kind.

    Raises:
        ResultError: if there is none, or another package's cannot be imported.
    """
    found: Callable[..., Axes | FigureBase] | None = FIGURES.get(kind) or installed(_GROUP, kind, ResultError)
    if found is None:
        near = near_matches(kind, FIGURES.keys() | offered(_GROUP))
        raise ResultError(f"results of kind {kind!r} have no picture (kdprobe report shows their numbers){near}")
    return found


def has_picture(kind: str) -> bool:
    """Whether results of a kind can be drawn."""
    return kind in FIGURES or kind in offered(_GROUP)
