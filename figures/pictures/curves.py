"""Training curves: loss and accuracy over epochs, a line per run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from figures.labels import LEADING, LEGEND_LEADING, note_below, shorten, widest
from figures.remarks import first_few, remarks_on
from figures.style import LABEL, PAGE_WIDTH, PALETTE, place, sheet, style
from kdprobe.results import Result

DASHES: Sequence[str | tuple[int, tuple[float, ...]]] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
_HEIGHT = 132.0  # points of the panels
_GAP = 44.0  # points between them, for the second one's numbers and title


@style()
def draw_curves(result: Result) -> Figure:
    """Draw saved training curves.

    Args:
        result: of kind "training"; `epoch` [epochs], `train_loss` and `accuracy` [runs, epochs]
            (fractions), NaN where an epoch was not trained or not evaluated.

    Returns:
        the figure, one page wide.
    """
    names = [shorten(name) for name in result.facts["names"]]
    epoch = result.arrays["epoch"]
    across = max(1, min(len(names), int((PAGE_WIDTH - 40) // (widest(names) + 40))))
    legend = LABEL * LEGEND_LEADING * -(-len(names) // across) + 8
    remarks = first_few(remarks_on(result))
    bottom = 28 + LABEL * LEADING * len(remarks)
    figure = sheet(PAGE_WIDTH, bottom + _HEIGHT + legend)
    note_below(figure, remarks)
    panels = panels_of(result)
    width = (PAGE_WIDTH - 40 - _GAP * (len(panels) - 1) - 8) / len(panels)
    for index, (label, values) in enumerate(panels.items()):
        axes = place(figure, 40 + index * (width + _GAP), bottom, width, _HEIGHT)
        _lines(axes, epoch, values, label)
    handles = [Line2D([], [], label=name, **look(index)) for index, name in enumerate(names)]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(34 / PAGE_WIDTH, 1.0), ncols=across, borderaxespad=0.3
    )
    return figure


def panels_of(result: Result) -> dict[str, NDArray[np.float64]]:
    """What there is to draw, by its label; runs without labels have no accuracy."""
    panels = {"training loss": result.arrays["train_loss"], "accuracy in %": 100 * result.arrays["accuracy"]}
    return {label: values for label, values in panels.items() if label == "training loss" or not np.isnan(values).all()}


def look(index: int) -> dict[str, Any]:
    """Colour and dashes of one of many lines; no two of the first 28 are alike."""
    dashes = DASHES[(index // len(PALETTE)) % len(DASHES)]
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": dashes, "linewidth": 1.2}


def _lines(axes: Axes, epoch: NDArray[np.int64], values: NDArray[np.float64], label: str) -> None:
    for index, row in enumerate(values):
        seen = ~np.isnan(row)
        marker = "o" if seen.sum() < 3 else None
        axes.plot(epoch[seen], row[seen], marker=marker, markersize=3, **look(index))
    axes.set_xlabel("epoch", labelpad=2)
    axes.set_ylabel(label, labelpad=3)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.grid()
