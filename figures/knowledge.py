"""How much of what each network knows is general: bars per pair of layers, teacher above student."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from figures.checks import require, require_length
from figures.labels import shorten, widest
from figures.style import BARE, INK, LABEL, MUTED, PAGE, PALETTE, TITLE, place, sheet, style
from kdprobe.results import Result

_PAIR = 32.0  # points per pair of layers


@style()
def draw(result: Result) -> Figure:
    """Draw a saved decomposition.

    Args:
        result: of kind "knowledge"; `teacher_general` and `student_general` [pairs, 3]: the fraction of
            variance that is general (value, low, high), which may lie slightly below zero. What is left
            to 1 is specific.

    Returns:
        the figure, one page wide.

    Raises:
        ResultError: if the result lacks something or its names do not match its numbers.
    """
    facts = ("teacher", "student", "teacher_layers", "student_layers", "confidence")
    require(result, {"teacher_general": 2, "student_general": 2}, facts)
    teacher = 100 * result.arrays["teacher_general"].astype(np.float64)
    student = 100 * result.arrays["student_general"].astype(np.float64)
    teacher_layers = require_length(result, "teacher_layers", len(teacher), "pairs")
    student_layers = require_length(result, "student_layers", len(student), "pairs")
    names = [
        (f"teacher {shorten(one, 28)}", f"student {shorten(other, 28)}")
        for one, other in zip(teacher_layers, student_layers, strict=True)
    ]

    left = widest([name for pair in names for name in pair]) + 12
    height = _PAIR * len(names)
    figure = sheet(PAGE, 28 + height + 18)
    axes = place(figure, left, 28, PAGE - left - 92, height)
    places = np.arange(len(names)) * 1.0
    _bars(axes, places - 0.2, teacher, PALETTE[0])
    _bars(axes, places + 0.2, student, PALETTE[1])
    axes.set_yticks(np.stack([places - 0.2, places + 0.2], 1).ravel(), [name for pair in names for name in pair])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(min(0.0, float(np.nanmin([teacher, student]))), 100)
    confidence = 100 * float(result.facts["confidence"])
    axes.set_xlabel(f"share of variance in %, with {confidence:g} % intervals of the general part", labelpad=2)
    _legend(figure, result, left)
    return figure


def _bars(axes: Axes, places: NDArray[Any], percent: NDArray[Any], colour: str) -> None:
    value, low, high = percent.T
    axes.barh(places, 100.0, height=0.34, color=BARE, edgecolor=MUTED, hatch="////", linewidth=0.0, zorder=1)
    axes.barh(places, value, height=0.34, color=colour, zorder=2)
    axes.hlines(places, low, high, color=INK, linewidth=1.2, zorder=3)
    for position, numbers in zip(places, percent, strict=True):
        told = "{:.1f}  [{:.1f}, {:.1f}]".format(*numbers)
        axes.annotate(
            told,
            (1.0, position),
            (8, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            size=LABEL,
        )


def _legend(figure: Figure, result: Result, left: float) -> None:
    handles = [
        Patch(color=PALETTE[0], label=f"general, teacher {shorten(result.facts['teacher'], 24)}"),
        Patch(color=PALETTE[1], label=f"general, student {shorten(result.facts['student'], 24)}"),
        Patch(facecolor=BARE, edgecolor=MUTED, hatch="////", linewidth=0.0, label="specific"),
    ]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(left / PAGE, 1.0), ncols=3, borderaxespad=0.3, fontsize=LABEL
    )
    figure.text(1 - 84 / PAGE, 1 - TITLE / figure.get_size_inches()[1] / 72, "general in %", size=LABEL, va="center")
