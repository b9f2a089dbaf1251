"""How much of what each network knows is general: bars per pair of layers, teacher above student.

Beside the bars: d, the directions of each network that explain the other, the directions that both share, the CKA of
whole, general and specific parts (R, G, S), and the accuracy of a linear probe on each, if the result has them. Below,
for DropKD: what each dropout rate keeps.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from figures.labels import LEADING, fit, fitting, shorten, shorten_all, text_width, widest
from figures.picture import on_figure
from figures.sheet import Sheet, legend_of
from figures.style import BARE, INK, LABEL, MARKERS, MUTED, TITLE, hue, pt
from figures.words import lower_bounds, number, with_ends
from kdprobe.results import Result

_PAIR, _DENSEST = 32.0, 20.0  # points per pair of layers, and at least
_HEAD = 12.0  # points above the bars, for the headings of the columns
_LEAST = 0.25  # of the width: what is left to the bars beside the columns
_RATES = 130.0  # points for the curves over dropout rates
_FOOT = 30.0 + 2 * LABEL * LEADING  # points below the axis, for its title and the notes
_WORDS = (
    "General is what can be predicted from the other network's layer of the pair; what is left is specific.",
    "d: directions of a network that predict the other one; dim.: directions that both share; R, G, S: whole, general "
    "and specific part.",
)
_NETWORKS = ("teacher", "student")


@on_figure
def draw_knowledge(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw a saved decomposition.

    Args:
        result: of kind "knowledge"; `teacher_general` and `student_general` [pairs, 3]: the fraction of
            variance that is general (value, low, high), which may lie below zero; the rest is specific.
            Optional: `dimension` [pairs], `cka` [pairs, 3, 3], `teacher_probe` and `student_probe` [pairs, 3, 3] of
            whole, general and specific part; `rates` [r] with `teacher_by_rate` and `student_by_rate` [pairs, r, 3].
        fig: to fill; a new figure of one page if not given.

    Returns:
        the figure; where it is narrow, without the last columns of numbers.
    """
    percents = [100 * result.arrays[f"{who}_general"].astype(np.float64) for who in _NETWORKS]
    sheet, names = Sheet(fig), _names(result)
    lines = [fit(name, LABEL, 0.32 * sheet.width) for pair in names for name in pair]
    left = widest(lines) + 12
    columns = _that_fit(_columns(result, percents), sheet.width * (1 - _LEAST) - left - 8)
    legend = legend_of(_handles(result), sheet.width - 12)
    below = _RATES if "rates" in result.arrays else 0.0
    n = len(names)
    notes = _WORDS[: 1 + (len(columns) > 1)]
    told = sheet.lines(notes)
    foot = _FOOT + (len(told) - len(notes)) * LABEL * LEADING
    height = sheet.cut(below + foot + legend.height + _HEAD, _PAIR * n, _DENSEST * n)
    width = sheet.width - left - 8 - sum(_width(*column) for column in columns)
    sheet.note(told)
    axes = sheet.place(left, below + foot, width, height)
    places = np.arange(n) * 1.0
    lowest = min(0.0, float(np.nanmin(percents)))
    for index, (shift, percent) in enumerate(zip((-0.2, 0.2), percents, strict=True)):
        _bars(axes, places + shift, percent, hue(index))
    axes.set_yticks(np.stack([places - 0.2, places + 0.2], 1).ravel(), lines, fontsize=pt(LABEL))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_xlim(lowest, 100)
    if lowest < 0:
        axes.axvline(0, color=MUTED, linewidth=pt(0.6), zorder=2.5)
    confidence = 100 * float(result.facts["confidence"])
    labels = f"share of variance in %, with {confidence:g} % intervals of the general part", "share of variance in %"
    label = fitting(TITLE, sheet.width - 12, *labels)
    axes.set_xlabel(label, x=max(0.5, (text_width(label, TITLE) / 2 + 6 - left) / width))
    _write(sheet, axes, columns, left + width)
    sheet.explain(legend, 6)
    if below:
        _kept(sheet.place(max(left, 40.0), foot, width, below - 42), result)
    return sheet.figure


def _names(result: Result) -> list[tuple[str, str]]:
    teacher, student = (shorten_all(result.facts[f"{who}_layers"], 20) for who in _NETWORKS)
    return [(f"teacher {one}", f"student {other}") for one, other in zip(teacher, student, strict=True)]


def _that_fit(columns: list[tuple[str, list[str]]], room: float) -> list[tuple[str, list[str]]]:
    """The first columns, as many as there is room for."""
    ends = np.cumsum([_width(*column) for column in columns])
    return columns[: int((ends <= room).sum())]


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
    axes.hlines(places, low, high, color=INK, linewidth=pt(1.2), zorder=3)


def _kept(axes: Axes, result: Result) -> None:
    """General share over dropout rates; one line per pair of layers and network."""
    rates = result.arrays["rates"]
    for network, who in enumerate(_NETWORKS):
        looks: dict[str, Any] = {"color": hue(network), "markersize": pt(3), "linewidth": pt(1)}
        for index, ends in enumerate(100 * result.arrays[f"{who}_by_rate"]):
            value, low, high = ends.T
            axes.plot(rates, value, marker=MARKERS[index % len(MARKERS)], **looks)
            axes.fill_between(rates, low, high, color=hue(network), alpha=0.15, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=pt(0.6))
    axes.set_xlim(0, 1)
    axes.set_xlabel("dropout rate of both networks")
    axes.set_ylabel("general in %")


def _write(sheet: Sheet, axes: Axes, columns: list[tuple[str, list[str]]], start: float) -> None:
    top = sheet.height * axes.get_position().y1
    for heading, lines in columns:
        sheet.write(start + 9, top + 4, heading, va="center", color=MUTED)
        for bar, line in enumerate(lines):
            alone = bar % 2 == 0 and lines[bar + 1] == ""
            y = bar // 2 + (0.0 if alone else (-0.2, 0.2)[bar % 2])
            axes.annotate(
                *(line, (1.0, y), (pt(start + 9 - axes.get_position().x1 * sheet.width), 0)),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                size=pt(LABEL),
            )
        start += _width(heading, lines)


def _handles(result: Result) -> list[Patch | Line2D]:
    facts = result.facts
    handles: list[Patch | Line2D] = [
        Patch(color=hue(index), label=f"general, {who} {shorten(facts[who], 24)}")
        for index, who in enumerate(_NETWORKS)
    ]
    handles.append(Patch(facecolor=BARE, edgecolor=MUTED, hatch="////", linewidth=0.0, label="specific"))
    if "method" in facts:
        n = f", n = {facts['n_independent']}" if "n_independent" in facts else ""
        handles.append(Line2D([], [], linestyle="", label=f"by {facts['method']}{n}"))
    return handles
