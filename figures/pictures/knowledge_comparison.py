"""What is general in students of several methods, at equal layers."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patches import Patch

from figures.labels import LEADING, fit, fitting, shorten, shorten_all, widest
from figures.picture import on_figure
from figures.sheet import Sheet, legend_of
from figures.style import HAIRLINE, INK, LABEL, TITLE, hue, n_hues, pt
from figures.words import lower_bounds
from kdprobe.results import Result

_BAR, _GAP = 9.0, 8.0  # points per student, and between pairs of layers
_THINNEST, _TITLE = 5.0, 16.0  # points of a bar at least, and of the title
_HATCHES = ("", "//////", "......")
_NETWORKS = ("teacher", "student")


@on_figure
def draw_knowledge_comparison(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw students side by side: left what is general in the teacher, right what is general in each student.

    Args:
        result: of kind "knowledge-comparison": `teacher_general`, `student_general` [students, pairs, 3].
        fig: to fill; a new figure of one page if not given.

    Returns:
        the figure.
    """
    n_students, n_pairs, _ = result.arrays["teacher_general"].shape
    sheet, names = Sheet(fig), shorten_all(result.facts["names"], 24)
    sides = (shorten_all(result.facts[f"{who}_layers"], 18) for who in ("teacher", "student"))
    layers = [fit(f"{one} / {other}", LABEL, 0.3 * sheet.width) for one, other in zip(*sides, strict=True)]
    legend = legend_of([Patch(label=name, **_bar(index)) for index, name in enumerate(names)], sheet.width - 12)
    left = widest(layers) + 10
    width = (sheet.width - left - 24) / 2
    title = sheet.lines([_title(result)], TITLE)
    head = _TITLE + TITLE * LEADING * (len(title) - 1)
    fixed = 28 + head + legend.height + n_pairs * _GAP
    height = sheet.cut(fixed, n_pairs * n_students * _BAR, n_pairs * n_students * _THINNEST) + n_pairs * _GAP
    for side, who in enumerate(_NETWORKS):
        axes = sheet.place(left + side * (width + 16), 28, width, height)
        _panel(axes, result, who, height)
        axes.set_yticks(np.arange(n_pairs), [""] * n_pairs if side else layers, fontsize=pt(LABEL))
        labels = f"general share of the {who}'s variance in %", f"general in the {who} in %", f"general, {who}, %"
        axes.set_xlabel(fitting(TITLE, width + 8, *labels))
    for line, text in enumerate(title):
        sheet.write(6, sheet.height - 9 - line * TITLE * LEADING, text, size=TITLE, va="center")
    sheet.explain(legend, 6, head)
    return sheet.figure


def _panel(axes: Axes, result: Result, who: str, height: float) -> None:
    percent, lower = 100 * result.arrays[f"{who}_general"].astype(np.float64), lower_bounds(result, who)
    n_students, n_pairs, _ = percent.shape
    bar = (1 - _GAP * n_pairs / height) / n_students  # pairs stand at 0, 1, ...
    for student in range(n_students):
        places = np.arange(n_pairs) + (student - (n_students - 1) / 2) * bar
        value, low, high = percent[student].T
        axes.barh(places, value, height=bar * 0.83, **_bar(student))
        axes.hlines(places, low, high, color=INK, linewidth=pt(1))
        more = np.array(lower[student], bool)
        axes.plot(high[more], places[more], marker=">", markersize=pt(3), color=INK, linestyle="none", clip_on=False)
    axes.set_ylim(n_pairs - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(min(0.0, float(np.nanmin(percent))), 100)
    axes.grid(axis="x", color=HAIRLINE)


def _bar(index: int) -> dict[str, Any]:
    """Colour of a student, hatched where all colours have been used before it."""
    return {"facecolor": hue(index), "edgecolor": "white", "linewidth": 0, "hatch": _HATCHES[index // n_hues() % 3]}


def _title(result: Result) -> str:
    facts = result.facts
    title = f"{shorten(facts['teacher'], 30)} and its students ({facts['method']}) on {shorten(facts['data'], 30)}; "
    title += f"{100 * float(facts['confidence']):g} % intervals"
    bounded = any(map(any, [*lower_bounds(result, "teacher"), *lower_bounds(result, "student")]))
    return title + "; > lower bound" * bounded
