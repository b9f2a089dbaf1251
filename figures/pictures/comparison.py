"""Methods side by side: a dot per seed, the mean and its interval, the teacher as a line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from figures.checks import require, require_length
from figures.labels import shorten, widest
from figures.style import INK, LABEL, MUTED, PAGE, PALETTE, TITLE, place, sheet, style
from kdprobe.errors import ResultError
from kdprobe.mean_interval import seeds_interval, worded_interval
from kdprobe.results import Result

QUANTITIES = {
    "accuracy": ("accuracy in %", 100.0, 1),
    "uar": ("UAR in %", 100.0, 1),
    "cka": ("last-stage CKA", 1.0, 2),
}
_ROW = 26.0  # points per method
_GAP = 12.0  # points between panels


@style()
def draw(result: Result) -> Figure:
    """Draw a saved comparison of methods.

    Args:
        result: of kind "comparison"; `accuracy`, `uar`, `cka` [methods, seeds], NaN where absent.

    Returns:
        the figure, one panel for each quantity that has any value.

    Raises:
        ResultError: if the result lacks something, its names do not match, no value is there, or methods were
            trained on different data.
    """
    require(result, dict.fromkeys(QUANTITIES, 2), ("methods", "seeds", "teacher", "teacher_accuracy"))
    data = sorted({group["data"] for group in result.facts.get("groups", ())})
    if len(data) > 1:
        raise ResultError(f"methods are compared on one data set in a figure, but these are of {', '.join(data)}")
    shown = [name for name in QUANTITIES if not np.isnan(result.arrays[name]).all()]
    if not shown:
        raise ResultError("a 'comparison' result needs a value of accuracy, uar or cka, but has none")
    methods = [shorten(name) for name in require_length(result, "methods", len(result.arrays[shown[0]]), "rows")]

    left = widest(methods, TITLE) + 12
    width = (PAGE - left - 10 - _GAP * (len(shown) - 1)) / len(shown)
    height = _ROW * len(methods) + 6
    figure = sheet(PAGE, height + 32 + 22)
    for index, name in enumerate(shown):
        axes = place(figure, left + index * (width + _GAP), 32, width, height)
        _panel(axes, result.arrays[name], name, PALETTE[index], image_counts(result, name))
        axes.set_yticks(range(len(methods)), methods if index == 0 else [], fontsize=TITLE)
        if name == "accuracy" and result.facts["teacher_accuracy"] is not None:
            _teacher(axes, 100 * float(result.facts["teacher_accuracy"]))
    _legend(figure, result, left)
    return figure


def image_counts(result: Result, name: str) -> list[int | None]:
    """On how many images a quantity of each method was measured; None where that is not known, or it is no share."""
    methods = require_length(result, "methods", len(result.arrays[name]), "rows")
    known = "n_images" in result.facts and name != "cka"
    return require_length(result, "n_images", len(methods), "rows") if known else [None] * len(methods)


def _panel(axes: Axes, values: NDArray[np.float64], name: str, colour: str, n_images: Sequence[int | None]) -> None:
    label, scale, digits = QUANTITIES[name]
    for row, (seeds, images) in enumerate(zip(values, n_images, strict=True)):
        mean, half = seeds_interval(seeds, n_images=images)
        if np.isnan(mean):
            continue
        if not np.isnan(half):
            axes.hlines(row, scale * (mean - half), scale * (mean + half), color=colour, linewidth=1.4)
            beside = np.full(seeds.shape, row + 0.24)  # below the line, where no dot is hidden
            axes.plot(scale * seeds, beside, "o", color=colour, alpha=0.55, markersize=3.2, mew=0)
        axes.plot(scale * mean, row, "D", color=colour, markersize=4.6, mec="white", mew=0.7)
        axes.annotate(
            worded_interval(seeds, scale=scale, digits=digits, n_images=images),
            (scale * mean, row),
            (0, 5),
            textcoords="offset points",
            ha="center",
            size=LABEL,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6},
        )
    axes.set_xlabel(label, labelpad=2)
    axes.grid(axis="x")
    axes.margins(x=0.22)
    axes.locator_params(axis="x", nbins=5)
    axes.set_ylim(len(values) - 0.55, -0.75)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


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
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left / PAGE, 1.0),
        ncols=3,
        borderpad=0.3,
        borderaxespad=0.2,
    )
