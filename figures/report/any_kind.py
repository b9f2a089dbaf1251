"""Results of a kind without a section of its own: its picture, if it has one, and its numbers as tables."""

import math
from base64 import b64encode
from itertools import islice
from typing import Any

import numpy as np

from figures.pictures.by_kind import draw, has_picture
from figures.report.elements import Gallery, Panel, Picture, Results, Section, Table
from figures.style import rendered
from kdprobe.results import Result, naming

_MOST = 200  # rows of a table


def section_of(kind: str) -> Section:
    """The section of a kind that is not known here."""
    return Section(kind.replace("-", " ").capitalize(), _all_panels)


def _all_panels(results: Results) -> list[Panel]:
    panels = []
    for name, result in results:
        with naming(name):
            panels += _panels(name if len(results) > 1 else "", result)
    return panels


def _panels(heading: str, result: Result) -> list[Panel]:
    """What the result states with its picture, and a table for each shape of its arrays."""
    pictures = [_picture(result)] if has_picture(result.kind) else []
    shapes = dict.fromkeys(array.shape for array in result.arrays.values())
    return [
        Panel(heading, _stated(result), pictures),
        *(Panel("", _cut(shape), [], table=_table(result, shape)) for shape in shapes),
    ]


def _stated(result: Result) -> str:
    """The facts that are one value each."""
    facts = [(key, value) for key, value in result.facts.items() if isinstance(value, str | int | float)]
    return "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in facts)


def _picture(result: Result) -> Gallery:
    address = f"data:image/png;base64,{b64encode(rendered(draw(result), 'png')).decode()}"
    picture = Picture(address, f"Picture of a result of kind {result.kind}; its numbers are below.", [])
    return Gallery(result.kind, "", [("", [picture])], table=None, large=True)


def _cut(shape: tuple[int, ...]) -> str:
    n_rows = math.prod(shape)
    return f"The first {_MOST} of {n_rows} rows; all are in the CSV file beside the result." if n_rows > _MOST else ""


def _table(result: Result, shape: tuple[int, ...]) -> Table:
    """The arrays of a shape side by side, with a row for each place in them; single numbers below each other."""
    arrays = {key: array for key, array in result.arrays.items() if array.shape == shape}
    if not shape:
        return Table(["quantity", "value"], [[key, _text(array[()])] for key, array in arrays.items()])
    heads = ["index"] if len(shape) == 1 else [f"index {axis}" for axis in range(1, len(shape) + 1)]
    places = islice(np.ndindex(shape), _MOST)
    rows = [[*map(str, place), *(_text(array[place]) for array in arrays.values())] for place in places]
    return Table([*heads, *arrays], rows)


def _text(value: Any) -> str:
    if not np.issubdtype(value.dtype, np.floating):
        return str(value)
    return "-" if np.isnan(value) else f"{value:.6g}"
