"""Test images with the largest specific part: what only the teacher sees above, what only the student sees below."""

from matplotlib.figure import Figure

from figures.labels import fit, shorten
from figures.style import LABEL, MUTED, PAGE_WIDTH, TITLE, place, sheet, style
from kdprobe.results import Result

_PER_ROW, _SPACE = 8, 4.0


@style()
def draw_examples(result: Result) -> Figure:
    """Draw the images in two blocks, the most specific one first.

    Args:
        result: of kind "examples": `images` [2, N, h, w, 3] uint8, `labels`, `specific` and `other` [2, N].

    Returns:
        the figure, one page wide.
    """
    images = result.arrays["images"]
    side = (PAGE_WIDTH - 8) / _PER_ROW - _SPACE
    n_rows, pitch = -(-images.shape[1] // _PER_ROW), side + 2 * LABEL + 6
    block = n_rows * pitch + 16
    total = 2 * block + 16
    figure = sheet(PAGE_WIDTH, total)
    note = "below each image its specific part here | in the other network, in mean squared lengths of a feature"
    figure.text(6 / PAGE_WIDTH, 7 / total, note, size=LABEL, va="center", color=MUTED)
    for row, who in enumerate(("teacher", "student")):
        top = (2 - row) * block + 14
        layer = f"{result.facts[who]}, {result.facts[f'{who}_layer']}"
        heading = fit(f"largest specific part in the {who}: {layer}", TITLE, PAGE_WIDTH - 12)
        figure.text(6 / PAGE_WIDTH, (top - 8) / total, heading, size=TITLE, va="center")
        for number, image in enumerate(images[row]):
            x = 6 + (number % _PER_ROW) * (side + _SPACE)
            y = top - 16 - (number // _PER_ROW) * pitch - side
            axes = place(figure, x, y, side, side)
            axes.imshow(image, interpolation="nearest")
            axes.axis("off")
            values = [result.arrays[key][row, number] for key in ("specific", "other")]
            name = shorten(result.facts["classes"][int(result.arrays["labels"][row, number])], 14)
            words = f"{name}\n{values[0]:.2f} | {values[1]:.2f}"
            axes.annotate(
                words,
                (0.5, 0),
                (0, -2),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                va="top",
                size=LABEL - 0.5,
                color=MUTED,
            )
    return figure
