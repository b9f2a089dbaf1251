"""Test images with the largest specific part: what only the teacher sees above, what only the student sees below."""

from matplotlib.figure import FigureBase

from figures.blocks import ImageBlock, draw_blocks
from figures.labels import shorten
from figures.picture import on_figure
from kdprobe.results import Result


@on_figure
def draw_examples(result: Result, fig: FigureBase | None) -> FigureBase:
    """Draw the images in two blocks, the most specific one first.

    Args:
        result: of kind "examples": `images` [2, N, h, w, 3] uint8, `labels`, `specific` and `other` [2, N].
        fig: to fill; a new figure of one page if not given.

    Returns:
        the figure.
    """
    note = "below each image its specific part here | in the other network, in mean squared lengths of a feature"
    return draw_blocks(fig, [_block(result, row, who) for row, who in enumerate(("teacher", "student"))], note, lines=2)


def _block(result: Result, row: int, who: str) -> ImageBlock:
    arrays, facts = result.arrays, result.facts
    names = [shorten(facts["classes"][int(label)], 14) for label in arrays["labels"][row]]
    parts = zip(names, arrays["specific"][row], arrays["other"][row], strict=True)
    heading = f"largest specific part in the {who}: {facts[who]}, {facts[f'{who}_layer']}"
    return ImageBlock(
        heading, arrays["images"][row], [f"{name}\n{here:.2f} | {there:.2f}" for name, here, there in parts]
    )
