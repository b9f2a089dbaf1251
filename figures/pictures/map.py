"""Many networks: a matrix of similarities in the order of a tree, the tree, and a map of the networks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram, is_valid_linkage

from figures.calibrated import beside_null
from figures.heatmap import ANNOTATED, MARK, annotate, colour_bar, mark_cells, paint
from figures.labels import LEADING, fit, label_rows, shorten, shorten_all, text_width, told_apart, widest
from figures.picture import on_figure
from figures.remarks import first_few, remarks_on
from figures.sheet import Legend, Sheet, legend_of, size_of
from figures.style import HAIRLINE, INK, LABEL, MARKERS, MUTED, SMALLEST, TITLE, colours, hue, n_hues, pt
from figures.words import number
from kdprobe.errors import ResultError
from kdprobe.results import Result

_TREE, _PITCH, _SIDE, _MAP = 78.0, 24.0, 300.0, 223.0  # points: tree's width, rows' most, matrix's most, map's height
_TALLEST = 560.0  # points that a matrix of many networks takes, so that each is named
_LEAST = 90.0  # points of matrix and map each, at least
_NAMES, _ENTRIES = 130.0, 22  # points that names take at most; methods that are named beside the map
_LEFT, _FOOT, _GAP = 34.0, 26.0, 24.0  # points beside the map, below it, and between it and the matrix
_KEY, _KEYED = 155.0, 330.0  # points of the legend beside the map, and of a sheet that has room for it there
_NUMBERED = 24  # networks up to which the seeds of runs stand beside their points

Look = dict[str, Any]
Mark = tuple[NDArray[np.bool_], str, str]  # cells, why, hatching


class _Box(NamedTuple):
    """A place on the sheet, in points."""

    left: float
    bottom: float
    width: float
    height: float


@on_figure
def draw_map(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw a map of networks.

    Args:
        result: of kind "map"; networks without a place, whose pairs are partly undefined, come last in the matrix.
        fig: to fill; a new figure of one page if not given.

    Returns:
        the figure: tree and matrix above the map, or beside it where the figure is wide.
    """
    order = leaves(result)
    sheet = Sheet(fig)
    matrix, points, corner = _lay_out(sheet, result, order)
    sheet.note(sheet.lines(_notes(result)))
    looks = looks_of(result.facts)
    _draw_points(sheet.place(*points), result, looks)
    sheet.explain(_legend(result.facts, looks, sheet.width - corner[0]), *corner)
    names, axes = _names_of(result.facts, order, _room(sheet)), sheet.place(*matrix)
    image = _draw_matrix(axes, result, order)
    label_rows(axes, names, matrix.height / len(order))
    axes.yaxis.tick_right()
    axes.tick_params(axis="y", length=0, pad=pt(2))
    axes.set_xticks([])
    _mark_teachers(axes, [result.facts["teachers"][index] for index in order])
    _draw_tree(sheet.place(4, matrix.bottom, matrix.left - 6, matrix.height), result, len(order))
    end = matrix.left + matrix.width + widest(names) + 12
    _draw_scale(sheet, image, result, matrix, end, upright=not sheet.wide and sheet.width - end > 45)
    return sheet.figure


def _room(sheet: Sheet) -> float:
    """Points that tree, matrix and names have."""
    return 0.54 * sheet.width if sheet.wide else sheet.width


def _names_of(facts: Mapping[str, Any], order: Sequence[int], room: float) -> list[str]:
    names = [facts["networks"][index] for index in order]
    return told_apart([fit(shorten(name), LABEL, min(_NAMES, 0.3 * room)) for name in names], names)


def _lay_out(sheet: Sheet, result: Result, order: Sequence[int]) -> tuple[_Box, _Box, tuple[float, float]]:
    """The places of matrix and map, and the upper left corner of the legend: from the left and from above."""
    room, base = _room(sheet), len(sheet.lines(_notes(result))) * LABEL * LEADING + 8 + _FOOT
    names, head = _names_of(result.facts, order, room), MARK * len(_marks(result, order)) + 12
    tree = min(_TREE, 0.18 * room)
    wanted = max(min(_SIDE, _PITCH * len(names)), min(SMALLEST * LEADING * len(names), _TALLEST))
    side = min(room - tree - widest(names) - 22, wanted)
    start = room + 10 if sheet.wide else 0.0
    keyed = not sheet.wide and sheet.width >= _KEYED
    key = _legend(result.facts, looks_of(result.facts), sheet.width - start - 6).height + 10
    if sheet.wide:
        height = sheet.cut(base + head, wanted, max(_LEAST, key + 60))
        points = _Box(start + _LEFT, base + key, sheet.width - start - _LEFT - 8, height + head - key - 8)
        return _Box(tree + 6, base, side, height), points, (start, sheet.height - base + _FOOT - key)
    under = 0.0 if keyed else key
    height = sheet.cut(base + under + _GAP + head, wanted + _MAP, 2 * _LEAST)
    map_height = max(_LEAST, height * _MAP / (wanted + _MAP))
    width = sheet.width - _LEFT - (_KEY + 10 if keyed else 8)
    matrix = _Box(tree + 6, base + under + map_height + _GAP, side, height - map_height)
    corner = (sheet.width - _KEY, matrix.bottom - _GAP) if keyed else (0.0, base - _FOOT + key)
    return matrix, _Box(_LEFT, base + under, width, map_height), (corner[0], sheet.height - corner[1])


