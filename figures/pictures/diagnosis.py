"""A run's diagnosis: what each term has of the loss and of the gradient, and how its gradient lies to the task's."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from figures.labels import LEGEND_LEADING, fit, label_rows, shorten, widest
from figures.style import LABEL, MUTED, PAGE_WIDTH, PALETTE, TITLE, place, sheet, style
from figures.words import number
from kdprobe.results import Result

_ROW, _MOST = 26.0, 540.0  # points of a term, and at most of all
_FOOT, _RIGHT = 28.0, 92.0  # points below and right of the bars
_BAR = 0.36  # of a row
_PARTS = (("loss", MUTED), ("gradient", PALETTE[0]))


@style()
def draw_diagnosis(result: Result) -> Figure:
    """Draw a saved diagnosis.

    Args:
        result: of kind "diagnosis": `loss` [minibatches, terms], `share` and `cosine` [terms] of the gradients.

    Returns:
        the figure, one page wide: for each term its share of the loss and of the gradient, and the cosine between its
        gradient and the task's.
    """
    names = [shorten(name, 26) for name in result.facts["terms"]]
    height, left = min(_ROW * len(names), _MOST), widest(names, LABEL) + 14
    legend = LABEL * LEGEND_LEADING + 8
    figure = sheet(PAGE_WIDTH, _FOOT + height + legend)
    axes = place(figure, left, _FOOT, PAGE_WIDTH - left - _RIGHT, height)
    shares = term_shares(result)
    for index, (name, colour) in enumerate(_PARTS):
        rows = np.arange(len(names)) + (index - 0.5) * _BAR
        axes.barh(rows, 100 * np.nan_to_num(shares[name]), height=_BAR, color=colour)
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
    axes.set_xlabel("share in %", labelpad=2)
    axes.grid(axis="x")
    label_rows(axes, names, height / len(names))
    _cosines(axes, result, height / len(names))
    handles = [Patch(color=colour, label=f"share of the {name}") for name, colour in _PARTS]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(6 / PAGE_WIDTH, 1.0), ncols=len(_PARTS), borderaxespad=0.2
    )
    return figure


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
    axes.annotate(title, (1, 1), (6, 5), xycoords="axes fraction", textcoords="offset points", size=LABEL)
    for row, cosine in enumerate(result.arrays["cosine"]):
        text = number(float(cosine), 2)
        axes.annotate(text, (1, row), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                      size=LABEL, va="center")  # fmt: skip
