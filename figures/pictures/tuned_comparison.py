"""Methods tuned alike: what they reach on the test images, and how the best of n trials rises with n."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.labels import LEADING, LEGEND_LEADING, note_below, shorten, widest
from figures.pictures.curves import look
from figures.remarks import first_few, remarks_on
from figures.rows import frame_rows, mark
from figures.style import LABEL, MUTED, PAGE_WIDTH, TITLE, place, sheet, style
from kdprobe.mean_interval import differs, seeds_interval, worded_interval
from kdprobe.results import Result

_ROW, _LEAST, _MOST = 26.0, 120.0, 570.0  # points of a method, and at least and at most of a panel
_GAP = 46.0  # points between the panels
_ACROSS = 3  # entries of the legend side by side
_DODGE = 0.12  # of the distance of two trials: by how much intervals that would lie on each other are moved apart


@style()
def draw_tuned_comparison(result: Result) -> Figure:
    """Draw a comparison of tuned methods.

    Args:
        result: of kind "tuned-comparison".

    Returns:
        the figure: accuracies on the test images at the left, the best on held-out images at the right.
    """
    names = [shorten(name) for name in result.facts["methods"]]
    remarks, handles = first_few(remarks_on(result)), _handles(result)
    left, bottom = widest(names, TITLE) + 12, 32 + LABEL * LEADING * len(remarks)
    height = min(max(_ROW * len(names), _LEAST), _MOST)
    width = PAGE_WIDTH - left - _GAP - 10
    figure = sheet(PAGE_WIDTH, bottom + height + LABEL * LEGEND_LEADING * -(-len(handles) // _ACROSS) + 8)
    note_below(figure, remarks)
    accuracies = place(figure, left, bottom, 0.58 * width, height)
    _accuracies(accuracies, result)
    accuracies.set_yticks(range(len(names)), names, fontsize=TITLE)
    _best(place(figure, left + 0.58 * width + _GAP, bottom, 0.42 * width, height), result)
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(6 / PAGE_WIDTH, 1.0), ncols=_ACROSS, borderaxespad=0.2
    )
    return figure


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
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6}
    published = result.arrays.get("published")
    for row, (name, shares) in enumerate(zip(facts["methods"], result.arrays["accuracy"], strict=True)):
        colour = look(row)["color"]
        if published is not None:
            mean, low, high = 100 * np.array(seeds_interval(published[row], n_images=n_images))
            axes.hlines(row + 0.34, low, high, color=colour, linewidth=0.8)
            axes.plot(mean, row + 0.34, "o", color="white", mec=colour, markersize=3.6, mew=0.9)
        ends = 100 * np.array(seeds_interval(shares, n_images=n_images))
        if np.isnan(ends[0]):
            continue
        if not np.isnan(ends[1:]).any() and published is None:
            axes.plot(100 * shares, np.full(shares.shape, row + 0.24), "o", color=colour, alpha=0.55, ms=3.2, mew=0)
        words = worded_interval(shares, scale=100, digits=1, n_images=n_images)
        mark(axes, row, ends, words + " *" * is_starred(result, name), colour, bbox=box)
    if facts["teacher_accuracy"] is not None:
        axes.axvline(100 * facts["teacher_accuracy"], color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)))
    axes.set_xlabel("accuracy on the test images in %", labelpad=2)
    frame_rows(axes, len(facts["methods"]) - 0.45, 0.18)


def _best(axes: Axes, result: Result) -> None:
    """A line for each method; the middle 95 % of the subsets as a bar at each number of trials."""
    expected = 100 * result.arrays["expected"]
    n_methods, n_trials, _ = expected.shape
    trials = np.arange(1, n_trials + 1)
    for row, (mean, low, high) in enumerate(expected.transpose(0, 2, 1)):
        beside = trials + _DODGE * (2 * row / max(n_methods - 1, 1) - 1)
        axes.vlines(beside, low, high, color=look(row)["color"], linewidth=0.9, alpha=0.6)
        axes.plot(beside, mean, marker="o", markersize=2.6, **look(row))
    axes.set_xlabel("trials (bar: middle 95 % of subsets)", labelpad=2)
    axes.set_ylabel("best on held-out images in %", labelpad=3)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.grid(axis="y")


def _handles(result: Result) -> list[Line2D]:
    """What the legend explains."""
    facts = result.facts
    diamond: dict[str, Any] = {"marker": "D", "color": MUTED, "markersize": 4.6, "mec": "white"}
    several = len(facts["seeds"]) > 1
    handles = [
        Line2D(
            [], [], linewidth=1.4 * several, label="tuned: mean and 95 % interval" if several else "tuned", **diamond
        )
    ]
    if "published" in result.arrays:
        handles.append(
            Line2D([], [], marker="o", color=MUTED, mfc="white", ms=3.6, linewidth=0.8, label="as published")
        )
    elif several:
        handles.append(Line2D([], [], marker="o", linestyle="", color=MUTED, ms=3.2, mew=0, label="one seed"))
    if facts["teacher_accuracy"] is not None:
        label = f"teacher: {shorten(str(facts['teacher']))}"
        handles.append(Line2D([], [], color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), label=label))
    if any(is_starred(result, name) for name in facts["methods"]):
        label = f"* differs from {baseline_shown(result)} (paired by seed, Holm)"
        handles.append(Line2D([], [], linestyle="", label=label))
    return handles
