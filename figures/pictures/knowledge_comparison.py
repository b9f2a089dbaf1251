"""What is general in students of several methods, at equal layers."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from figures.labels import shorten, widest
from figures.style import HAIRLINE, INK, LABEL, PAGE_WIDTH, PALETTE, TITLE, place, sheet, style
from figures.words import lower_bounds
from kdprobe.results import Result

_BAR, _GAP = 9.0, 8.0  # points per student, and between pairs of layers


@style()
def draw_knowledge_comparison(result: Result) -> Figure:
    """Draw students side by side: left what is general in the teacher, right what is general in each student.

    Args:
        result: of kind "knowledge-comparison": `teacher_general`, `student_general` [students, pairs, 3].

    Returns:
        the figure, one page wide.
    """
    n_students, n_pairs, _ = result.arrays["teacher_general"].shape
    names = [shorten(name, 24) for name in result.facts["names"]]
    layers = [
        f"{shorten(one, 18)} / {shorten(other, 18)}"
        for one, other in zip(result.facts["teacher_layers"], result.facts["student_layers"], strict=True)
    ]
    left, pitch = widest(layers) + 10, n_students * _BAR + _GAP
    width, height = (PAGE_WIDTH - left - 24) / 2, n_pairs * pitch
    figure = sheet(PAGE_WIDTH, 28 + height + 40)
    for side, who in enumerate(("teacher", "student")):
        axes = place(figure, left + side * (width + 16), 28, width, height)
        percent, lower = 100 * result.arrays[f"{who}_general"].astype(np.float64), lower_bounds(result, who)
        for student in range(n_students):
            places = np.arange(n_pairs) * pitch + (student - (n_students - 1) / 2) * _BAR
            value, low, high = percent[student].T
            axes.barh(places, value, height=_BAR - 1.5, color=PALETTE[student % len(PALETTE)])
            axes.hlines(places, low, high, color=INK, linewidth=1.0)
            more = np.array(lower[student], bool)
            axes.plot(high[more], places[more], marker=">", markersize=3, color=INK, linestyle="none", clip_on=False)
        axes.set_ylim((n_pairs - 0.5) * pitch, -0.5 * pitch)
        axes.set_yticks(np.arange(n_pairs) * pitch, layers if side == 0 else [""] * n_pairs)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(min(0.0, float(np.nanmin(percent))), 100)
        axes.grid(axis="x", color=HAIRLINE)
        axes.set_xlabel(f"general share of the {who}'s variance in %", labelpad=2)
    total = figure.get_size_inches()[1] * 72
    confidence = 100 * float(result.facts["confidence"])
    title = f"{shorten(result.facts['teacher'], 30)} and its students, by {result.facts['method']}, on "
    title += f"{shorten(result.facts['data'], 30)}; {confidence:g} % intervals"
    if any(map(any, [*lower_bounds(result, "teacher"), *lower_bounds(result, "student")])):
        title += "; > lower bound"
    figure.text(left / PAGE_WIDTH, 1 - 9 / total, title, size=TITLE, va="center")
    handles = [Patch(color=PALETTE[index % len(PALETTE)], label=name) for index, name in enumerate(names)]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left / PAGE_WIDTH, 1 - 16 / total),
        ncols=min(n_students, 4),
        borderaxespad=0.3,
        fontsize=LABEL,
    )
    return figure
