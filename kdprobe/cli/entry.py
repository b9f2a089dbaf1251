"""Where a command line enters: its exit status, and one line for every error that a user can cause."""

import atexit
import gc
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from kdprobe.cli.hidden import hidden_module
from kdprobe.errors import KdprobeError
from kdprobe.terminal import echo

_NO_GLYPHS = (
    "the fonts of a figure lack letters of its names, which are drawn as boxes; install one that has them, such as "
    "Noto Sans CJK, and remove matplotlib's cache of fonts"
)


def main(arguments: Sequence[object] | None = None) -> int:
    """Run a command line, such as `["train", "digits/resnet8"]`; errors that a user can cause are one line each.

    Args:
        arguments: of `kdprobe`, each turned into text; those of this process if not given.

    Returns:
        0 if it succeeded, 2 if it did not, 130 if it was stopped, 1 if nobody reads its output any more.

    Example:
        >>> import kdprobe
        >>> kdprobe.main(["trian"])  # a mistake: one line on stderr; 0 where all went well
        2
    """
    atexit.register(gc.freeze)  # else the interpreter goes through all of torch for a second or more before it ends
    words = sys.argv[1:] if arguments is None else [str(word) for word in arguments]
    try:
        with _stoppable(), warnings.catch_warnings():
            warnings.showwarning = partial(_warn, set())
            from kdprobe.cli.group import run_line  # with click, which a file of the user's may hide

            return run_line(words)
    except BrokenPipeError:
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if (message := _worded(error)) is None:
            raise  # a defect of ours
        echo("kdprobe: " + " ".join(message.split()), err=True)
        if isinstance(error, KeyboardInterrupt):
            return 130
        return error.status if isinstance(error, KdprobeError) else 2


def _worded(error: BaseException) -> str | None:
    """What a user can put right about an error, in one sentence; None where it is a defect."""
    message: str | None = None
    if isinstance(error, KeyboardInterrupt):
        message = "stopped"
    elif isinstance(error, KdprobeError):
        message = str(error)
    elif isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        message = "there is not enough memory for this; choose smaller images, smaller batches or fewer layers"
    elif isinstance(error, OSError):
        message = f"{error.filename}: " if error.filename is not None else ""
        message += error.strerror or str(error)
    elif isinstance(error, ImportError | AttributeError):
        message = hidden_module(error)
    return message


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: what is half written goes, and one line says that it was stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None where it was not Python's


def _warn(said: set[str], message: Warning | str, *_: object, **__: object) -> None:
    """Say it on one line, and only once, of however many networks it is true."""
    text = " ".join(str(message).split())
    if re.match(r"Glyph \d+ .* missing from", text):
        text = _NO_GLYPHS
    if text not in said:
        echo(f"warning: {text}", err=True)
    said.add(text)
