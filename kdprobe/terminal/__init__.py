"""The one place where text goes to the terminal.

Names come from folders, files and received networks; control characters in them would move the cursor, change
colours or clear the screen. They are shown as escapes, and so is what the terminal's encoding does not have.
"""

import re
import sys
from collections.abc import Sized

from kdprobe.formats.counts import counted

__all__ = ["echo", "printable", "worded_bytes", "worded_count"]

# all but the end of a line and the tab; marks that turn the direction of writing; halves of characters
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def echo(text: object = "", *, err: bool = False) -> None:
    """Write a line: what a command is asked for to standard output, what is said about it to standard error.

    What is said while something goes on is `kdprobe.terminal.progress.say`'s, so that it does not tear a bar apart.

    Args:
        text: written as it is, except for characters that a terminal would obey.
        err: write to standard error.

    Example:
        >>> from kdprobe.terminal import echo
        >>> echo("red" + chr(27))
        red\\x1b
    """
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(printable(str(text)).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def worded_count(things: Sized, name: str) -> str:
    """How many things there are, in words: `1 run`, `2 runs`.

    Example:
        >>> from kdprobe.terminal import worded_count
        >>> worded_count(["runs/kd"], "run"), worded_count([], "run")
        ('1 run', '0 runs')
    """
    return counted(len(things), name)


def worded_bytes(count: int) -> str:
    """A number of bytes in words: `0.2 MB`, `38.7 GB`.

    Example:
        >>> from kdprobe.terminal import worded_bytes
        >>> worded_bytes(38_700_000_000)
        '38.7 GB'
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def printable(text: str) -> str:
    """Text without characters that a terminal would obey: they are escaped as Python writes them.

    Example:
        >>> from kdprobe.terminal import printable
        >>> print(printable("a folder" + chr(7)))
        a folder\\x07
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
