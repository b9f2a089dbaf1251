"""Arrays of results with names along their dimensions: as tables for pandas and xarray, and as a short page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdprobe.errors import ResultError
from kdprobe.formats.schema import Kind, List

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Arrays = Mapping[str, NDArray[Any]]
_HEAD = 5  # rows of a table that stand for all
_WIDE = 6  # columns of it


def dims_of(kind: Kind, name: str, array: NDArray[Any]) -> tuple[str, ...]:
    """The names of an array's dimensions; of those without one, the array's own with their number.

    Args:
        kind: of the result.
        name: of the array.
        array: itself.
    """
    known = kind.arrays.get(name)
    dims = known.dims.split() if known else [str(size) for size in array.shape]
    return tuple(f"{name}_{place}" if dim.isdigit() else dim for place, dim in enumerate(dims))


def axis_labels(kind: Kind, facts: Mapping[str, Any], dim: str, size: int) -> list[Any]:
    """What the places along a dimension are called: as in the fact that lists them, or by their numbers."""
    if dim == "interval":
        return ["value", "low", "high"]
    sides = [fact for name in ("teacher_layers", "student_layers") if (fact := kind.facts.get(name)) is not None]
    if len(sides) == 2 and all(isinstance(fact, List) and fact.dim == dim for fact in sides):
        pairs = zip(facts["teacher_layers"], facts["student_layers"], strict=True)
        return [f"{teacher} / {student}" for teacher, student in pairs]
    for name, fact in kind.facts.items():
        if isinstance(fact, List) and fact.dim == dim and name in facts:
            labels = facts[name]
            if all(isinstance(label, str | int | float) for label in labels):
                return list(labels)
    return list(range(size))


def frames(kind: Kind, arrays: Arrays, facts: Mapping[str, Any]) -> "dict[str, pd.DataFrame]":
    """A tidy table for the arrays of each shape: a row for each place, a column for each dimension and each array.

    Returns:
        the tables by the names of their dimensions, `methods seeds`; numbers without any are under an empty name.
    """
    import pandas as pd

    found = {}
    for dims, names in _groups(kind, arrays).items():
        places = _places(kind, facts, dims, arrays[names[0]].shape)
        columns = dict(zip(_heads(dims, names), zip(*places, strict=True), strict=True)) if dims else {}
        found[" ".join(dims)] = pd.DataFrame({**columns, **{name: arrays[name].ravel() for name in names}})
    return found


def as_dataset(kind: Kind, arrays: Arrays, facts: Mapping[str, Any], about: Mapping[str, Any]) -> "xr.Dataset":
    """All arrays with their dimensions and the names along them.

    Args:
        kind: of the result.
        arrays: of it.
        facts: of it; those that are a single value become attributes.
        about: further attributes.

    Raises:
        ResultError: if xarray is not installed.
    """
    try:
        import xarray as xr
    except ImportError as error:
        raise ResultError("a result as an xarray Dataset needs the package xarray; install it first") from error
    variables = {name: (dims_of(kind, name, array), array) for name, array in arrays.items()}
    sizes = {dim: size for dims, array in variables.values() for dim, size in zip(dims, array.shape, strict=True)}
    coords = {dim: axis_labels(kind, facts, dim, size) for dim, size in sizes.items() if dim not in variables}
    single = {key: value for key, value in facts.items() if isinstance(value, str | int | float)}
    return xr.Dataset(variables, coords=coords, attrs={**single, **about})


def page_of(kind: Kind, title: str, arrays: Arrays, facts: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """A result in a few lines of HTML: the first rows of a table, the shapes of all arrays, and where it comes from.

    Args:
        kind: of the result.
        title: the kind's name.
        arrays: of it.
        facts: of it.
        origin: its provenance.
    """
    groups = _groups(kind, arrays)
    small = [dims for dims in groups if len(dims) < 3 and all(arrays[name].dtype != np.uint8 for name in groups[dims])]
    dims = max(small, key=lambda one: (len(groups[one]), len(one)), default=None)
    shapes = "; ".join(_shape(one, names, arrays) for one, names in groups.items())
    version = origin.get("versions", {}).get("kdprobe", "")
    lines = [f"<p><strong>{escape(title)}</strong> ({escape(str(facts.get('data', '')))})</p>".replace(" ()", "")]
    lines += [_table(kind, facts, dims, groups[dims][:_WIDE], arrays)] if dims is not None else []
    lines.append(f"<p>{escape(shapes)}</p>")
    lines.append(
        f"<p><code>{escape(str(origin.get('command') or 'no command is stored'))}</code> {escape(version)}</p>"
    )
    return "\n".join(lines)


def _shape(dims: tuple[str, ...], names: Sequence[str], arrays: Arrays) -> str:
    """Arrays and their dimensions: `accuracy, uar [methods 3, seeds 5]`."""
    sizes = (f"{dim} {size}" for dim, size in zip(dims, arrays[names[0]].shape, strict=True))
    return f"{', '.join(names)} [{', '.join(sizes)}]"


def _table(kind: Kind, facts: Mapping[str, Any], dims: tuple[str, ...], names: Sequence[str], arrays: Arrays) -> str:
    """The first rows of a tidy table."""
    shape = arrays[names[0]].shape
    rows = zip(_places(kind, facts, dims, shape), product(*map(range, shape)), strict=True)
    body = [
        [*map(str, labels), *(_shown(arrays[name][place]) for name in names)] for labels, place in islice(rows, _HEAD)
    ]
    heads = [*_heads(dims, names), *names]
    lines = [f"<tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in body]
    more = math.prod(shape) - len(body)
    return f"<table>{''.join(lines)}</table>" + (f"<p>and {more} more rows</p>" if more else "")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if np.issubdtype(value.dtype, np.floating) else str(value)


def _groups(kind: Kind, arrays: Arrays) -> dict[tuple[str, ...], list[str]]:
    """The arrays that have the same dimensions."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, array in arrays.items():
        groups.setdefault(dims_of(kind, name, array), []).append(name)
    return groups


def _places(
    kind: Kind, facts: Mapping[str, Any], dims: Sequence[str], shape: Sequence[int]
) -> Iterator[tuple[Any, ...]]:
    return product(*(axis_labels(kind, facts, dim, size) for dim, size in zip(dims, shape, strict=True)))


def _heads(dims: Sequence[str], names: Sequence[str]) -> list[str]:
    """Names of the columns of dimensions, which arrays may bear too."""
    return [f"{dim} (place)" if dim in names else dim for dim in dims]
