"""A matrix as an image: its cells, the lines between them, the texts inside them, and the scale of its colours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from figures.labels import LEADING, widest
from figures.sheet import size_of
from figures.style import BARE, CHANCE, LABEL, MUTED, SMALLEST, pt, readable_on

ANNOTATED = 12  # rows and columns up to which texts are written into the cells
MARK = 10.0  # points that a line about cells without a value takes above the matrix


def paint(
    axes: Axes, values: NDArray[Any], ends: tuple[float, float], cmap: Colormap, *, upwards: bool = False
) -> AxesImage:
    """Paint the cells of a matrix.

    Args:
        axes: where to paint.
        values: [rows, columns]; cells with NaN stay empty.
        ends: the lowest and the highest value of the colour scale.
        cmap: the scale's colours.
        upwards: whether the first row is at the bottom; otherwise it is at the top.
    """
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=cmap,
        norm=Normalize(*ends),
        origin="lower" if upwards else "upper",
        aspect="auto",
        interpolation="nearest",
    )
    axes.spines[:].set_visible(False)
    _part_cells(axes, *values.shape)
    return image


def annotate(image: AxesImage, values: NDArray[Any], texts: Sequence[Sequence[str]]) -> None:
    """Write a text into each cell, in a size that fits the cells, if one is legible."""
    axes, lines = image.axes, [text.split("\n") for row in texts for text in row]
    across, up = (side / n for side, n in zip(size_of(axes), values.shape[::-1], strict=True))
    fits = LABEL * 0.86 * across / max(widest([line for text in lines for line in text]), 1.0)
    size = min(LABEL, fits, 0.86 * up / (LEADING * max(map(len, lines), default=1)))
    if size < SMALLEST - 0.5:
        return
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = readable_on(image.to_rgba(np.array([value]))[0])
            axes.text(column, row, texts[row][column], size=pt(size), color=colour, ha="center", va="center_baseline")


def mark_cells(axes: Axes, marks: Sequence[tuple[NDArray[np.bool_], str, str]]) -> None:
    """Cover cells that have no value to show, hatched or plain, and say why and how many above the matrix.

    Args:
        axes: of the matrix.
        marks: which cells [rows, columns], why, and their hatching, empty for plain ones; each takes `MARK` points
            above the matrix.
    """
    handles = []
    for mask, label, hatch in marks:
        looks: dict[str, Any] = {"facecolor": BARE if hatch else CHANCE, "edgecolor": MUTED, "linewidth": 0.0}
        cells = [Rectangle((column - 0.5, row - 0.5), 1, 1) for row, column in np.argwhere(mask)]
        axes.add_collection(PatchCollection(cells, zorder=2.5 if hatch else 0.5, hatch=hatch, **looks))
        count = int(mask.sum())
        handles.append(Patch(label=f"{label} ({count} cell{'s' if count > 1 else ''})", hatch=hatch, **looks))
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        borderpad=0.2,
        borderaxespad=0.1,
        labelspacing=0.2,
    )


def colour_bar(image: AxesImage, label: str, bar: Axes | None = None) -> Colorbar:
    """Draw the scale of an image's colours into axes of its own, or beside the image, which makes room for it."""
    axes = image.axes
    figure = axes.get_figure()
    assert figure is not None
    where: Any = {"cax": bar} if bar else {"ax": axes, "pad": 0.03, "fraction": 0.06}
    found = figure.colorbar(image, **where)
    found.set_label(label, labelpad=pt(3))
    found.outline.set_visible(False)
    return found


def _part_cells(axes: Axes, n_rows: int, n_columns: int) -> None:
    """Thin white lines between the cells of a matrix small enough to be read cell by cell."""
    if max(n_rows, n_columns) <= 2 * ANNOTATED:
        axes.hlines(np.arange(n_rows - 1) + 0.5, -0.5, n_columns - 0.5, color="white", linewidth=pt(0.7))
        axes.vlines(np.arange(n_columns - 1) + 0.5, -0.5, n_rows - 0.5, color="white", linewidth=pt(0.7))