def _marks(result: Result, order: Sequence[int]) -> list[Mark]:
    """The cells of the matrix without a value to show, and why."""
    beside, undefined = beside_null(result), np.isnan(result.arrays["similarity"])
    marks = [(undefined, "undefined", "//////"), *([(beside.chance, beside.words, "")] if beside else [])]
    return [(mask[np.ix_(order, order)], label, hatch) for mask, label, hatch in marks if mask.any()]


def _draw_matrix(axes: Axes, result: Result, order: Sequence[int]) -> AxesImage:
    matrix, marks = result.arrays["similarity"][np.ix_(order, order)], _marks(result, order)
    for mask, _, _ in marks:
        matrix = np.where(mask, np.nan, matrix)
    defined = matrix[~np.isnan(matrix)]
    ends = ends_of(defined)
    image = paint(axes, matrix, ends, colours(*ends))
    if len(order) <= ANNOTATED:
        annotate(image, matrix, [[number(value, 2) for value in row] for row in matrix])
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
        look: Look = {"color": MUTED, "marker": "o", "markersize": pt(4.6)}
        if method in methods:
            sign = methods.index(method)
            look |= {"color": hue(sign), "marker": MARKERS[sign // n_hues() % len(MARKERS)]}
        found.append({"color": INK, "marker": "*", "markersize": pt(10)} if teacher else look)
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
        axes.plot(heights, np.array(rows) / 10 - 0.5, color=INK, linewidth=pt(0.7), solid_joinstyle="miter")
    axes.set_xlim(1.03 * max(float(np.max(tree["dcoord"])), 1e-12), 0)


def _draw_points(axes: Axes, result: Result, looks: Sequence[Look]) -> None:
    points, shares = result.arrays["points"], result.arrays["shares"]
    axes.axhline(0, color=HAIRLINE, linewidth=pt(0.6), zorder=0)
    axes.axvline(0, color=HAIRLINE, linewidth=pt(0.6), zorder=0)
    order = sorted(range(len(points)), key=lambda index: bool(result.facts["teachers"][index]))
    for index in order:
        axes.plot(*points[index], linestyle="", mec="white", mew=pt(0.5), **looks[index])
    _join_methods(axes, result, looks)
    middle = (np.nanmin(points[:, 0]) + np.nanmax(points[:, 0])) / 2
    for point, word in zip(points, _words(result.facts), strict=True):
        if word and not np.isnan(point).any():
            side = 1 if point[0] <= middle else -1  # inside the axes
            where: Look = {"textcoords": "offset points", "ha": "left" if side > 0 else "right"}
            axes.annotate(word, point, (side * pt(3), pt(3)), size=pt(SMALLEST + 0.5), color=MUTED, **where)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    across, up = (f"{100 * share:.0f} % of the squared distances" for share in shares)
    axes.set_xlabel(across)
    axes.set_ylabel(fit(up, TITLE, size_of(axes)[1] + 16))


def _join_methods(axes: Axes, result: Result, looks: Sequence[Look]) -> None:
    """Lines from each run to the middle of its method's runs."""
    points, methods, teachers = result.arrays["points"], result.facts["methods"], result.facts["teachers"]
    for method in dict.fromkeys(methods):
        places = [at for at in _placed(result) if method is not None and methods[at] == method and not teachers[at]]
        for at in places if len(places) > 1 else []:
            ends = np.stack([points[places].mean(0), points[at]])
            axes.plot(*ends.T, color=looks[at]["color"], linewidth=pt(0.6), alpha=0.6, zorder=1)


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


def _draw_scale(sheet: Sheet, image: AxesImage, result: Result, at: _Box, end: float, *, upright: bool) -> None:
    """The scale of the colours, beside the names or below the matrix."""
    label = f"{result.facts['measure']}, {result.facts['reduce']} features"
    if upright and text_width(label, TITLE) < at.height + 20:
        colour_bar(image, label, sheet.place(end + 7, at.bottom, 8, at.height))
        return
    bar = sheet.figure.colorbar(image, cax=sheet.place(at.left, at.bottom - 9, at.width, 4), orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=pt(1.5), pad=pt(1))
    bar.ax.locator_params(axis="x", nbins=4)
    if text_width(label, LABEL) < at.left - 6:
        sheet.write(at.left - 4, at.bottom - 9, label, ha="right")


def _legend(facts: Mapping[str, Any], looks: Sequence[Look], room: float) -> Legend:
    """One entry for each method, for the teachers, and for networks that are neither."""
    found: dict[str, Line2D] = {}
    methods = list(dict.fromkeys(method for method in facts["methods"] if method is not None))
    called = dict(zip(methods, shorten_all(methods, 30), strict=True))
    for method, teacher, look in zip(facts["methods"], facts["teachers"], looks, strict=True):
        name = "teacher" if teacher else "not a run" if method is None else called[method]
        found.setdefault(name, Line2D([], [], linestyle="", label=name, mec="white", mew=pt(0.5), **look))
    ordered = sorted(found, key=lambda name: name != "teacher")
    more = len(ordered) - _ENTRIES
    rest = [Line2D([], [], linestyle="", label=f"and {more} more")] if more > 0 else []
    return legend_of([*(found[name] for name in ordered[:_ENTRIES]), *rest], room)


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
