"""Methods side by side: a dot per seed, the mean and its interval, the teacher as a line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from figures.labels import shorten
from figures.picture import on_figure
from figures.rows import Rows, frame_rows, mark
from figures.sheet import Sheet, legend_of
from figures.style import MUTED, hue, pt
from kdprobe.errors import ResultError
from kdprobe.mean_interval import differs, seeds_interval, worded_interval
from kdprobe.results import Result

QUANTITIES = {
    "accuracy": ("accuracy in %", 100.0, 1),
    "uar": ("UAR in %", 100.0, 1),
    "cka": ("last-stage CKA", 1.0, 2),
}


@on_figure
def draw_comparison(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw a saved comparison of methods.

    Args:
        result: of kind "comparison"; `accuracy`, `uar`, `cka` [methods, seeds], NaN where absent.
        fig: to fill; a new figure of one page if not given.

    Returns:
        the figure, one panel for each quantity that has any value.

    Raises:
        ResultError: if methods were trained on different data.
    """
    data = sorted({group["data"] for group in result.facts.get("groups", ())})
    if len(data) > 1:
        raise ResultError(f"a figure compares methods on one data set, but these are of {', '.join(data)}")
    shown = [name for name in QUANTITIES if not np.isnan(result.arrays[name]).all()]
    sheet = Sheet(fig)
    rows = Rows(sheet, result.facts["methods"], n=len(shown), most=3, pitch=26.0, foot=32.0)
    legend = legend_of(_handles(result), sheet.width - 12)
    for index, (axes, name) in enumerate(zip(rows.cut(legend.height + 6), shown, strict=True)):
        stars = [differs_from_baseline(result, name, method) for method in result.facts["methods"]]
        _panel(axes, result.arrays[name], name, hue(index), image_counts(result, name), stars)
        rows.name(axes, index)
        if name == "accuracy" and result.facts["teacher_accuracy"] is not None:
            axes.axvline(100 * float(result.facts["teacher_accuracy"]), **teacher_line())
    sheet.explain(legend, 6)
    return sheet.figure


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
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": pt(0.6)}
    for row, (seeds, images, star) in enumerate(zip(values, n_images, stars, strict=True)):
        ends = scale * np.array(seeds_interval(seeds, n_images=images))
        if np.isnan(ends[0]):
            continue
        if not np.isnan(ends[1:]).any():
            beside = np.full(seeds.shape, row + 0.24)  # below the line, where no dot is hidden
            axes.plot(scale * seeds, beside, alpha=0.55, **dot(colour))
        words = worded_interval(seeds, scale=scale, digits=digits, n_images=images) + (" *" if star else "")
        mark(axes, row, ends, words, colour, bbox=box)
    axes.set_xlabel(label)
    frame_rows(axes, len(values) - 0.55, 0.22)


def teacher_line() -> dict[str, Any]:
    """The looks of the line at a teacher's accuracy."""
    return {"color": MUTED, "linewidth": pt(0.9), "linestyle": (0, (4, 2))}


def dot(colour: str = MUTED) -> dict[str, Any]:
    """The looks of the dot of one seed."""
    return {"marker": "o", "linestyle": "", "color": colour, "markersize": pt(3.2), "mew": 0}


def diamond() -> dict[str, Any]:
    """The looks of a mean in a legend."""
    return {"marker": "D", "color": MUTED, "markersize": pt(4.6), "mec": "white"}


def _handles(result: Result) -> list[Line2D]:
    if (~np.isnan(result.arrays["accuracy"])).sum(1).max() > 1:
        handles = [
            Line2D([], [], label="one seed", **dot()),
            Line2D([], [], linewidth=pt(1.4), label="mean and 95 % interval", **diamond()),
        ]
    else:
        handles = [Line2D([], [], linestyle="", label="one seed", **diamond())]
    if result.facts["teacher_accuracy"] is not None:
        handles.append(Line2D([], [], label=f"teacher: {shorten(str(result.facts['teacher']))}", **teacher_line()))
    if (baseline := baseline_of(result)) is not None:
        handles.append(Line2D([], [], linestyle="", label=f"* differs from {shorten(baseline)} (paired by seed, Holm)"))
    return handles
