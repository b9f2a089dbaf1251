"""Results that draw themselves, and what a notebook shows of that."""

import sys
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from figures.picture import NO_NAMES, Names
from figures.pictures import draw
from figures.style import Palette, figure_of, rendered
from kdprobe.results import Result

_PER_INCH = 110  # pixels that a notebook shows


def plot_result(
    result: Result,
    *,
    ax: Axes | None = None,
    fig: FigureBase | None = None,
    names: Names = NO_NAMES,
    palette: Palette | None = None,
) -> Axes | FigureBase:
    """Draw a result as `draw` does, and let a notebook show a new figure, once."""
    picture = draw(result, ax=ax, fig=fig, names=names, palette=palette)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None and ax is None and fig is None:
        pictures = shell.display_formatter.formatters["image/png"]
        if Figure not in pictures.type_printers:  # until pyplot has told the notebook how it shows figures
            pictures.for_type(Figure, _picture)
        if isinstance(picture, Axes):  # which a notebook does not show by themselves
            from IPython.display import display

            display(figure_of(picture))  # type: ignore[no-untyped-call]
    return picture


def _picture(figure: Figure) -> tuple[bytes, dict[str, Any]]:
    """A PNG file's content, and how large it is shown."""
    return rendered(figure, "png"), {"width": round(figure.get_figwidth() * _PER_INCH)}
