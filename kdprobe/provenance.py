"""The command that is running, as a user would type it, also where one command runs another."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

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
