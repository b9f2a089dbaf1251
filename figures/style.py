"""The look that all pictures share: sizes, fonts, colours, and files that are the same each time.

Lengths are points (1/72 inch) of a paper, which a style or the user's own font size scales by one factor: pictures are
laid out in these, and whatever is drawn in real points goes through `pt`. Colours keep their order for colour-blind
readers and in grey print.
"""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.fonts import families
from kdprobe.errors import ConfigError, OutputError, meant, near_matches
from kdprobe.formats.outputs import write_sealed

Palette = str | Sequence[Any]  # a name that seaborn or matplotlib knows, or colours

TITLE, LABEL, SMALLEST = 7.5, 6.5, 4.5  # font sizes

INK, MUTED, HAIRLINE, BARE, CHANCE = "#1d2733", "#66717d", "#d5dae0", "#eef1f3", "#c4cad1"
# Okabe and Ito's colours without their yellow, which is hardly seen on white
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
ACCENT = PALETTE[1]
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# lightness falls evenly from end to end in both; together they meet at zero
RISING = ("#f4f6f2", "#add7cf", "#6cb4bb", "#3c8dab", "#236696", "#1c4077", "#151f4d")
FALLING = ("#f4f6f2", "#eebf97", "#d78b54", "#b15d27", "#7c3a10")
# the same on a dark screen, where strong means bright
DARK_RISING = ("#1c2634", "#1d4780", "#24739f", "#4aa1b4", "#8fcac4", "#cfe6dc")
DARK_CHANCE = "#4a545f"
DARK_FALLING = ("#1c2634", "#7c3a10", "#b9622a", "#e29a63", "#f3d3b4")

FORMATS = ("pdf", "png", "svg")
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}
_FILES: Any = {
    "savefig.dpi": 300.0,
    "pdf.fonttype": 42,  # whole TrueType outlines, as publishers ask
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "kdprobe",
}
_SETTINGS: Any = _FILES | {
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": HAIRLINE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "figure.dpi": 100.0,
}
_SCALED = {
    "font.size": LABEL,
    "axes.titlesize": TITLE,
    "axes.labelsize": TITLE,
    "xtick.labelsize": LABEL,
    "ytick.labelsize": LABEL,
    "legend.fontsize": LABEL,
    "axes.linewidth": 0.6,
    "axes.labelpad": 2.0,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.0,
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    **{f"{axis}tick.major.{what}": size for axis in "xy" for what, size in (("size", 2.0), ("width", 0.6))},
    **{f"{axis}tick.major.pad": 3.0 for axis in "xy"},
}


@dataclass(frozen=True)
class _Style:
    """How much larger than on paper everything is, and how wide, in points, a column and a page are."""

    scale: float
    column: float
    page: float
    wide: bool  # whether pictures are as wide as the page, and lower than they are wide


# 3.25 and 6.875 inches; 6 and 12 of the 13.33 inches of a slide
_STYLES = {"paper": _Style(1.0, 234.0, 495.0, wide=False), "slides": _Style(2.0, 432.0, 864.0, wide=True)}
NARROWEST, WIDEST = 60.0, 1000.0  # millimetres


@dataclass(frozen=True)
class _Look:
    """What is in force while something is drawn: the style, the width asked for in points, and the palette."""

    style: _Style
    width: float | None = None
    palette: tuple[str, ...] = ()


_LOOK: ContextVar[_Look | None] = ContextVar("look", default=None)


