"""How students answer beside their teacher, and controls: a panel per quantity, a row per method."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from figures.labels import LEADING, fitting, wrap
from figures.picture import on_figure
from figures.remarks import first_few, remarks_on
from figures.rows import BETWEEN, Rows, frame_rows, mark
from figures.sheet import Sheet, legend_of
from figures.style import LABEL, MUTED, TITLE, hue, pt
from figures.words import percentage
from kdprobe.results import Result


@on_figure
def draw_fidelity(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw saved fidelities.

    Args:
        result: of kind "fidelity"; `means` [groups, quantities, 3], `values` [names, quantities, 3].
        fig: to fill; a new figure of one page if not given.

    Returns:
        the figure: methods in colour, controls in grey, a dot for each network of several.
    """
    sheet, facts = Sheet(fig), result.facts
    remarks = sheet.lines(first_few(remarks_on(result)))
    rows = Rows(sheet, facts["groups"], n=len(facts["quantities"]), most=4, pitch=24.0, foot=34.0)
    legend = legend_of(_handles(facts), sheet.width - 12)
    panels = rows.cut(TITLE + 10 + legend.height + 6, LABEL * LEADING * len(remarks))
    for number, axes in enumerate(panels):
        _panel(axes, result, number, rows.grid.width)
        rows.name(axes, number)
    accuracy = percentage(result.arrays["teacher_accuracy"][0])
    titles = [
        f"Answers beside those of {facts['teacher']}{told}"
        for told in (f" (accuracy {accuracy}), {facts['n_images']} images of {facts['data']}", f" ({accuracy})", "")
    ]
    sheet.write(6, sheet.height - 9, fitting(TITLE, sheet.width - 12, *titles), size=TITLE, va="center")
    sheet.explain(legend, 6, TITLE + 8)
    sheet.note(remarks)
    return sheet.figure


def _colour(role: str) -> str:
    return hue(0) if role == "student" else MUTED


def _network(colour: str) -> dict[str, Any]:
    return {"marker": "o", "linestyle": "", "color": colour, "markersize": pt(3.0), "mew": 0}


def _panel(axes: Axes, result: Result, number: int, width: float) -> None:
    facts, scale = result.facts, float(result.facts["scales"][number])
    for row, (group, role) in enumerate(zip(facts["groups"], facts["group_roles"], strict=True)):
        ends = scale * result.arrays["means"][row, number]
        members = _members(result, group, role)
        if len(members) > 1:
            networks = scale * result.arrays["values"][members, number, 0]
            beside = np.full(len(members), row + 0.26)
            axes.plot(networks, beside, alpha=0.55, **_network(_colour(role)))
        if not np.isnan(ends[0]):
            text = f"{ends[0]:z.1f}" if scale > 1 else f"{ends[0]:z.3f}"
            mark(axes, row, tuple(ends.tolist()), text, _colour(role))
    label = facts["labels"][number] + (" in %" if scale > 1 else "")
    axes.set_xlabel(wrap(label, LABEL, width + BETWEEN - 10), size=pt(LABEL))
    frame_rows(axes, len(facts["groups"]) - 0.55, 0.15)


def _members(result: Result, group: str, role: str) -> NDArray[np.intp]:
    """Places of a group's networks."""
    facts = result.facts
    here = zip(facts["of_group"], facts["roles"], strict=True)
    return np.flatnonzero([one == (group, role) for one in here])


def _handles(facts: dict[str, Any]) -> list[Line2D]:
    interval = f"{100 * facts['confidence']:g} % interval"
    mean: dict[str, Any] = {"marker": "D", "markersize": pt(4.6), "mec": "white", "linewidth": pt(1.4)}
    handles = [
        Line2D([], [], color=_colour(role), label=label, **mean)
        for role, label in (("student", f"students, {interval}"), ("control", f"controls, {interval}"))
        if role in facts["group_roles"]
    ]
    if len(facts["names"]) > len(facts["groups"]):
        handles.append(Line2D([], [], label="one network", **_network(MUTED)))
    return handles
