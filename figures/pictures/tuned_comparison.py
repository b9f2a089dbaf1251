"""Methods tuned alike: what they reach on the test images, and how the best of n trials rises with n."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.labels import LEADING, fit, shorten, told_apart, widest, wrap
from figures.picture import on_figure
from figures.pictures.comparison import diamond, dot, teacher_line
from figures.pictures.curves import look
from figures.remarks import first_few, remarks_on
from figures.rows import NAMES_SHARE, frame_rows, mark
from figures.sheet import Sheet, legend_of, size_of
from figures.style import LABEL, MUTED, TITLE, pt
from kdprobe.mean_interval import differs, seeds_interval, worded_interval
from kdprobe.results import Result

_ROW, _DENSEST = 26.0, 21.0  # points of a method, and at least
_LEAST, _MOST = 120.0, 570.0  # points of a panel where there is room
_FOOT, _GAP = 32.0, 46.0  # points below the panels, and between them
_NARROWEST = 85.0  # points of a panel that stands beside the other one, at least
_DODGE = 0.12  # of the distance of two trials: by how much intervals that would lie on each other are moved apart


@on_figure
def draw_tuned_comparison(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw a comparison of tuned methods.

    Args:
        result: of kind "tuned-comparison".
        fig: to fill; a new figure of one page if not given.

    Returns:
        the figure: accuracies on the test images at the left, the best on held-out images at the right, or below
        where there is no room at the right. Of one trial there is no best.
    """
    sheet = Sheet(fig)
    remarks = sheet.lines(first_few(remarks_on(result)))
    methods = result.facts["methods"]
    names = told_apart([fit(shorten(name), TITLE, NAMES_SHARE * sheet.width) for name in methods], methods)
    left, base = widest(names, TITLE) + 12, LABEL * LEADING * len(remarks)
    legend = legend_of(_handles(result), sheet.width - 12)
    room = sheet.width - left - 10
    several = result.arrays["held_out"].shape[1] > 1
    beside = several and 0.42 * (room - _GAP) >= _NARROWEST
    more = 90.0 + _FOOT + 8 if several and not beside else 0.0
    rows = min(max(_ROW * len(names), _LEAST), max(_MOST, _DENSEST * len(names))) if not more else _ROW * len(names)
    height = sheet.cut(base + _FOOT + more + legend.height + 4, rows, max(_DENSEST * len(names), 50))
    sheet.note(remarks)
    first = 0.58 * (room - _GAP) if beside else room
    accuracies = sheet.place(left, base + _FOOT + more, first, height)
    _accuracies(accuracies, result)
    accuracies.set_yticks(range(len(names)), names, fontsize=pt(TITLE))
    at = (left + first + _GAP, base + _FOOT, room - _GAP - first, height)
    if several:
        _best(sheet.place(*at if beside else (40.0, base + _FOOT, sheet.width - 50, 90.0)), result)
    sheet.explain(legend, 6)
    return sheet.figure


def baseline_shown(result: Result) -> str | None:
    """The method that stars refer to: plain training, or else kd."""
    methods = result.facts["methods"]
    return next((name for name in ("plain", "kd") if name in methods and len(methods) > 1), None)


def is_starred(result: Result, method: str) -> bool:
    """Whether a method differs from that one, by Holm's p value."""
    pair = {method, baseline_shown(result)}
    return any(
        {entry["method"], entry["other"]} == pair and differs(entry["adjusted_p_value"])
        for entry in result.facts["differences"]
    )


def _accuracies(axes: Axes, result: Result) -> None:
    facts, n_images = result.facts, result.facts["n_images"]
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": pt(0.6)}
    published = result.arrays.get("published")
    for row, (name, shares) in enumerate(zip(facts["methods"], result.arrays["accuracy"], strict=True)):
        colour = look(row)["color"]
        if published is not None:
            mean, low, high = 100 * np.array(seeds_interval(published[row], n_images=n_images))
            axes.hlines(row + 0.34, low, high, color=colour, linewidth=pt(0.8))
            axes.plot(mean, row + 0.34, linestyle="", **_published(colour))
        ends = 100 * np.array(seeds_interval(shares, n_images=n_images))
        if np.isnan(ends[0]):
            continue
        if not np.isnan(ends[1:]).any() and published is None:
            axes.plot(100 * shares, np.full(shares.shape, row + 0.24), alpha=0.55, **dot(colour))
        words = worded_interval(shares, scale=100, digits=1, n_images=n_images)
        mark(axes, row, ends, words + " *" * is_starred(result, name), colour, bbox=box)
    if facts["teacher_accuracy"] is not None:
        axes.axvline(100 * facts["teacher_accuracy"], **teacher_line())
    axes.set_xlabel("accuracy on the test images in %")
    frame_rows(axes, len(facts["methods"]) - 0.45, 0.18)


def _best(axes: Axes, result: Result) -> None:
    """A line for each method; the middle 95 % of the subsets as a bar at each number of trials."""
    expected = 100 * result.arrays["expected"]
    n_methods, n_trials, _ = expected.shape
    trials = np.arange(1, n_trials + 1)
    for row, (mean, low, high) in enumerate(expected.transpose(0, 2, 1)):
        beside = trials + _DODGE * (2 * row / max(n_methods - 1, 1) - 1)
        axes.vlines(beside, low, high, color=look(row)["color"], linewidth=pt(0.9), alpha=0.6)
        axes.plot(beside, mean, marker="o", markersize=pt(2.6), **look(row))
    axes.set_xlabel(wrap("trials (bar: middle 95 % of subsets)", TITLE, size_of(axes)[0] + 16))
    axes.set_ylabel("best on held-out images in %")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.grid(axis="y")


def _handles(result: Result) -> list[Line2D]:
    """What the legend explains."""
    facts = result.facts
    several, what = len(facts["seeds"]) > 1, "tuned" if result.arrays["held_out"].shape[1] > 1 else "not tuned"
    label = f"{what}: mean and 95 % interval" if several else what
    handles = [Line2D([], [], linewidth=pt(1.4) * several, label=label, **diamond())]
    if "published" in result.arrays:
        handles.append(Line2D([], [], label="as published", **_published(MUTED), linewidth=pt(0.8)))
    elif several:
        handles.append(Line2D([], [], label="one seed", **dot()))
    if facts["teacher_accuracy"] is not None:
        handles.append(Line2D([], [], label=f"teacher: {shorten(str(facts['teacher']))}", **teacher_line()))
    if any(is_starred(result, name) for name in facts["methods"]):
        label = f"* differs from {baseline_shown(result)} (paired by seed, Holm)"
        handles.append(Line2D([], [], linestyle="", label=label))
    return handles


def _published(colour: str) -> dict[str, Any]:
    return {"marker": "o", "color": colour, "mfc": "white", "markersize": pt(3.6), "mew": pt(0.9)}
