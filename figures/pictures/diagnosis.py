"""A run's diagnosis: what each term has of the loss and of the gradient, and how its gradient lies to the task's."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patches import Patch
from numpy.typing import NDArray

from figures.labels import fit, label_rows, shorten_all, widest
from figures.picture import on_axes
from figures.sheet import Sheet, legend_of, size_of
from figures.style import LABEL, MUTED, TITLE, hue, pt
from figures.words import number
from kdprobe.results import Result

_ROW, _DENSEST, _MOST = 26.0, 6.0, 540.0  # points of a term, and at least; at most of all
_FOOT, _RIGHT = 28.0, 92.0  # points below and right of the bars
_BAR = 0.36  # of a row
_NAMES = 0.35  # of the width that names take at most


@on_axes
def draw_diagnosis(result: Result, ax: Axes | None, fig: FigureBase | None) -> Axes:
    """Draw a saved diagnosis.

    Args:
        result: of kind "diagnosis": `loss` [minibatches, terms], `share` and `cosine` [terms] of the gradients.
        ax: to draw into; the legend stands above it, and the cosines at its right.
        fig: to fill; without both, a new figure of one page.

    Returns:
        the axes: for each term its share of the loss and of the gradient, and the cosine between its gradient and the
        task's.
    """
    names = shorten_all(result.facts["terms"], 26)
    handles = [Patch(color=colour, label=f"share of the {name}") for name, colour in _parts()]
    left, across = 0.0, 0
    if ax is None:
        sheet = Sheet(fig)
        names = [fit(name, LABEL, _NAMES * sheet.width) for name in names]
        left, legend = widest(names) + 14, legend_of(handles, sheet.width - 12)
        across = legend.across
        height = sheet.cut(_FOOT + legend.height + 10, min(_ROW * len(names), _MOST), _DENSEST * len(names))
        ax = sheet.place(left, _FOOT, sheet.width - left - _RIGHT, height)
    width, height = size_of(ax)
    shares = term_shares(result)
    for index, (name, colour) in enumerate(_parts()):
        rows = np.arange(len(names)) + (index - 0.5) * _BAR
        ax.barh(rows, 100 * np.nan_to_num(shares[name]), height=_BAR, color=colour)
    ax.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
    ax.set_xlabel("share in %")
    ax.grid(axis="x")
    label_rows(ax, names, height / len(names))
    _cosines(ax, result, height / len(names))
    at = (6 - left if left else 0.0) / width, 1 + 10 / height
    across = across or legend_of(handles, width).across
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=at, ncols=across, borderpad=0.2, borderaxespad=0.2)
    return ax


def _parts() -> tuple[tuple[str, str], tuple[str, str]]:
    """What a term has a share of, and its colour."""
    return ("loss", MUTED), ("gradient", hue(0))


def term_shares(result: Result) -> dict[str, NDArray[np.float64]]:
    """Shares of the terms' mean sizes in the loss, and of the norms of their gradients; NaN where there is none."""
    size = np.abs(np.asarray(result.arrays["loss"], dtype=np.float64)).mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"loss": size / size.sum(), "gradient": result.arrays["share"]}


def _cosines(axes: Axes, result: Result, pitch: float) -> None:
    """The cosines, in a column at the right."""
    if pitch < TITLE:
        return
    title = fit(f"cosine with {result.facts['task'] or 'the task'}", LABEL, _RIGHT - 12)
    told = [(title, (1.0, -0.5), 5.0)]
    told += [(number(float(cosine), 2), (1.0, float(row)), 0.0) for row, cosine in enumerate(result.arrays["cosine"])]
    for text, place, above in told:
        axes.annotate(
            text,
            place,
            (pt(6), pt(above)),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            size=pt(LABEL),
            va="baseline" if above else "center",
            annotation_clip=False,
        )
