"""Many networks: a matrix of similarities in the order of a tree, the tree, and a map of the networks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram, is_valid_linkage

from figures.calibrated import beside_null
from figures.heatmap import ANNOTATED, MARK, annotate, colour_bar, mark_cells, paint
from figures.labels import LEADING, fit, label_rows, note_below, shorten, text_width, widest
from figures.remarks import first_few, remarks_on
from figures.style import (
    HAIRLINE,
    INK,
    LABEL,
    MARKERS,
    MUTED,
    PAGE_WIDTH,
    PALETTE,
    SMALLEST,
    TITLE,
    colours,
    place,
    sheet,
    style,
)
from figures.words import number
from kdprobe.errors import ResultError
from kdprobe.results import Result

_TREE, _PITCH, _SIDE, _MAP = 78.0, 24.0, 300.0, 235.0  # points: tree's width, rows' most, matrix's most, map's height
_TALLEST = 560.0  # points that a matrix of many networks takes, so that each is named
_NAMES, _ENTRIES = 130.0, 22  # points that names take at most; methods that are named beside the map
_NUMBERED = 24  # networks up to which the seeds of runs stand beside their points
_SIGNS = len(MARKERS) * len(PALETTE)

Look = dict[str, Any]
Mark = tuple[NDArray[np.bool_], str, str]  # cells, why, hatching


@style()
def draw_map(result: Result) -> Figure:
    """Draw a map of networks.

    Args:
        result: of kind "map"; networks without a place, whose pairs are partly undefined, come last in the matrix.

    Returns:
        the figure, one page wide.
    """
    facts, order = result.facts, leaves(result)
    names = [fit(shorten(facts["networks"][index]), LABEL, _NAMES) for index in order]
    width, height, right = _size(names)
    looks, notes, marks = looks_of(facts), _notes(result), _marks(result, order)
    foot = len(notes) * LABEL * LEADING + 8
    figure = sheet(PAGE_WIDTH, height + _MAP + foot + 62 + MARK * len(marks))
    note_below(figure, notes)
    bottom = foot + 26
    _draw_points(place(figure, 34, bottom, PAGE_WIDTH - 34 - 165, _MAP - 12), result, looks)
    corner = (PAGE_WIDTH - 155) / PAGE_WIDTH, (bottom + _MAP - 8) / (figure.get_size_inches()[1] * 72)
    figure.legend(
        handles=_handles(facts, looks), loc="upper left", bbox_to_anchor=corner, borderpad=0.2, borderaxespad=0.0
    )
    top = bottom + _MAP + 24
    axes = place(figure, _TREE + 6, top, width, height)
    image = _draw_matrix(axes, result, order, marks, width / len(order))
    label_rows(axes, names, height / len(order))
    axes.yaxis.tick_right()
    axes.tick_params(axis="y", length=0, pad=2)
    axes.set_xticks([])
    _mark_teachers(axes, [facts["teachers"][index] for index in order])
    _draw_tree(place(figure, 4, top, _TREE, height), result, len(order))
    _draw_scale(figure, image, result, (_TREE + 6 + width + right, top, width, height))
    return figure


def _size(names: Sequence[str]) -> tuple[float, float, float]:
    """Width and height of the matrix, and of the names beside it, in points."""
    right = min(_NAMES, widest(names)) + 12
    legible = min(SMALLEST * LEADING * len(names), _TALLEST)
    height = max(min(_SIDE, _PITCH * len(names)), legible)
    return min(PAGE_WIDTH - _TREE - right - 10, height), height, right


def _marks(result: Result, order: Sequence[int]) -> list[Mark]:
    """The cells of the matrix without a value to show, and why."""
    beside, undefined = beside_null(result), np.isnan(result.arrays["similarity"])
    marks = [(undefined, "undefined", "//////"), *([(beside.chance, beside.words, "")] if beside else [])]
    return [(mask[np.ix_(order, order)], label, hatch) for mask, label, hatch in marks if mask.any()]


def _draw_matrix(axes: Axes, result: Result, order: Sequence[int], marks: Sequence[Mark], pitch: float) -> AxesImage:
    matrix = result.arrays["similarity"][np.ix_(order, order)]
    for mask, _, _ in marks:
        matrix = np.where(mask, np.nan, matrix)
    defined = matrix[~np.isnan(matrix)]
    ends = ends_of(defined)
    image = paint(axes, matrix, ends, colours(*ends))
    if len(order) <= ANNOTATED:
        annotate(axes, image, matrix, [[number(value, 2) for value in row] for row in matrix], pitch)
    if marks:
        mark_cells(axes, marks)
    return image


def ends_of(similarity: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of the colour scale: from the tenth below the lowest similarity, as networks of one sweep are all alike."""
    lowest = float(np.floor(10 * similarity.min(initial=0.9) + 1e-9) / 10)
    return lowest, max(1.0, float(similarity.max(initial=1.0)))


