"""CKA over epochs: a line per pair of layers, darker for deeper."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures.calibrated import beside_null
from figures.labels import LEADING, LEGEND_LEADING, note_below, shorten, text_width, widest
from figures.pictures.cka import colour_label
from figures.remarks import first_few, remarks_on
from figures.style import COLUMN_WIDTH, LABEL, MARKERS, RISING, TITLE, colours, place, sheet, style
from kdprobe.results import Result


@style()
def draw_cka_over_time(result: Result) -> Figure:
    """Draw CKA measured during training.

    Args:
        result: of kind "cka-over-time"; `epoch` [epochs], `cka` [pairs, epochs], NaN where undefined;
            `low`, `high` [pairs, epochs], drawn as bands, NaN where there is no interval. Of a calibrated one, values
            within their null are hollow.

    Returns:
        the figure, one column wide.
    """
    values, epoch = result.arrays["cka"], result.arrays["epoch"]
    pairs = zip(result.facts["teacher_layers"], result.facts["student_layers"], strict=True)
    names = [f"{shorten(one, 20)}, {shorten(other, 20)}" for one, other in pairs]
    across = max(1, min(len(names), int((COLUMN_WIDTH - 10) // (widest(names) + 34))))
    legend = LABEL * LEGEND_LEADING * -(-len(names) // across) + 20
    beside = beside_null(result)
    hollow = [f"hollow: {beside.words} for all together"] if beside and beside.chance.any() else []
    remarks = first_few([*hollow, *remarks_on(result)])
    bottom = 28 + LABEL * LEADING * len(remarks)
    label = colour_label(result.facts)
    height = max(124.0, text_width(label, TITLE))
    figure = sheet(COLUMN_WIDTH, bottom + height + legend)
    axes = place(figure, 34, bottom, COLUMN_WIDTH - 42, height)
    note_below(figure, remarks)
    shades = colours(0.0, 1.0, rising=RISING[2:])(np.linspace(0, 1, len(names)))
    for index, (name, row) in enumerate(zip(names, values, strict=True)):
        marker = MARKERS[index % len(MARKERS)]
        low, high = (result.arrays[end][index] for end in ("low", "high"))
        axes.fill_between(epoch, low, high, color=shades[index], alpha=0.15, linewidth=0)
        axes.plot(epoch, row, color=shades[index], marker=marker, markersize=3, linewidth=1.2, label=name)
        if beside:
            within = np.where(beside.chance[index], row, np.nan)
            axes.plot(epoch, within, marker, color=shades[index], markersize=3, markerfacecolor="white")
    axes.set_xlabel("epoch", labelpad=2)
    axes.set_ylabel(label, labelpad=3)
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
