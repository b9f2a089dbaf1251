"""What a picture is laid out on: a new figure or a part of a given one, measured in points of a paper.

A picture asks how wide the sheet is, adds up what it needs, cuts the sheet to that height and places its panels. A
figure that was given has its own height; its panels take what the rest leaves to them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase, SubFigure
from matplotlib.text import Text

from figures.labels import LEADING, LEGEND_LEADING, in_lines, widest
from figures.style import LABEL, is_wide, new_width, pt, type_scale
from kdprobe.errors import ResultError

_HANDLE = 36.0  # points of an entry of a legend beside its text
_FORMAT = 9 / 16  # height of a wide picture as a part of its width, at most
_WIDE = 1.3  # width of a given figure as a multiple of its height, from which on it counts as wide


class Sheet:
    """A rectangle with its origin at the lower left; all lengths are points of the layout.

    Args:
        figure: to draw into; a new one, outside of any global state, where there is none.
        columns: 1 or 2: how wide a new one is in a paper.

    Attributes:
        width: of the sheet.
        height: of the sheet, once it is cut.
        wide: whether things had better stand beside than below each other.
    """

    def __init__(self, figure: FigureBase | None, *, columns: int = 2) -> None:
        self._given = figure
        self.width = new_width(columns) if figure is None else _size(figure)[0]
        self.height = 0.0
        self.wide = is_wide() if figure is None else self.width > _WIDE * _size(figure)[1]

    @property
    def figure(self) -> FigureBase:
        """What is drawn into, once the sheet is cut."""
        assert self._given is not None
        return self._given

    def cut(self, fixed: float, panels: float, least: float) -> float:
        """Cut the sheet to its height, and say which part of it is the panels'.

        Args:
            fixed: what everything but the panels takes.
            panels: what these take where there is room.
            least: what they need.

        Raises:
            ResultError: if a given figure is lower than that.
        """
        if self._given is not None:
            self.height = _size(self._given)[1]
            if self.height - fixed < least:
                here, needed = (round(pt(points) / 72 * 25.4) for points in (self.height, fixed + least))
                raise ResultError(
                    f"this picture needs {needed} mm of height at this width and size of type, but its figure has "
                    f"{here} mm"
                )
            return self.height - fixed
        found = max(least, min(panels, self.width * _FORMAT - fixed)) if is_wide() else max(least, panels)
        self.height = fixed + found
        self._given = Figure(figsize=(pt(self.width) / 72, pt(self.height) / 72))
        FigureCanvasAgg(self._given)
        return found

    def place(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """New axes."""
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def write(self, x: float, y: float, text: str, *, size: float = LABEL, **looks: Any) -> Text:
        """A text at a point."""
        return self.figure.text(x / self.width, y / self.height, text, size=pt(size), **looks)

    def lines(self, notes: Sequence[str], size: float = LABEL, left: float = 6.0) -> list[str]:
        """Sentences in lines that, begun `left` points from the edge, are as wide as the sheet at most."""
        return in_lines(notes, size, 0.95 * (self.width - 6 - left))

    def note(self, lines: Sequence[str], **looks: Any) -> None:
        """Write lines above the lower edge; each takes `LABEL * LEADING` points."""
        for line, text in enumerate(reversed(lines)):
            self.write(6, 3 + line * LABEL * LEADING, text, va="bottom", **looks)

    def explain(self, legend: "Legend", left: float, top: float = 0.0) -> None:
        """Draw a legend with its upper left corner `top` points below the upper edge."""
        self.figure.legend(
            handles=legend.handles,
            loc="upper left",
            bbox_to_anchor=(left / self.width, 1 - top / self.height),
            ncols=legend.across,
            borderpad=0.2,
            borderaxespad=0.2,
        )


class Legend(NamedTuple):
    """Entries side by side, as many as there is room for, and the points that all their lines take."""

    handles: Sequence[Artist]
    across: int
    height: float


def legend_of(handles: Sequence[Artist], room: float) -> Legend:
    """A legend that is `room` points wide at most."""
    across = max(1, min(len(handles), int(room // (widest([str(one.get_label()) for one in handles]) + _HANDLE))))
    return Legend(handles, across, LABEL * LEGEND_LEADING * -(-len(handles) // across) + 6)


def size_of(axes: Axes) -> tuple[float, float]:
    """Width and height of axes."""
    return _in_points(axes, axes.bbox)


def _size(figure: FigureBase) -> tuple[float, float]:
    assert isinstance(figure, Figure | SubFigure)
    return _in_points(figure, figure.bbox)


def _in_points(artist: Artist, box: Any) -> tuple[float, float]:
    figure = artist.get_figure(root=True)
    assert isinstance(figure, Figure)
    per_point = figure.dpi / 72 * type_scale()
    return box.width / per_point, box.height / per_point
