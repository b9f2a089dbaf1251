"""Test images with the largest specific part: what only the teacher sees above, what only the student sees below."""

from matplotlib.figure import Figure

from figures.blocks import ImageBlock, draw_blocks
from figures.labels import shorten
from figures.style import style
from kdprobe.results import Result


@style()
def draw_examples(result: Result) -> Figure:
    """Draw the images in two blocks, the most specific one first.

    Args:
        result: of kind "examples": `images` [2, N, h, w, 3] uint8, `labels`, `specific` and `other` [2, N].

    Returns:
        the figure, one page wide.
    """
    note = "below each image its specific part here | in the other network, in mean squared lengths of a feature"
    return draw_blocks([_block(result, row, who) for row, who in enumerate(("teacher", "student"))], note, lines=2)


def _block(result: Result, row: int, who: str) -> ImageBlock:
    arrays, facts = result.arrays, result.facts
    names = [shorten(facts["classes"][int(label)], 14) for label in arrays["labels"][row]]
    parts = zip(names, arrays["specific"][row], arrays["other"][row], strict=True)
    heading = f"largest specific part in the {who}: {facts[who]}, {facts[f'{who}_layer']}"
    return ImageBlock(
        heading, arrays["images"][row], [f"{name}\n{here:.2f} | {there:.2f}" for name, here, there in parts]
    )