@contextmanager
def drawing_style(
    name: str = "paper", *, width: str | float | None = None, palette: Palette | None = None
) -> Iterator[None]:
    """The look of pictures, for everything that is drawn inside `with`, one's own axes too.

    Without it, pictures in a figure of their own look as on paper, and those in given axes as matplotlib is set.

    Args:
        name: `paper`, small type that is read at the width of a column, or `slides`, type and lines of twice the size,
            as wide as a slide.
        width: of new figures: millimetres, `column` (82.6 mm on paper, half of a slide) or `page` (174.6 mm, or the
            slide's 304.8 mm); as the picture needs if not given.
        palette: as for `draw`.

    Raises:
        ConfigError: for a style, a width or a palette that there is not.

    Example:
        >>> import figures
        >>> import matplotlib as mpl
        >>> with figures.drawing_style("slides"):
        ...     print(mpl.rcParams["font.size"])
        13.0
    """
    if name not in _STYLES:
        raise ConfigError(f"a style is paper or slides, but got {name!r}{near_matches(name, _STYLES)}")
    style = _STYLES[name]
    look = _Look(style, None if width is None else _points(width, style), _colours_of(palette))
    with mpl.rc_context(), _looking(look):
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(_SETTINGS | {key: size * style.scale for key, size in _SCALED.items()})
        mpl.rcParams["font.family"] = families()
        mpl.rcParams["axes.prop_cycle"] = cycler(color=look.palette or PALETTE)
        yield


@contextmanager
def look_of(*, given: bool, palette: Palette | None) -> Iterator[None]:
    """What is in force while one picture is drawn: what already is, or, in a figure of its own, the style of papers."""
    look = _LOOK.get()
    if look is None and not given:
        with drawing_style(palette=palette):
            yield
    else:
        look = look or _Look(_STYLES["paper"])
        with _looking(look if palette is None else replace(look, palette=_colours_of(palette))):
            yield


@contextmanager
def _looking(look: _Look) -> Iterator[None]:
    before = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(before)


def _points(width: str | float, style: _Style) -> float:
    """A width in real points."""
    if width in ("column", "page"):
        return style.column if width == "column" else style.page
    try:
        millimetres = float(width)
    except ValueError:
        millimetres = math.nan
    least = NARROWEST * style.scale
    if not least <= millimetres <= WIDEST:
        raise ConfigError(
            f"a width is column, page, or a number of millimetres from {least:g} to {WIDEST:g}, but got {width!r}"
        )
    return millimetres / 25.4 * 72


def _colours_of(palette: Palette | None) -> tuple[str, ...]:
    """The colours of a palette as hexadecimal numbers; none for none."""
    if palette is None:
        return ()
    try:
        if isinstance(palette, str):
            import seaborn as sns

            palette = sns.color_palette(palette, None if palette in sns.palettes.SEABORN_PALETTES else len(PALETTE))
        found = tuple(map(to_hex, palette))
    except (ValueError, TypeError, KeyError):
        found = ()
    if not found:
        near = meant(palette, [*sns.palettes.SEABORN_PALETTES, *mpl.colormaps]) if isinstance(palette, str) else ""
        raise ConfigError(
            f"a palette is colours, such as ['#0072b2', 'black'], or a name that seaborn knows, but got {palette!r:.80}"
            f"{near}"
        )
    return found


def pt(points: float) -> float:
    """Points of the layout as real ones, to draw in: the same on paper, more on slides and where a user's type is."""
    return points * type_scale()


def type_scale() -> float:
    """How much larger than on paper everything is drawn."""
    return float(mpl.rcParams["font.size"]) / LABEL


def new_width(columns: int) -> float:
    """Points of the layout that a new figure of one or two columns is wide."""
    look = _LOOK.get() or _Look(_STYLES["paper"])
    natural = look.style.column if columns == 1 and not look.style.wide else look.style.page
    return (look.width or natural) / type_scale()


def is_wide() -> bool:
    """Whether a new figure must be lower than it is wide."""
    look = _LOOK.get()
    return look is not None and look.style.wide


def hue(index: int) -> str:
    """The colour of one of several things beside each other; the first ones come again after the last one."""
    look = _LOOK.get()
    known = look.palette if look and look.palette else PALETTE
    return known[index % len(known)]


def n_hues() -> int:
    """How many different ones there are."""
    look = _LOOK.get()
    return len(look.palette if look and look.palette else PALETTE)


def figure_of(picture: Artist) -> Figure:
    """The whole figure that axes, or a part of a figure, belong to."""
    figure = picture.get_figure(root=True)
    assert figure is not None
    return figure