def leaves(result: Result) -> list[int]:
    """The networks in the order of the tree; those without a place behind them."""
    placed = _placed(result)
    own = [placed[leaf] for leaf in _tree(result)["leaves"]] if len(placed) > 1 else placed
    return [*own, *(index for index in range(len(result.facts["networks"])) if index not in placed)]


def looks_of(facts: Mapping[str, Any]) -> list[Look]:
    """Colour and marker of each network: those of its method; teachers are stars."""
    known = zip(facts["methods"], facts["teachers"], strict=True)
    methods = list(dict.fromkeys(name for name, teacher in known if name is not None and not teacher))
    found = []
    for method, teacher in zip(facts["methods"], facts["teachers"], strict=True):
        sign = methods.index(method) % _SIGNS if method in methods else None
        look: Look = {"color": MUTED, "marker": "o", "markersize": 4.6}
        if sign is not None:
            look |= {"color": PALETTE[sign % len(PALETTE)], "marker": MARKERS[sign // len(PALETTE)]}
        found.append({"color": INK, "marker": "*", "markersize": 10.0} if teacher else look)
    return found


def _placed(result: Result) -> list[int]:
    """The networks that have a place on the map and in the tree."""
    found: list[int] = np.flatnonzero(~np.isnan(result.arrays["points"]).any(1)).tolist()
    return found


def _tree(result: Result) -> dict[str, Any]:
    joins, n_placed = np.asarray(result.arrays.get("tree", np.zeros((0, 4))), np.float64), len(_placed(result))
    if len(joins) + 1 != n_placed or not is_valid_linkage(joins):
        raise ResultError(f"in this 'map' result: the array 'tree' is no tree of the {n_placed} networks with a place")
    found: dict[str, Any] = dendrogram(joins, no_plot=True)
    return found


def _draw_tree(axes: Axes, result: Result, n_rows: int) -> None:
    """Joins to the left of the rows that they join, the first one nearest to them."""
    axes.axis("off")
    axes.set_ylim(n_rows - 0.5, -0.5)
    if len(_placed(result)) < 2:
        return
    tree = _tree(result)
    for rows, heights in zip(tree["icoord"], tree["dcoord"], strict=True):
        axes.plot(heights, np.array(rows) / 10 - 0.5, color=INK, linewidth=0.7, solid_joinstyle="miter")
    axes.set_xlim(1.03 * max(float(np.max(tree["dcoord"])), 1e-12), 0)


def _draw_points(axes: Axes, result: Result, looks: Sequence[Look]) -> None:
    points, shares = result.arrays["points"], result.arrays["shares"]
    axes.axhline(0, color=HAIRLINE, linewidth=0.6, zorder=0)
    axes.axvline(0, color=HAIRLINE, linewidth=0.6, zorder=0)
    order = sorted(range(len(points)), key=lambda index: bool(result.facts["teachers"][index]))
    for index in order:
        axes.plot(*points[index], linestyle="", mec="white", mew=0.5, **looks[index])
    _join_methods(axes, result, looks)
    for point, word in zip(points, _words(result.facts), strict=True):
        if word and not np.isnan(point).any():
            axes.annotate(word, point, (3, 3), textcoords="offset points", size=SMALLEST + 0.5, color=MUTED)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    across, up = (f"{100 * share:.0f} % of the squared distances" for share in shares)
    axes.set_xlabel(across, labelpad=2)
    axes.set_ylabel(up, labelpad=2)


def _join_methods(axes: Axes, result: Result, looks: Sequence[Look]) -> None:
    """Lines from each run to the middle of its method's runs."""
    points, methods, teachers = result.arrays["points"], result.facts["methods"], result.facts["teachers"]
    for method in dict.fromkeys(methods):
        places = [at for at in _placed(result) if method is not None and methods[at] == method and not teachers[at]]
        for at in places if len(places) > 1 else []:
            ends = np.stack([points[places].mean(0), points[at]])
            axes.plot(*ends.T, color=looks[at]["color"], linewidth=0.6, alpha=0.6, zorder=1)


def _words(facts: Mapping[str, Any]) -> list[str]:
    """What stands beside each point: the name of a teacher; of few networks the seed of a run, or their names."""
    few, seeds = len(facts["networks"]) <= ANNOTATED, _seeds(facts)
    zipped = zip(facts["networks"], facts["methods"], seeds, facts["teachers"], strict=True)
    return [
        shorten(name, 24) if teacher or (method is None and few) else "" if seed is None else shorten(str(seed), 8)
        for name, method, seed, teacher in zipped
    ]


def _seeds(facts: Mapping[str, Any]) -> list[Any]:
    """The seed of each network; None where there is none, and of all where it tells nothing or there is no room."""
    several = len(set(facts["seeds"]) - {None}) > 1 and len(facts["networks"]) <= _NUMBERED
    return [seed if several else None for seed in facts["seeds"]]


def _mark_teachers(axes: Axes, teachers: Sequence[bool]) -> None:
    for text, is_teacher in zip(axes.get_yticklabels(), _shown(axes, teachers), strict=True):
        if is_teacher:
            text.set_fontweight("bold")


def _shown(axes: Axes, teachers: Sequence[bool]) -> list[bool]:
    """Whether each row whose name is written is a teacher's."""
    return [teachers[round(place)] for place in axes.get_yticks()]


def _draw_scale(figure: Figure, image: AxesImage, result: Result, at: tuple[float, float, float, float]) -> None:
    right, top, side, height = at
    label = f"{result.facts['measure']}, {result.facts['reduce']} features"
    if PAGE_WIDTH - right > 45 and text_width(label, TITLE) < height + 20:
        colour_bar(figure, image, (right, top, height), label)
        return
    sheet_width, sheet_height = figure.get_size_inches() * 72
    bar = figure.colorbar(image, cax=place(figure, _TREE + 6, top - 9, side, 4), orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=1.5, pad=1)
    figure.text((_TREE + 2) / sheet_width, (top - 9) / sheet_height, fit(label, LABEL, _TREE), size=LABEL, ha="right")


def _handles(facts: Mapping[str, Any], looks: Sequence[Look]) -> list[Line2D]:
    """One for each method, for the teachers, and for networks that are neither."""
    found: dict[str, Line2D] = {}
    for method, teacher, look in zip(facts["methods"], facts["teachers"], looks, strict=True):
        name = "teacher" if teacher else "not a run" if method is None else shorten(method, 30)
        found.setdefault(name, Line2D([], [], linestyle="", label=name, mec="white", mew=0.5, **look))
    ordered = sorted(found, key=lambda name: name != "teacher")
    more = len(ordered) - _ENTRIES
    rest = [Line2D([], [], linestyle="", label=f"and {more} more")] if more > 0 else []
    return [*(found[name] for name in ordered[:_ENTRIES]), *rest]


def _notes(result: Result) -> list[str]:
    """What is compared, what the tests say, what is not shown, and what readers have to know."""
    facts = result.facts
    signs = ["numbers: seeds"] if any(seed is not None for seed in _seeds(facts)) else []
    several = max(Counter(method for method in facts["methods"] if method is not None).values(), default=0) > 1
    signs += ["lines: runs of one method"] if several else []
    images = f"{facts['n_samples']} images of {facts['data']}"
    notes = [f"{facts['measure']} of {facts['layers']} on {images}; {'; '.join(['tree: average linkage', *signs])}"]
    tested = [_tested(grouping) for grouping in facts["groupings"] if grouping["p_value"] is not None]
    notes += [f"PERMANOVA: {'; '.join(tested)}"] if tested else []
    unplaced = len(facts["networks"]) - len(_placed(result))
    notes += [f"without a place in tree and map, for undefined pairs: {unplaced} of the networks"] if unplaced else []
    return [*notes, *first_few(remarks_on(result))]


def _tested(grouping: Mapping[str, Any]) -> str:
    words = f"{grouping['of']} explain {100 * grouping['share']:.0f} % of the squared distances"
    return f"{words} (p = {grouping['p_value']:.4f})"
