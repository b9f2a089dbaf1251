"""Where each network puts the test images, a panel per network."""

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.labels import LEADING, head, note_below
from figures.style import LABEL, MARKERS, MUTED, PAGE_WIDTH, PALETTE, place, sheet, style
from figures.words import percentage
from kdprobe.results import Result

_ACROSS, _GAP, _HEAD, _FOOT = 4, 10.0, 26.0, 16.0
_NAMED = 14  # classes that have a colour and a mark of their own


@style()
def draw_images(result: Result) -> Figure:
    """Draw the places of test images.

    Args:
        result: of kind "images"; `coordinates` [names, images, 2].

    Returns:
        the figure, one page wide: a panel per network, classes by colours and marks; with many classes, right and
        wrong answers instead.
    """
    facts, n = result.facts, len(result.facts["names"])
    across = min(_ACROSS, max(n, 2))
    side = (PAGE_WIDTH - 8 - _GAP * (across - 1)) / across
    down = math.ceil(n / across)
    groups = 1 + (len(facts["classes"]) > 7) if len(facts["classes"]) <= _NAMED else 1
    foot = LABEL * LEADING * (1 + groups) + 10
    total = down * (_HEAD + side + _FOOT) + foot
    figure = sheet(PAGE_WIDTH, total)
    for number, name in enumerate(facts["names"]):
        row, column = divmod(number, across)
        bottom = total - (row + 1) * (_HEAD + side + _FOOT) + _FOOT
        axes = place(figure, 4 + column * (side + _GAP), bottom, side, side)
        _scatter(axes, result, number)
        right = (result.arrays["predictions"][number] == result.arrays["targets"]).mean()
        head(axes, name, f"{facts['roles'][number]}, accuracy {percentage(right)}", side, 4)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 12 / total), ncols=7, handletextpad=0.1)
    how = {"pca": "the two directions of the largest variance", "umap": "UMAP"}[facts["projection"]]
    note_below(figure, [f"{facts['n_images']} images of {facts['data']}; pooled features, {how}"])
    return figure


def _scatter(axes: Axes, result: Result, number: int) -> None:
    """The places in one network."""
    arrays, classes = result.arrays, result.facts["classes"]
    places, targets = arrays["coordinates"][number], arrays["targets"]
    size = max(1.2, min(4.0, 60 / math.sqrt(len(targets))))
    looks: dict[str, Any] = {"linestyle": "", "markersize": size, "mew": 0, "alpha": 0.75}
    if len(classes) <= _NAMED:
        for place_, label in enumerate(classes):
            mine = places[targets == place_]
            colour, mark = PALETTE[place_ % len(PALETTE)], MARKERS[place_ // len(PALETTE) * 2]
            axes.plot(*mine.T, mark, color=colour, label=label[:24], **looks)
    else:
        right = arrays["predictions"][number] == targets
        for label, mine, colour, mark in (("right", right, MUTED, "o"), ("wrong", ~right, PALETTE[1], "s")):
            axes.plot(*places[mine].T, mark, color=colour, label=label, **looks)
    axes.set_xticks([])
    axes.set_yticks([])
    if result.facts["projection"] == "pca":
        shares = [f"{100 * share:.0f} %" for share in arrays["shares"][number]]
        axes.set_xlabel(f"{shares[0]} of the variance →, {shares[1]} ↑", labelpad=2, size=LABEL)
