"""How students answer beside their teacher, and controls: a panel per quantity, a row per method."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from figures.labels import LEADING, fit, note_below, shorten, widest, wrap
from figures.remarks import first_few, remarks_on
from figures.rows import BETWEEN, frame_rows, mark
from figures.style import LABEL, MUTED, PAGE_WIDTH, PALETTE, TITLE, place, sheet, style
from figures.words import percentage
from kdprobe.results import Result

_ROW, _FOOT, _HEAD, _ACROSS = 24.0, 34.0, 34.0, 4  # points; panels in a row
_COLOURS = {"student": PALETTE[0], "control": MUTED}


@style()
def draw_fidelity(result: Result) -> Figure:
    """Draw saved fidelities.

    Args:
        result: of kind "fidelity"; `means` [groups, quantities, 3], `values` [names, quantities, 3].

    Returns:
        the figure, one page wide: methods in colour, controls in grey, a dot for each network of several.
    """
    facts, groups = result.facts, [shorten(name, 24) for name in result.facts["groups"]]
    left = widest(groups, TITLE) + 12
    width = (PAGE_WIDTH - left - 8 - BETWEEN * (_ACROSS - 1)) / _ACROSS
    height, down = _ROW * len(groups) + 6, math.ceil(len(facts["quantities"]) / _ACROSS)
    remarks = first_few(remarks_on(result))
    total = _HEAD + down * (height + _FOOT) + LABEL * LEADING * len(remarks)
    figure = sheet(PAGE_WIDTH, total)
    note_below(figure, remarks)
    for number in range(len(facts["quantities"])):
        row, column = divmod(number, _ACROSS)
        bottom = total - _HEAD - (row + 1) * (height + _FOOT) + _FOOT
        axes = place(figure, left + column * (width + BETWEEN), bottom, width, height)
        _panel(axes, result, number, width)
        axes.set_yticks(range(len(groups)), groups if column == 0 else [], fontsize=TITLE)
    title = (
        f"Answers beside those of {facts['teacher']} (accuracy {percentage(result.arrays['teacher_accuracy'][0])}), "
    )
    title += f"{facts['n_images']} images of {facts['data']}"
    figure.text(6 / PAGE_WIDTH, 1 - 9 / total, fit(title, TITLE, PAGE_WIDTH - 12), size=TITLE, va="center")
    _legend(figure, result, left, total)
    return figure


def _panel(axes: Axes, result: Result, number: int, width: float) -> None:
    facts, scale = result.facts, float(result.facts["scales"][number])
    for row, (group, role) in enumerate(zip(facts["groups"], facts["group_roles"], strict=True)):
        ends = scale * result.arrays["means"][row, number]
        members = _members(result, group, role)
        if len(members) > 1:
            networks = scale * result.arrays["values"][members, number, 0]
            beside = np.full(len(members), row + 0.26)
            axes.plot(networks, beside, "o", color=_COLOURS[role], alpha=0.55, markersize=3.0, mew=0)
        if not np.isnan(ends[0]):
            text = f"{ends[0]:z.1f}" if scale > 1 else f"{ends[0]:z.3f}"
            mark(axes, row, tuple(ends.tolist()), text, _COLOURS[role])
    label = facts["labels"][number] + (" in %" if scale > 1 else "")
    axes.set_xlabel(wrap(label, LABEL, width + BETWEEN - 10), labelpad=2, size=LABEL)
    frame_rows(axes, len(facts["groups"]) - 0.55, 0.15)


def _members(result: Result, group: str, role: str) -> NDArray[np.intp]:
    """Places of a group's networks."""
    facts = result.facts
    here = zip(facts["of_group"], facts["roles"], strict=True)
    return np.flatnonzero([one == (group, role) for one in here])


def _legend(figure: Figure, result: Result, left: float, total: float) -> None:
    facts = result.facts
    interval = f"{100 * facts['confidence']:g} % interval"
    handles = [
        Line2D([], [], color=_COLOURS[role], marker="D", markersize=4.6, mec="white", linewidth=1.4, label=label)
        for role, label in (("student", f"students, {interval}"), ("control", f"controls, {interval}"))
        if role in facts["group_roles"]
    ]
    if len(facts["names"]) > len(facts["groups"]):
        handles.append(
            Line2D([], [], marker="o", linestyle="", color=MUTED, markersize=3.0, mew=0, label="one network")
        )
    at = (left / PAGE_WIDTH, 1 - 15 / total)
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=at, ncols=3, borderpad=0.2, borderaxespad=0.2)
