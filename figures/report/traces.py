"""Plotly traces in the colours of the report; texts are escaped, because plotly reads markup."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from figures import style

Themed = dict[str, Any]  # {"light": value, "dark": value}; the page picks one
HOVER = "%{text}<extra></extra>"  # a trace's own text under the pointer, and nothing else


def themed(light: Any, dark: Any) -> Themed:
    """A value for light and one for dark screens."""
    return {"light": light, "dark": dark}


THEMED_INK = themed(style.INK, "#e7ecf1")
THEMED_MUTED = themed(style.MUTED, "#93a0ad")
SERIES = tuple(
    themed(light, dark)
    for light, dark in zip(
        style.PALETTE,
        ("#55b1e3", "#f08a4b", "#4fc3a1", "#dd8fc6", "#e8c04a", "#9bd0f2", "#e7ecf1"),
        strict=True,
    )
)


def scale(lowest: float, highest: float) -> Themed:
    """Plotly's colour scale for values between the two, the same as `style.colours`."""
    places = np.linspace(0, 1, 25)
    light = style.colours(lowest, highest)(places)
    dark = style.colours(lowest, highest, rising=style.DARK_RISING, falling=style.DARK_FALLING)(places)
    return themed(*([[float(p), to_hex(c)] for p, c in zip(places, row, strict=True)] for row in (light, dark)))


def numbers(values: NDArray[Any], digits: int = 5) -> Any:
    """Nested lists for JSON; None for NaN."""
    rounded = np.round(values.astype(np.float64), digits)
    return np.where(np.isnan(rounded), np.array(None), rounded.astype(object)).tolist()


def hover(*lines: str) -> str:
    """Lines of text for plotly, which reads markup: each is escaped."""
    return "<br>".join(escape(line) for line in lines)


def heatmap(
    values: NDArray[Any],
    pointed: Sequence[Sequence[str]],
    title: str,
    *,
    ends: tuple[float, float] | None = (0.0, 1.0),
    texts: Sequence[Sequence[str]] | None = None,
    lines: bool = True,
    digits: int = 4,
) -> dict[str, Any]:
    """The cells of a matrix in colours.

    Args:
        values: [rows, columns], NaN where there is nothing.
        pointed: what the pointer shows of each cell, from `hover`.
        title: the colour bar's title.
        ends: the lowest and the highest value of the colour scale; None for those of the values.
        texts: written into the cells, if they are large enough.
        lines: whether there are lines between the cells.
        digits: decimal places of the values.
    """
    return {
        "type": "heatmap",
        "z": numbers(values, digits),
        **({} if ends is None else {"zmin": ends[0], "zmax": ends[1]}),
        "colorscale": scale(*(ends or (0.0, 1.0))),
        "customdata": pointed,
        "hovertemplate": "%{customdata}<extra></extra>",
        "text": texts,
        "texttemplate": None if texts is None else "%{text}",
        "textfont": {"shadow": "auto"},  # legible on the colours in the middle of the scale as well
        "xgap": int(lines),
        "ygap": int(lines),
        "colorbar": {"title": {"text": title, "side": "right"}, "thickness": 12, "outlinewidth": 0},
    }


def error_bars(percent: NDArray[np.float64], colour: Themed, thickness: float) -> dict[str, Any]:
    """Horizontal intervals of [n, 3] (value, low, high) around their values."""
    value, low, high = percent.T
    return {
        "type": "data",
        "symmetric": False,
        "array": numbers(high - value, 3),
        "arrayminus": numbers(value - low, 3),
        "thickness": thickness,
        "width": 4,
        "color": colour,
    }


def whole_steps(numbers: Sequence[int]) -> dict[str, Any]:
    """What an axis of whole numbers needs where there are so few that plotly would write halves too."""
    return {"dtick": 1} if max(numbers) - min(numbers) < 8 else {}


def dashed_line(**ends: float | str) -> dict[str, Any]:
    """A line for orientation, from `x0`, `y0` to `x1`, `y1`."""
    return {"type": "line", **ends, "line": {"color": THEMED_MUTED, "width": 1.5, "dash": "dash"}}
