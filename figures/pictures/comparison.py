"""Methods side by side: a dot per seed, the mean and its interval, the teacher as a line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from figures.labels import shorten, widest
from figures.rows import BETWEEN, frame_rows, mark
from figures.style import MUTED, PAGE_WIDTH, PALETTE, TITLE, place, sheet, style
from kdprobe.errors import ResultError
from kdprobe.mean_interval import differs, seeds_interval, worded_interval
from kdprobe.results import Result

QUANTITIES = {
    "accuracy": ("accuracy in %", 100.0, 1),
    "uar": ("UAR in %", 100.0, 1),
    "cka": ("last-stage CKA", 1.0, 2),
}
_ROW = 26.0  # points per method


@style()
def draw_comparison(result: Result) -> Figure:
    """Draw a saved comparison of methods.

    Args:
        result: of kind "comparison"; `accuracy`, `uar`, `cka` [methods, seeds], NaN where absent.

    Returns:
        the figure, one panel for each quantity that has any value.

    Raises:
        ResultError: if methods were trained on different data.
    """
    data = sorted({group["data"] for group in result.facts.get("groups", ())})
    if len(data) > 1:
        raise ResultError(f"a figure compares methods on one data set, but these are of {', '.join(data)}")
    shown = [name for name in QUANTITIES if not np.isnan(result.arrays[name]).all()]
    methods = [shorten(name) for name in result.facts["methods"]]

    left = widest(methods, TITLE) + 12
    width = (PAGE_WIDTH - left - 10 - BETWEEN * (len(shown) - 1)) / len(shown)
    height = _ROW * len(methods) + 6
    figure = sheet(PAGE_WIDTH, height + 32 + 22)
    for index, name in enumerate(shown):
        axes = place(figure, left + index * (width + BETWEEN), 32, width, height)
        stars = [differs_from_baseline(result, name, method) for method in result.facts["methods"]]
        _panel(axes, result.arrays[name], name, PALETTE[index], image_counts(result, name), stars)
        axes.set_yticks(range(len(methods)), methods if index == 0 else [], fontsize=TITLE)
        if name == "accuracy" and result.facts["teacher_accuracy"] is not None:
            _teacher(axes, 100 * float(result.facts["teacher_accuracy"]))
    _legend(figure, result, left)
    return figure


def image_counts(result: Result, name: str) -> list[int | None]:
    """On how many images a quantity of each method was measured; None where that is not known, or it is no share."""
    unknown: list[int | None] = [None] * len(result.facts["methods"])
    return unknown if name == "cka" else list(result.facts.get("n_images", unknown))


def baseline_of(result: Result) -> str | None:
    """The method that all others were tested against; None where each was tested against each, or none was."""
    others = {entry["other"] for entry in result.facts.get("differences", ())}
    return others.pop() if len(others) == 1 and len(result.facts["methods"]) > 2 else None


def differs_from_baseline(result: Result, quantity: str, method: str) -> bool:
    """Whether a method differs from the one that all were tested against, by Holm's p value."""
    found = result.facts.get("differences", ()) if baseline_of(result) else ()
    return any(
        differs(entry["adjusted_p_value"])
        for entry in found
        if (entry["quantity"], entry["method"]) == (quantity, method)
    )


def _panel(
    axes: Axes,
    values: NDArray[np.float64],
    name: str,
    colour: str,
    n_images: Sequence[int | None],
    stars: Sequence[bool],
) -> None:
    label, scale, digits = QUANTITIES[name]
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6}
    for row, (seeds, images, star) in enumerate(zip(values, n_images, stars, strict=True)):
        ends = scale * np.array(seeds_interval(seeds, n_images=images))
        if np.isnan(ends[0]):
            continue
        if not np.isnan(ends[1:]).any():
            beside = np.full(seeds.shape, row + 0.24)  # below the line, where no dot is hidden
            axes.plot(scale * seeds, beside, "o", color=colour, alpha=0.55, markersize=3.2, mew=0)
        words = worded_interval(seeds, scale=scale, digits=digits, n_images=images) + (" *" if star else "")
        mark(axes, row, ends, words, colour, bbox=box)
    axes.set_xlabel(label, labelpad=2)
    frame_rows(axes, len(values) - 0.55, 0.22)


def _teacher(axes: Axes, accuracy: float) -> None:
    axes.axvline(accuracy, color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)))


def _legend(figure: Figure, result: Result, left: float) -> None:
    mean: dict[str, Any] = {"marker": "D", "color": MUTED, "markersize": 4.6, "mec": "white"}
    if (~np.isnan(result.arrays["accuracy"])).sum(1).max() > 1:
        handles = [
            Line2D([], [], marker="o", linestyle="", color=MUTED, markersize=3.2, mew=0, label="one seed"),
            Line2D([], [], linewidth=1.4, label="mean and 95 % interval", **mean),
        ]
    else:
        handles = [Line2D([], [], linestyle="", label="one seed", **mean)]
    if result.facts["teacher_accuracy"] is not None:
        label = f"teacher: {shorten(str(result.facts['teacher']))}"
        handles.append(Line2D([], [], color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), label=label))
    if (baseline := baseline_of(result)) is not None:
        handles.append(Line2D([], [], linestyle="", label=f"* differs from {shorten(baseline)} (paired by seed, Holm)"))
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left / PAGE_WIDTH, 1.0),
        ncols=3,
        borderpad=0.3,
        borderaxespad=0.2,
    )
