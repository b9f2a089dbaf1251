"""Results of a kind without a section of its own: its picture, if it has one, and its numbers as tables."""

import math
from base64 import b64encode
from itertools import islice, product
from typing import Any

import numpy as np

from figures.pictures.by_kind import draw, has_picture
from figures.report.elements import Gallery, KindSection, Panel, Picture, Results, Table, one_below_the_other
from figures.style import rendered
from kdprobe.formats.labelled import axis_labels
from kdprobe.kinds import find_kind
from kdprobe.results import Result

_MOST = 200  # rows of a table


def section_of(kind: str) -> KindSection:
    """The section of a kind without one of its own."""
    return KindSection(kind.replace("-", " ").capitalize(), any_panels)


def any_panels(results: Results) -> list[Panel]:
    """For each result its picture, and a table for the arrays of each shape."""
    return one_below_the_other(results, _panel)


def _panel(heading: str, result: Result) -> Panel:
    pictures = [_picture(result)] if has_picture(result.kind) else []
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in result.arrays:
        groups.setdefault(_dims(result, name), []).append(name)
    return Panel(heading, _stated(result), pictures, tables=[_table(result, *group) for group in groups.items()])


def _stated(result: Result) -> str:
    """The facts that are a single value."""
    facts = [(key, value) for key, value in result.facts.items() if isinstance(value, str | int | float)]
    return "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in facts)


def _picture(result: Result) -> Gallery:
    address = f"data:image/png;base64,{b64encode(rendered(draw(result), 'png')).decode()}"
    picture = Picture(address, f"Picture of a result of kind {result.kind}; its numbers are in tables.", [])
    return Gallery(result.kind, "", [("", [picture])], table=None, large=True)


def _dims(result: Result, name: str) -> tuple[str, ...]:
    """The names of an array's dimensions; sizes if its kind does not name them."""
    known = find_kind(result.kind).arrays.get(name)
    return tuple(known.dims.split()) if known else tuple(map(str, result.arrays[name].shape))


def _table(result: Result, dims: tuple[str, ...], names: list[str]) -> Table:
    """Arrays with the same dimensions side by side, with a row for each place in them."""
    arrays = [result.arrays[name] for name in names]
    if not dims:
        return Table(["quantity", "value"], [[name, _text(array)] for name, array in zip(names, arrays, strict=True)])
    shape = arrays[0].shape
    places = islice(product(*(enumerate(_labels(result, *axis)) for axis in zip(dims, shape, strict=True))), _MOST)
    rows = [
        [*(label for _, label in place), *(_text(array[tuple(at for at, _ in place)]) for array in arrays)]
        for place in places
    ]
    n_rows = math.prod(shape)
    note = f"The first {_MOST} of {n_rows} rows; all are in the CSV file beside the result." if n_rows > _MOST else ""
    return Table([*("index" if dim.isdigit() else dim.replace("_", " ") for dim in dims), *names], rows, note)


def _labels(result: Result, dim: str, size: int) -> list[str]:
    """What the places along a dimension are called."""
    return list(map(str, axis_labels(find_kind(result.kind), result.facts, dim, size)))


def _text(value: Any) -> str:
    if not np.issubdtype(value.dtype, np.floating):
        return str(value)
    return "-" if np.isnan(value) else f"{value:.6g}"
