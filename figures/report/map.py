"""Maps of many networks: the matrix in the order of the tree, the map, and what groups the networks."""

from typing import Any

import numpy as np

from figures.calibrated import Beside, beside_null
from figures.heatmap import ANNOTATED
from figures.labels import shorten_all
from figures.pictures.map import ends_of, leaves, looks_of
from figures.report.cka import by_chance
from figures.report.elements import Chart, Panel, Results, Table, one_below_the_other
from figures.report.traces import HOVER, SERIES, THEMED_INK, THEMED_MUTED, heatmap, hover, numbers
from figures.style import PALETTE
from figures.words import each_with_ends, intervals, number
from kdprobe.formats.map_words import map_findings
from kdprobe.results import Result

_LONGEST = 34  # characters of a name in a legend
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
_MARKS = {"o": 0, "s": 1, "^": 2, "D": 3, "v": 4, "P": 5, "X": 6}


def map_panels(results: Results) -> list[Panel]:
    """A panel for each result of kind "map"."""
    return one_below_the_other(results, _panel)


def _panel(heading: str, result: Result) -> Panel:
    facts = result.facts
    note = (
        f"{facts['measure']} of {facts['layers']}; {len(facts['networks'])} networks, {facts['n_samples']} images of "
        f"{facts['data']}. Networks are the nearer on the map the more alike they are."
    )
    charts, tables = [_matrix(result), _map(result)], [_groupings(result)]
    return Panel(heading, note, charts, tables=tables, findings=list(map_findings(result)))


def _matrix(result: Result) -> Chart:
    facts, order = result.facts, leaves(result)
    places = np.ix_(order, order)
    names = [facts["networks"][index] for index in order]
    pointed = [[_pointed(result, row, column) for column in order] for row in order]
    matrix, beside = result.arrays["similarity"][places], beside_null(result)
    grey = Beside(beside.values[places], beside.chance[places], beside.words) if beside else None
    shown = np.where(grey.chance, np.nan, matrix) if grey else matrix
    defined = matrix[~np.isnan(matrix)]
    ends = ends_of(defined)
    few = len(names) <= ANNOTATED
    texts = [["" if np.isnan(value) else number(value, 2) for value in row] for row in shown] if few else None
    heat = heatmap(shown, pointed, facts["measure"], ends=ends, texts=texts, lines=len(names) <= 2 * ANNOTATED)
    told = each_with_ends(matrix, result.arrays["low"][places], result.arrays["high"][places])
    rows = [[name, *row] for name, row in zip(names, told, strict=True)]
    caption = f"Rows in the order of an average-linkage tree; {facts['reduce']} features, {intervals(facts)}."
    if grey:
        orders = facts["calibration"]["permutations"]
        caption += f" Grey: {grey.words} for all pairs together, from {orders} random orders of the images."
    return Chart(
        name="Similarity of all pairs",
        alt=f"Heatmap of {facts['measure']} between {len(names)} networks, from {number(_least(matrix), 2)} up.",
        caption=caption,
        traces=[heat | {"hoverongaps": False}, *by_chance(grey, heat)],
        layout={"height": int(np.clip(22 * len(names), 260, 760)) + 130, "width": 640},
        titles={"xaxis": "", "yaxis": ""},
        ticks={"xaxis": names, "yaxis": names},
        table=Table(["network", *names], rows),
    )


def _least(matrix: Any) -> float:
    return float(np.nanmin(matrix)) if not np.isnan(matrix).all() else np.nan


def _pointed(result: Result, row: int, column: int) -> str:
    """What the pointer shows of a pair of networks."""
    arrays, names = result.arrays, result.facts["networks"]
    value, low, high = (float(arrays[key][row, column]) for key in ("similarity", "low", "high"))
    ends = "" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    lines = [names[row], names[column], "undefined" if np.isnan(value) else f"{value:.3f}{ends}"]
    if "p_adjusted" in arrays and not np.isnan(p_value := float(arrays["p_adjusted"][row, column])):
        mean = number(float(arrays["null_mean"][row, column]), 3)
        lines.append(f"null: mean {mean}, p = {p_value:.3f} for all pairs")
    return hover(*lines)


def _map(result: Result) -> Chart:
    facts, points = result.facts, result.arrays["points"]
    shares = [f"{100 * share:.0f} % of the squared distances" for share in result.arrays["shares"]]
    rows = [
        [name, *(number(value, 4) for value in point)] for name, point in zip(facts["networks"], points, strict=True)
    ]
    teachers = [name for name, taught in zip(facts["networks"], facts["teachers"], strict=True) if taught]
    return Chart(
        name="Map",
        alt=f"Map of {len(points)} networks; the teachers are {', '.join(teachers) or 'not among them'}.",
        caption="Classical multidimensional scaling of sqrt(2 - 2 s), s the similarity; stars are teachers.",
        traces=_groups(result),
        layout={"height": 480 + 18 * len(set(facts["methods"])), "width": 640, "yaxis": {"scaleanchor": "x"}},
        titles={"xaxis": shares[0], "yaxis": shares[1]},
        ticks={},
        table=Table(["network", "first axis", "second axis"], rows),
    )


def _groups(result: Result) -> list[dict[str, Any]]:
    """A trace for each method."""
    facts, points = result.facts, result.arrays["points"]
    members: dict[str, list[int]] = {}
    for index, (method, teacher) in enumerate(zip(facts["methods"], facts["teachers"], strict=True)):
        members.setdefault("teacher" if teacher else method or "not a run", []).append(index)
    looks, called = looks_of(facts), shorten_all(list(members), _LONGEST)
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": hover(name),
            "showlegend": True,
            "x": numbers(points[places, 0]),
            "y": numbers(points[places, 1]),
            "text": [hover(facts["networks"][place]) for place in places],
            "hovertemplate": HOVER,
            "marker": _marker(looks[places[0]]),
        }
        for name, places in zip(called, members.values(), strict=True)
    ]


def _marker(look: dict[str, Any]) -> dict[str, Any]:
    if look["marker"] == "*":
        return {"symbol": "star", "size": 15, "color": THEMED_INK}
    colour = SERIES[PALETTE.index(look["color"])] if look["color"] in PALETTE else THEMED_MUTED
    return {"symbol": _SYMBOLS[_MARKS[look["marker"]]], "size": 9, "color": colour}


def _groupings(result: Result) -> Table:
    rows = [
        [
            entry["of"],
            str(entry["n_networks"]),
            "-" if entry["share"] is None else f"{100 * entry['share']:.1f} %",
            "-" if entry["f"] is None else f"{entry['f']:.3g}",
            *("-" if entry[key] is None else f"{entry[key]:.4f}" for key in ("p_value", "smallest_p")),
            entry["reason"],
        ]
        for entry in result.facts["groupings"]
    ]
    note = (
        "Do methods lie apart, given the seed, and seeds, given the method? Tested by permutation (PERMANOVA), which "
        "notices groups that spread differently too."
    )
    heads = ["groups", "networks", "share of the squared distances", "pseudo-F", "p", "smallest possible p"]
    return Table([*heads, "not tested because"], rows, note)
