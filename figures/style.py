"""The look that all pictures share: sizes, fonts, colours, and files that are the same each time.

Lengths are points (1/72 inch). Colours keep their order for colour-blind readers and in grey print.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kdprobe.errors import OutputError
from kdprobe.formats.outputs import write_sealed

COLUMN_WIDTH, PAGE_WIDTH = 234.0, 495.0  # 3.25 and 6.875 inches: one column and the whole width of a two-column page
TITLE, LABEL, SMALLEST = 7.5, 6.5, 4.5  # font sizes

INK, MUTED, HAIRLINE, BARE, CHANCE = "#1d2733", "#66717d", "#d5dae0", "#eef1f3", "#c4cad1"
PALETTE = ("#0b6fa4", "#d1620a", "#12866a", "#a6478c", "#8a6d00", "#3f9fd4", "#5b5f97")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# lightness falls from end to end in both; together they meet at zero
RISING = ("#f4f6f2", "#cfe6dc", "#8fcac4", "#4aa1b4", "#24739f", "#1d4780", "#151f4d")
FALLING = ("#f4f6f2", "#f3d3b4", "#e29a63", "#b9622a", "#7c3a10")
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
_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": LABEL,
    "axes.titlesize": TITLE,
    "axes.labelsize": TITLE,
    "xtick.labelsize": LABEL,
    "ytick.labelsize": LABEL,
    "legend.fontsize": LABEL,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.0,
    "ytick.major.size": 2.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "hatch.linewidth": 0.5,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "figure.dpi": 100.0,
    "savefig.dpi": 300.0,
    "pdf.fonttype": 42,  # whole TrueType outlines, as publishers ask
    "svg.fonttype": "path",
    "svg.hashsalt": "kdprobe",
}


@contextmanager
def style() -> Iterator[None]:
    """The settings of all pictures, for drawing and for saving; also a decorator."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(_SETTINGS)
        yield


def sheet(width: float, height: float) -> Figure:
    """An empty figure, its size in points, outside of any global state."""
    figure = Figure(figsize=(width / 72, height / 72))
    FigureCanvasAgg(figure)
    return figure


def place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place of the figure given in points from its lower left corner."""
    total_width, total_height = figure.get_size_inches() * 72
    return figure.add_axes((left / total_width, bottom / total_height, width / total_width, height / total_height))


@style()
def rendered(figure: Figure, ending: str) -> bytes:
    """A figure as a file's content (`pdf`, `png` or `svg`); the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=ending, metadata=_METADATA[ending])
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path, *, kind: str = "figure", overwrite: bool = False) -> None:
    """Write a figure in the format that its name ends in (.pdf, .png or .svg).

    Args:
        figure: what is drawn.
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
    write_sealed(path, rendered(figure, ending), kind, overwrite=overwrite)


def colours(
    lowest: float, highest: float, *, rising: Sequence[str] = RISING, falling: Sequence[str] = FALLING
) -> LinearSegmentedColormap:
    """A map for values from `lowest` (at most 0) to `highest`: blue-green above zero, brown below.

    Equal distances from zero have equal strength, so that a slightly negative value looks slight.
    """
    reach = max(highest, -lowest)
    above = [(v * reach, c) for v, c in zip(np.linspace(0, 1, len(rising)), rising, strict=True)]
    below = [(-v * reach, c) for v, c in zip(np.linspace(0, 1, len(falling)), falling, strict=True)]
    full = LinearSegmentedColormap.from_list("full", _stops(below[:0:-1] + above if lowest < 0 else above))
    start = (lowest + reach) / (2 * reach) if lowest < 0 else 0.0
    end = (highest + reach) / (2 * reach) if lowest < 0 else highest / reach
    return LinearSegmentedColormap.from_list("kdprobe", full(np.linspace(start, end, 256)))


def readable_on(colour: Any) -> str:
    """Black or white, whichever reads better on a background colour (RGBA in [0, 1])."""
    linear: NDArray[np.float64] = np.asarray(colour[:3], dtype=np.float64) ** 2.2
    return "white" if float(linear @ (0.2126, 0.7152, 0.0722)) < 0.3 else INK


def _stops(points: list[tuple[float, str]]) -> list[tuple[float, str]]:
    first, last = points[0][0], points[-1][0]
    return [((value - first) / (last - first), colour) for value, colour in points]
