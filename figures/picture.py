"""What all functions that draw a result have in common: where they draw, names, colours, and the look of the whole."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, TypeVar

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from figures.style import Palette, figure_of, look_of
from kdprobe.errors import ResultError
from kdprobe.formats.renaming import with_names
from kdprobe.results import Result

Names = Mapping[str, str]
NO_NAMES: Names = MappingProxyType({})
_Picture = TypeVar("_Picture", bound=Artist)
_Function = TypeVar("_Function", bound=Callable[..., object])


class DrawsAxes(Protocol):
    """A function that draws a result into one panel."""

    def __call__(
        self,
        result: Result,
        *,
        ax: Axes | None = None,
        fig: FigureBase | None = None,
        names: Names = NO_NAMES,
        palette: Palette | None = None,
    ) -> Axes:
        """The axes: `ax`, new ones that fill `fig`, or those of a new figure."""


class DrawsFigure(Protocol):
    """A function that draws a result into several panels."""

    def __call__(
        self,
        result: Result,
        *,
        fig: FigureBase | None = None,
        names: Names = NO_NAMES,
        palette: Palette | None = None,
    ) -> FigureBase:
        """The figure: `fig`, which may be a part of one, or a new one."""


def on_axes(drawn: Callable[[Result, Axes | None, FigureBase | None], Axes]) -> DrawsAxes:
    """Give a function that draws into one panel its options.

    Args:
        drawn: called with the result, and with axes or a figure where one of them was given; returns the axes.
    """

    @_named_after(drawn)
    def draw(
        result: Result,
        *,
        ax: Axes | None = None,
        fig: FigureBase | None = None,
        names: Names = NO_NAMES,
        palette: Palette | None = None,
    ) -> Axes:
        if ax is not None and fig is not None:
            raise ResultError("a picture is drawn into ax or into fig, but both are given")
        with look_of(given=ax is not None or fig is not None, palette=palette):
            return _settled(drawn(with_names(result, names), ax, fig))

    return draw


def on_figure(drawn: Callable[[Result, FigureBase | None], FigureBase]) -> DrawsFigure:
    """Give a function that draws into several panels its options.

    Args:
        drawn: called with the result, and with a figure where one was given; returns the figure.
    """

    @_named_after(drawn)
    def draw(
        result: Result,
        *,
        fig: FigureBase | None = None,
        names: Names = NO_NAMES,
        palette: Palette | None = None,
    ) -> FigureBase:
        with look_of(given=fig is not None, palette=palette):
            return _settled(drawn(with_names(result, names), fig))

    return draw


def _named_after(drawn: Callable[..., object]) -> Callable[[_Function], _Function]:
    """Give a function the name and the documentation of the one that it calls; its parameters are its own."""

    def name(function: _Function) -> _Function:
        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(function, attribute, getattr(drawn, attribute))
        return function

    return name


def _settled(picture: _Picture) -> _Picture:
    """The same with its ticks made, in the look that is in force now and not in that of the time when it is shown."""
    for axes in figure_of(picture).axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_ticks()
    return picture
