"""Where each network puts the test images, a panel per network."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D

from figures.grid import grid_of
from figures.labels import LEADING, fit, head
from figures.picture import on_figure
from figures.sheet import Sheet, legend_of, size_of
from figures.style import LABEL, MARKERS, MUTED, hue, n_hues, pt
from figures.words import percentage
from kdprobe.results import Result

_GAP, _HEAD, _FOOT = 10.0, 26.0, 16.0
_NARROWEST = 105.0  # points of a panel that stands beside another one, at least
_NAMED = 14  # classes that have a colour and a mark of their own


@on_figure
def draw_images(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw the places of test images.

    Args:
        result: of kind "images"; `coordinates` [names, images, 2].
        fig: to fill; a new figure of one page if not given.

    Returns:
        the figure: a panel per network, classes by colours and marks; with many classes, right and wrong answers
        instead.
    """
    facts, sheet = result.facts, Sheet(fig)
    grid = grid_of(max(2, len(facts["names"])), sheet.width, left=4, gap=_GAP, least=_NARROWEST, most=4, right=4)
    grid = replace(grid, n=len(facts["names"]))
    legend = legend_of(_handles(facts["classes"]), sheet.width - 12)
    how = {"pca": "the two directions of the largest variance", "umap": "UMAP"}[facts["projection"]]
    notes = sheet.lines([f"{facts['n_images']} images of {facts['data']}; pooled features, {how}"])
    base = LABEL * LEADING * len(notes) + 8 + legend.height
    fixed = base + grid.down * (_HEAD + _FOOT)
    height = sheet.cut(fixed, grid.down * grid.width, grid.down * grid.width / 2) / grid.down
    for number, axes in enumerate(grid.place(sheet, base, _FOOT, height, _HEAD)):
        _scatter(axes, result, number)
        right = (result.arrays["predictions"][number] == result.arrays["targets"]).mean()
        words = f"{facts['roles'][number]}, accuracy {percentage(right)}"
        head(axes, facts["names"][number], words, grid.width, 4)
    sheet.explain(legend, 3, sheet.height - base + 4)
    sheet.note(notes)
    return sheet.figure


def _handles(classes: Sequence[str]) -> list[Line2D]:
    looks: dict[str, Any] = {"linestyle": "", "markersize": pt(4), "mew": 0, "alpha": 0.75}
    if len(classes) > _NAMED:
        return [
            Line2D([], [], color=colour, marker=sign, label=label, **looks)
            for label, (colour, sign) in zip(("right", "wrong"), _answers(), strict=True)
        ]
    return [
        Line2D([], [], color=hue(place), marker=_sign(place), label=name[:24], **looks)
        for place, name in enumerate(classes)
    ]


def _answers() -> tuple[tuple[str, str], tuple[str, str]]:
    """Colour and mark of right and of wrong answers."""
    return (MUTED, "o"), (hue(1), "s")


def _sign(place: int) -> str:
    return MARKERS[place // n_hues() * 2 % len(MARKERS)]


def _scatter(axes: Axes, result: Result, number: int) -> None:
    """The places in one network."""
    arrays, classes = result.arrays, result.facts["classes"]
    places, targets = arrays["coordinates"][number], arrays["targets"]
    size = max(1.2, min(4.0, 60 / math.sqrt(len(targets))))
    looks: dict[str, Any] = {"linestyle": "", "markersize": pt(size), "mew": 0, "alpha": 0.75}
    if len(classes) <= _NAMED:
        for place, label in enumerate(classes):
            axes.plot(*places[targets == place].T, _sign(place), color=hue(place), label=label[:24], **looks)
    else:
        right = arrays["predictions"][number] == targets
        answers = zip(("right", "wrong"), (right, ~right), _answers(), strict=True)
        for label, mine, (colour, sign) in sorted(answers, key=lambda one: -int(one[1].sum())):  # the rarer on top
            axes.plot(*places[mine].T, sign, color=colour, label=label, **looks)
    axes.set_xticks([])
    axes.set_yticks([])
    if result.facts["projection"] == "pca":
        shares = [f"{100 * share:.0f} %" for share in arrays["shares"][number]]
        text = f"{shares[0]} of the variance →, {shares[1]} ↑"
        axes.set_xlabel(fit(text, LABEL, size_of(axes)[0]), size=pt(LABEL))
