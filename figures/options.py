"""The options that the commands of the figures share."""

from collections.abc import Callable
from typing import Any

import click


def look_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--style` and `--width` of pictures."""
    style = click.option(
        "--style",
        type=click.Choice(["paper", "slides"]),
        default="paper",
        show_default=True,
        help="Small type for a column of a paper, or type and lines of twice the size for slides.",
    )
    width = click.option(
        "--width",
        metavar="MM|column|page",
        show_default="what the picture needs",
        help="Width of the pictures; a column is 82.6 mm, a page 174.6 mm, of slides 152.4 and 304.8.",
    )
    return style(width(command))
