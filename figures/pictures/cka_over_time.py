"""CKA over epochs: a line per pair of layers, darker for deeper."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from figures.checks import remarks_on, require, require_epochs, require_length
from figures.labels import LEADING, LEGEND_LEADING, few, note_below, shorten, widest
from figures.pictures.cka import colour_label
from figures.style import COLUMN, LABEL, MARKERS, RISING, colours, place, sheet, style
from kdprobe.results import Result


@style()
def draw(result: Result) -> Figure:
    """Draw CKA measured during training.

    Args:
        result: of kind "cka-over-time"; `epoch` [epochs], `cka` [pairs, epochs], NaN where undefined;
            `low`, `high` [pairs, epochs] where intervals are known, drawn as bands.

    Returns:
        the figure, one column wide.

    Raises:
        ResultError: if the result lacks something or its names do not match its numbers.
    """
    require(result, {"epoch": 1, "cka": 2}, ("teacher_layers", "student_layers"))
    require_epochs(result)
    values, epoch = result.arrays["cka"], result.arrays["epoch"]
    teacher_layers = require_length(result, "teacher_layers", len(values), "pairs")
    student_layers = require_length(result, "student_layers", len(values), "pairs")
    names = [f"{shorten(a, 20)}, {shorten(b, 20)}" for a, b in zip(teacher_layers, student_layers, strict=True)]
    across = max(1, min(len(names), int((COLUMN - 10) // (widest(names) + 34))))
    legend = LABEL * LEGEND_LEADING * -(-len(names) // across) + 20
    remarks = few(remarks_on(result))
    bottom = 28 + LABEL * LEADING * len(remarks)
    figure = sheet(COLUMN, bottom + 124 + legend)
    axes = place(figure, 34, bottom, COLUMN - 42, 124)
    note_below(figure, remarks)
    shades = colours(0.0, 1.0, rising=RISING[2:])(np.linspace(0, 1, len(names)))
    ends = _intervals(result)
    for index, (name, row) in enumerate(zip(names, values, strict=True)):
        marker = MARKERS[index % len(MARKERS)]
        if ends is not None:
            axes.fill_between(epoch, ends[0][index], ends[1][index], color=shades[index], alpha=0.15, linewidth=0)
        axes.plot(epoch, row, color=shades[index], marker=marker, markersize=3, linewidth=1.2, label=name)
    axes.set_xlabel("epoch", labelpad=2)
    axes.set_ylabel(colour_label(result.facts), labelpad=3)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.grid()
    figure.legend(
        loc="upper left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=across,
        borderaxespad=0.3,
        title="teacher layer, student layer",
    )
    return figure


def _intervals(result: Result) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    if "low" not in result.arrays:
        return None
    require(result, {"low": 2, "high": 2}, ())
    return result.arrays["low"], result.arrays["high"]
