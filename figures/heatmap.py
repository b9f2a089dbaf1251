"""Cells of a matrix drawn as an image: the lines between them and the texts inside them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from figures.labels import widest
from figures.style import LABEL, SMALLEST, readable_on

ANNOTATED = 12  # rows and columns up to which texts are written into the cells


def annotate(axes: Axes, image: AxesImage, values: NDArray[Any], texts: Sequence[Sequence[str]], pitch: float) -> None:
    """Write a text into each cell, in a size that fits cells `pitch` points wide, if one is legible."""
    size = min(LABEL, LABEL * 0.86 * pitch / max(widest([text for row in texts for text in row]), 1.0))
    if size < SMALLEST - 0.5:
        return
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = readable_on(image.to_rgba(np.array([value]))[0])
            axes.text(column, row, texts[row][column], size=size, color=colour, ha="center", va="center_baseline")


def part_cells(axes: Axes, shape: tuple[int, ...]) -> None:
    """Thin white lines between the cells of a matrix small enough to be read cell by cell."""
    n_rows, n_columns = shape
    if max(shape) <= 2 * ANNOTATED:
        axes.hlines(np.arange(n_rows - 1) + 0.5, -0.5, n_columns - 0.5, color="white", linewidth=0.7)
        axes.vlines(np.arange(n_columns - 1) + 0.5, -0.5, n_rows - 0.5, color="white", linewidth=0.7)