def rendered(picture: Artist, ending: str) -> bytes:
    """A figure as a file's content (`pdf`, `png` or `svg`); the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context(_FILES):
        figure_of(picture).savefig(buffer, format=ending, metadata=_METADATA[ending])
    return buffer.getvalue()


def save_figure(picture: Artist, path: str | Path, *, kind: str = "figure", overwrite: bool = False) -> None:
    """Write a figure in the format that its name ends in (.pdf, .png or .svg), its text as text.

    Args:
        picture: a figure, also one of your own, or its axes.
        path: the file to write.
        kind: what it shows, in words: figures of other kinds are not overwritten.
        overwrite: whether another file than such a figure of kdprobe's may be lost.

    Raises:
        OutputError: if the name ends in something else, or another file is in the way.
        FileError: if the system does not let it be written.

    Example:
        >>> import figures
        >>> import numpy as np
        >>> from kdprobe.provenance import provenance
        >>> from kdprobe.results import Result, save_result
        >>> arrays = {"epoch": np.arange(2), "train_loss": np.array([[2.0, 1.0]]), "accuracy": np.array([[0.5, 0.8]])}
        >>> result = Result("training", arrays, {"names": ["resnet8"]}, provenance(runs=["runs/resnet8"]))
        >>> save_result(result, "curves.npz", table="epoch,accuracy")
        >>> figures.save_figure(figures.draw("curves.npz"), "curves.png")
        >>> from pathlib import Path
        >>> Path("curves.png").is_file()
        True
    """
    path = Path(path)
    ending = path.suffix.removeprefix(".")
    if ending not in FORMATS:
        raise OutputError(
            f"a picture's name must end in .{', .'.join(FORMATS[:-1])} or .{FORMATS[-1]}, but {path} does not"
        )
    write_sealed(path, rendered(picture, ending), kind, overwrite=overwrite)


def colours(
    lowest: float, highest: float, *, rising: Sequence[str] = (), falling: Sequence[str] = FALLING
) -> LinearSegmentedColormap:
    """A map for values from `lowest` (at most 0) to `highest`: blue-green above zero, brown below.

    Equal distances from zero have equal strength, so that a slightly negative value looks slight. Colours above zero
    are those of a given palette, if there is one.
    """
    look, reach = _LOOK.get(), max(highest, -lowest)
    rising = rising or (look.palette if look else ()) or RISING
    rising = rising if len(rising) > 1 else (RISING[0], *rising)
    above = [(v * reach, c) for v, c in zip(np.linspace(0, 1, len(rising)), rising, strict=True)]
    below = [(-v * reach, c) for v, c in zip(np.linspace(0, 1, len(falling)), falling, strict=True)]
    full = LinearSegmentedColormap.from_list("full", _stops(below[:0:-1] + above if lowest < 0 else above))
    start = (lowest + reach) / (2 * reach) if lowest < 0 else 0.0
    end = (highest + reach) / (2 * reach) if lowest < 0 else highest / reach
    return LinearSegmentedColormap.from_list("kdprobe", full(np.linspace(start, end, 256)))


def shades(n: int) -> list[Any]:
    """Colours of `n` lines in an order, pale to dark; none is too pale for a line."""
    look = _LOOK.get()
    rising = look.palette if look and look.palette else RISING[2:]
    return list(colours(0.0, 1.0, rising=rising)(np.linspace(0, 1, n)))


def readable_on(colour: Any) -> str:
    """Black or white, whichever reads better on a background colour (RGBA in [0, 1]).

    Reference:
        WCAG 2.2, "contrast ratio" and "relative luminance"; one of the two always has a contrast of at least 4.5.
    """
    part: NDArray[np.float64] = np.asarray(colour[:3], dtype=np.float64)
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


def _stops(points: list[tuple[float, str]]) -> list[tuple[float, str]]:
    first, last = points[0][0], points[-1][0]
    return [((value - first) / (last - first), colour) for value, colour in points]
