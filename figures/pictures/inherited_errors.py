"""Test images that students learnt to get wrong from their teacher, a block for each method."""

import numpy as np
from matplotlib.figure import Figure

from figures.labels import fit, shorten
from figures.style import LABEL, MUTED, PAGE_WIDTH, TITLE, place, sheet, style
from figures.words import inherited_heading
from kdprobe.results import Result

_PER_ROW, _SPACE = 8, 4.0


@style()
def draw_inherited_errors(result: Result) -> Figure:
    """Draw the images of each method that has any, those first that the controls get wrong least.

    Args:
        result: of kind "inherited-errors".

    Returns:
        the figure, one page wide.
    """
    arrays, facts = result.arrays, result.facts
    groups = [number for number in range(len(facts["groups"])) if (arrays["group"] == number).any()]
    side = (PAGE_WIDTH - 8) / _PER_ROW - _SPACE
    pitch = side + 3 * LABEL + 8
    n_rows = {number: -(-int((arrays["group"] == number).sum()) // _PER_ROW) for number in groups}
    total = 16 + sum(16 + n_rows[number] * pitch for number in groups)
    figure = sheet(PAGE_WIDTH, total)
    note = "below each image: true class, answer of teacher and students, share of the students | of the controls"
    figure.text(6 / PAGE_WIDTH, 7 / total, note, size=LABEL, va="center", color=MUTED)
    top = total
    for number in groups:
        heading = fit(inherited_heading(result, number), TITLE, PAGE_WIDTH - 12)
        figure.text(6 / PAGE_WIDTH, (top - 8) / total, heading, size=TITLE, va="center")
        for order, picture in enumerate(np.flatnonzero(arrays["group"] == number)):
            x = 6 + (order % _PER_ROW) * (side + _SPACE)
            y = top - 16 - (order // _PER_ROW) * pitch - side
            axes = place(figure, x, y, side, side)
            axes.imshow(arrays["images"][picture], interpolation="nearest")
            axes.axis("off")
            axes.annotate(
                "\n".join(_lines(result, int(picture))),
                (0.5, 0),
                (0, -2),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                va="top",
                size=LABEL - 0.5,
                color=MUTED,
            )
        top -= 16 + n_rows[number] * pitch
    return figure


def _lines(result: Result, picture: int) -> list[str]:
    arrays, classes = result.arrays, result.facts["classes"]
    true, answer = (shorten(classes[int(arrays[key][picture])], 14) for key in ("labels", "answers"))
    return [true, f"taken for {answer}", inherited_shares(result, picture)]


def inherited_shares(result: Result, picture: int) -> str:
    """`67 % | 0 %`: the shares of students and of controls with the teacher's answer."""
    shares = (float(result.arrays[key][picture]) for key in ("students", "controls"))
    return " | ".join("-" if np.isnan(share) else f"{100 * share:.0f} %" for share in shares)
