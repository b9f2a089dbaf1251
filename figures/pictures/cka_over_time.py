"""CKA over epochs: a line per pair of layers, darker for deeper."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.calibrated import beside_null
from figures.labels import LEADING, fit, note_under, shorten_all, text_width
from figures.picture import on_axes
from figures.pictures.cka import colour_label
from figures.remarks import first_few, remarks_on
from figures.sheet import Sheet, legend_of, size_of
from figures.style import LABEL, MARKERS, TITLE, pt, shades
from kdprobe.results import Result

_LEFT, _FOOT = 34.0, 28.0


@on_axes
def draw_cka_over_time(result: Result, ax: Axes | None, fig: FigureBase | None) -> Axes:
    """Draw CKA measured during training.

    Args:
        result: of kind "cka-over-time"; `epoch` [epochs], `cka` [pairs, epochs], NaN where undefined;
            `low`, `high` [pairs, epochs], drawn as bands, NaN where there is no interval. Of a calibrated one, values
            within their null are hollow.
        ax: to draw into; the legend stands above it.
        fig: to fill; without both, a new figure of one column.

    Returns:
        the axes.
    """
    handles, remarks, label = _handles(result), _remarks(result), colour_label(result.facts)
    left, width = 0.0, 0.0
    if ax is None:
        sheet, left = Sheet(fig, columns=1), _LEFT
        width = sheet.width - 6
        bottom, legend = _FOOT + LABEL * LEADING * len(remarks), legend_of(handles, width).height + LABEL * LEADING + 4
        height = sheet.cut(bottom + legend, max(124.0, text_width(label, TITLE)), 60.0)
        ax = sheet.place(left, bottom, sheet.width - left - 8, height)
    size = size_of(ax)
    for index, handle in enumerate(handles):
        _line(ax, result, index, handle)
    ax.set_xlabel("epoch")
    ax.set_ylabel(fit(label, TITLE, size[1] + 20))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.grid(visible=True)
    note_under(ax, remarks, width or size[0], left - 6 if left else 0.0)
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-left / size[0], 1.0),
        ncols=legend_of(handles, width or size[0]).across,
        borderaxespad=0.3,
        title="teacher layer, student layer",
        title_fontsize=pt(LABEL),
    )
    return ax


def _handles(result: Result) -> list[Line2D]:
    """A line for each pair of layers, in the looks that its curve has."""
    sides = (shorten_all(result.facts[f"{who}_layers"], 20) for who in ("teacher", "student"))
    names = [f"{one}, {other}" for one, other in zip(*sides, strict=True)]
    return [
        Line2D([], [], color=shade, marker=MARKERS[index % len(MARKERS)], ms=pt(3), linewidth=pt(1.2), label=name)
        for index, (shade, name) in enumerate(zip(shades(len(names)), names, strict=True))
    ]


def _remarks(result: Result) -> list[str]:
    beside = beside_null(result)
    hollow = [f"hollow: {beside.words} for all together"] if beside and beside.chance.any() else []
    return first_few([*hollow, *remarks_on(result)])


def _line(axes: Axes, result: Result, index: int, look: Line2D) -> None:
    epoch, row = result.arrays["epoch"], result.arrays["cka"][index]
    low, high = (result.arrays[end][index] for end in ("low", "high"))
    colour, marker = look.get_color(), str(look.get_marker())
    axes.fill_between(epoch, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(epoch, row, color=colour, marker=marker, markersize=pt(3), linewidth=pt(1.2), label=look.get_label())
    if beside := beside_null(result):
        within = np.where(beside.chance[index], row, np.nan)
        axes.plot(epoch, within, marker, color=colour, markersize=pt(3), markerfacecolor="white")
