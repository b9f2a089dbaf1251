"""How much of what each network knows is general: bars per pair of layers, teacher above student.

Beside the bars: d, the directions of each network that explain the other, the directions that both share, the CKA of
whole, general and specific parts (R, G, S), and the accuracy of a linear probe on each, if the result has them. Below,
for DropKD: what each dropout rate keeps.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from figures.labels import LEADING, note_below, shorten, text_width, widest
from figures.style import BARE, INK, LABEL, MARKERS, MUTED, PAGE_WIDTH, PALETTE, TITLE, place, sheet, style
from figures.words import lower_bounds, number, with_ends
from kdprobe.results import Result

_PAIR = 32.0  # points per pair of layers
_HEAD = 28.0
_LEAST = 40.0  # points that are left to the bars beside the longest numbers
_RATES = 130.0  # points for the curves over dropout rates
_FOOT = 30.0 + 2 * LABEL * LEADING  # points below the axis, for its title and the notes
_WORDS = (
    "General is what can be predicted from the other network's layer of the pair; what is left is specific.",
    "d: directions of a network that predict the other one; dim.: directions that both share; R, G, S: whole, general "
    "and specific part.",
)
_NETWORKS = ("teacher", "student")


@style()
def draw_knowledge(result: Result) -> Figure:
    """Draw a saved decomposition.

    Args:
        result: of kind "knowledge"; `teacher_general` and `student_general` [pairs, 3]: the fraction of
            variance that is general (value, low, high), which may lie below zero; the rest is specific.
            Optional: `dimension` [pairs], `cka` [pairs, 3, 3], `teacher_probe` and `student_probe` [pairs, 3, 3] of
            whole, general and specific part; `rates` [r] with `teacher_by_rate` and `student_by_rate` [pairs, r, 3].

    Returns:
        the figure, one page wide.
    """
    percents = [100 * result.arrays[f"{who}_general"].astype(np.float64) for who in _NETWORKS]
    names = _names(result)
    columns = _columns(result, percents)

    left = widest([name for pair in names for name in pair]) + 12
    height = _PAIR * len(names)
    below = _RATES if "rates" in result.arrays else 0.0
    foot = below + _FOOT
    figure = sheet(PAGE_WIDTH, foot + _HEAD + height)
    note_below(figure, _WORDS[: 1 + (len(columns) > 1)])
    width = max(_LEAST, PAGE_WIDTH - left - 8 - sum(_width(*column) for column in columns))
    axes = place(figure, left, foot, width, height)
    places = np.arange(len(names)) * 1.0
    lowest = min(0.0, float(np.nanmin(percents)))
    for shift, percent, colour in zip((-0.2, 0.2), percents, PALETTE, strict=False):
        _bars(axes, places + shift, percent, colour)
    axes.set_yticks(np.stack([places - 0.2, places + 0.2], 1).ravel(), [name for pair in names for name in pair])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(lowest, 100)
    if lowest < 0:
        axes.axvline(0, color=MUTED, linewidth=0.6, zorder=2.5)
    confidence = 100 * float(result.facts["confidence"])
    axes.set_xlabel(f"share of variance in %, with {confidence:g} % intervals of the general part", labelpad=2)
    _write(figure, axes, columns, left + width)
    _legend(figure, result, left)
    if below:
        _kept(place(figure, left, _FOOT, width, below - 42), result)
    return figure


def _names(result: Result) -> list[tuple[str, str]]:
    teacher, student = (result.facts[f"{who}_layers"] for who in _NETWORKS)
    return [
        (f"teacher {shorten(one, 20)}", f"student {shorten(other, 20)}")
        for one, other in zip(teacher, student, strict=True)
    ]


def _columns(result: Result, percents: list[NDArray[Any]]) -> list[tuple[str, list[str]]]:
    """The columns beside the bars: heading and a line per bar; the second one is empty for numbers of a pair."""
    arrays = result.arrays
    pairs = zip(*percents, strict=True)
    bounds = list(zip(*(lower_bounds(result, who) for who in _NETWORKS), strict=True))
    shares = [
        with_ends(ends, lower_bound=bound)
        for pair, flags in zip(pairs, bounds, strict=True)
        for ends, bound in zip(pair, flags, strict=True)
    ]
    columns = [("general in %" + ", ≥ at least" * any(map(any, bounds)), shares)]
    if "teacher_used" in arrays:
        used = np.stack([arrays[f"{who}_used"] for who in _NETWORKS], 1).ravel()
        columns.append(("d", [str(count) for count in used]))
    if not np.isnan(arrays["dimension"]).all():
        columns.append(("dim.", [line for value in arrays["dimension"] for line in (f"{value:.0f}", "")]))
    if not np.isnan(arrays["cka"]).all():
        texts = ["  ".join(number(value, 2) for value in values) for values in arrays["cka"][:, :, 0]]
        columns.append(("CKA R G S", [line for text in texts for line in (text, "")]))
    if "teacher_probe" in arrays:
        probes = np.stack([arrays[f"{who}_probe"][:, :, 0] for who in _NETWORKS], 1).reshape(-1, 3)
        columns.append(("probe R G S %", ["  ".join(number(100 * value, 0) for value in row) for row in probes]))
    return columns


def _width(heading: str, lines: list[str]) -> float:
    return max(text_width(heading, LABEL), widest(lines)) + 9


def _bars(axes: Axes, places: NDArray[Any], percent: NDArray[Any], colour: str) -> None:
    value, low, high = percent.T
    axes.barh(places, 100.0, height=0.34, color=BARE, edgecolor=MUTED, hatch="////", linewidth=0.0, zorder=1)
    axes.barh(places, value, height=0.34, color=colour, zorder=2)
    axes.hlines(places, low, high, color=INK, linewidth=1.2, zorder=3)


def _kept(axes: Axes, result: Result) -> None:
    """General share over dropout rates; one line per pair of layers and network."""
    rates = result.arrays["rates"]
    for who, colour in zip(_NETWORKS, PALETTE, strict=False):
        for index, ends in enumerate(100 * result.arrays[f"{who}_by_rate"]):
            value, low, high = ends.T
            axes.plot(rates, value, color=colour, marker=MARKERS[index % len(MARKERS)], markersize=3, linewidth=1.0)
            axes.fill_between(rates, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("dropout rate of both networks", labelpad=2)
    axes.set_ylabel("general in %", labelpad=2)


def _write(figure: Figure, axes: Axes, columns: list[tuple[str, list[str]]], start: float) -> None:
    height = figure.get_size_inches()[1] * 72
    for heading, lines in columns:
        x = (start + 9) / PAGE_WIDTH
        figure.text(x, 1 - 24 / height, heading, size=LABEL, va="center", color=MUTED)
        for bar, line in enumerate(lines):
            alone = bar % 2 == 0 and lines[bar + 1] == ""
            y = bar // 2 + (0.0 if alone else (-0.2, 0.2)[bar % 2])
            axes.annotate(
                *(line, (0.0, y), (start + 9, 0)),
                xycoords=("figure fraction", "data"),
                textcoords="offset points",
                va="center",
                size=LABEL,
            )
        start += _width(heading, lines)


def _legend(figure: Figure, result: Result, left: float) -> None:
    handles = [
        Patch(color=PALETTE[index], label=f"general, {who} {shorten(result.facts[who], 24)}")
        for index, who in enumerate(_NETWORKS)
    ]
    handles.append(Patch(facecolor=BARE, edgecolor=MUTED, hatch="////", linewidth=0.0, label="specific"))
    height = figure.get_size_inches()[1] * 72
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left / PAGE_WIDTH, 1 - 2 / height),
        ncols=3,
        borderaxespad=0.3,
        fontsize=LABEL,
        title=None,
    )
    if "method" in result.facts:
        words = f"by {result.facts['method']}"
        if "n_independent" in result.facts:
            words += f", n = {result.facts['n_independent']}"
        figure.text(1 - 4 / PAGE_WIDTH, 1 - TITLE / height, words, size=LABEL, va="center", ha="right")
