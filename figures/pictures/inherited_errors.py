"""Test images that students get wrong as their teacher does, and controls less often: a block for each method."""

import numpy as np
from matplotlib.figure import FigureBase

from figures.blocks import ImageBlock, draw_blocks
from figures.picture import on_figure
from figures.words import inherited_heading
from kdprobe.results import Result


@on_figure
def draw_inherited_errors(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw the images of each method that has any, those first that the controls get wrong least.

    Args:
        result: of kind "inherited-errors".
        fig: to fill; a new figure of one page if not given.

    Returns:
        the figure.
    """
    note = "below each image: true class, answer of teacher and students, share of the students | of the controls"
    groups = sorted(set(result.arrays["group"].tolist()))
    return draw_blocks(fig, [_block(result, number) for number in groups], note, lines=4)


def _block(result: Result, number: int) -> ImageBlock:
    places = np.flatnonzero(result.arrays["group"] == number)
    words = ["\n".join(_lines(result, int(place))) for place in places]
    return ImageBlock(inherited_heading(result, number), result.arrays["images"][places], words)


def _lines(result: Result, picture: int) -> list[str]:
    arrays, classes = result.arrays, result.facts["classes"]
    true, answer = (classes[int(arrays[key][picture])] for key in ("labels", "answers"))
    return [true, "taken for", answer, inherited_shares(result, picture)]


def inherited_shares(result: Result, picture: int) -> str:
    """`67 % | 0 %`: the shares of students and of controls with the teacher's answer."""
    shares = (float(result.arrays[key][picture]) for key in ("students", "controls"))
    return " | ".join("-" if np.isnan(share) else f"{100 * share:.0f} %" for share in shares)
