"""The command that is running, as a user would type it, also where one command runs another; options of several."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import click

_WORDS: ContextVar[tuple[str, ...] | None] = ContextVar("words", default=None)


def command_line() -> str:
    """`kdprobe` and its arguments."""
    words = _WORDS.get()
    return shlex.join(["kdprobe", *(sys.argv[1:] if words is None else words)])


@contextmanager
def running(words: Sequence[str]) -> Iterator[None]:
    """Let `command_line` say these words inside."""
    token = _WORDS.set(tuple(words))
    try:
        yield
    finally:
        _WORDS.reset(token)


def view_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for how image files are shown to networks; the command gets them as `view`, a mapping for `View`."""

    @click.option(
        "--crop-pct",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="FRACTION",
        help="Side of the centred square of image files that is shown, as a fraction of the shorter side.  "
        "[default: as the networks were published, or as the data set has it]",
    )
    @click.option(
        "--interpolation",
        type=click.Choice(["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"]),
        help="How image files are resampled.  [default: likewise]",
    )
    @wraps(command)
    def with_view(*args: Any, crop_pct: float | None, interpolation: str | None, **options: Any) -> Any:
        mode = None if crop_pct is None else "center"
        view = {"crop_pct": crop_pct, "interpolation": interpolation, "crop_mode": mode}
        return command(*args, view=view, **options)

    return with_view
