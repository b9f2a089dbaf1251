"""What the page is made of: charts in plotly's JSON, tables, and panels that hold them.

Texts of users (names, paths, reasons) are plain here. They are escaped where they meet markup:
`hover` for plotly, the page's templates for HTML.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from figures import style

Themed = dict[str, Any]  # {"light": value, "dark": value}; the page picks one


@dataclass(frozen=True)
class Table:
    """Numbers to be read: a header and rows of texts."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """One picture.

    Attributes:
        name: what tells it from its neighbours, in a selector or as its heading.
        alt: what is to be seen, in words.
        caption: how it was measured.
        traces: plotly traces.
        layout: plotly layout, without the look that all charts share.
        titles: of the axes (`xaxis`, `yaxis`); the page shortens them to the room there is.
        ticks: names at 0, 1, ... of an axis (`xaxis`, `yaxis`); the page thins them out.
        table: the same numbers.
    """

    name: str
    alt: str
    caption: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any]
    titles: dict[str, str]
    ticks: dict[str, list[str]]
    table: Table


@dataclass(frozen=True)
class Picture:
    """One image among others.

    Attributes:
        source: a `data:` address.
        alt: what it is, in words.
        lines: below it.
    """

    source: str
    alt: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    """Rows of images.

    Attributes:
        name: what tells it from its neighbours, in a selector or as its heading.
        caption: how the images were chosen.
        rows: a heading and its images each.
        table: the same numbers.
    """

    name: str
    caption: str
    rows: Sequence[tuple[str, Sequence[Picture]]]
    table: Table


@dataclass(frozen=True)
class Panel:
    """Charts or galleries that belong together: side by side, or one at a time by a selector.

    Attributes:
        heading: above them; empty for none.
        note: a sentence below the heading.
        charts: at least one, or a table.
        choose: the question that the selector answers ("Pair"); side by side if empty.
        table: always open, above the charts.
    """

    heading: str
    note: str
    charts: Sequence[Chart | Gallery]
    choose: str = ""
    table: Table | None = None


def themed(light: Any, dark: Any) -> Themed:
    """A value for light and one for dark screens."""
    return {"light": light, "dark": dark}


INK = themed(style.INK, "#e7ecf1")
MUTED = themed(style.MUTED, "#93a0ad")
BARE = themed(style.BARE, "#232d39")
SERIES = tuple(
    themed(light, dark)
    for light, dark in zip(
        style.PALETTE,
        ("#55b1e3", "#f59a4c", "#4fc3a1", "#dd8fc6", "#d6bb4a", "#9bd0f2", "#a9abd9"),
        strict=True,
    )
)


def scale(lowest: float, highest: float) -> Themed:
    """Plotly's colour scale for values between the two, as `style.colours`."""
    places = np.linspace(0, 1, 25)
    light = style.colours(lowest, highest)(places)
    dark = style.colours(lowest, highest, rising=style.DARK_RISING, falling=style.DARK_FALLING)(places)
    return themed(*([[float(p), to_hex(c)] for p, c in zip(places, row, strict=True)] for row in (light, dark)))


def numbers(values: NDArray[Any], digits: int = 5) -> Any:
    """Nested lists for JSON; None for NaN."""
    rounded = np.round(values.astype(np.float64), digits)
    return np.where(np.isnan(rounded), np.array(None), rounded.astype(object)).tolist()


def hover(*lines: str) -> str:
    """Text for plotly, which reads markup: each line escaped."""
    return "<br>".join(escape(line) for line in lines)


def breakable(text: str) -> str:
    """Text for HTML that may go on in the next line behind an underscore or slash, as names are long."""
    return re.sub("([_/])", r"\1<wbr>", escape(text))
