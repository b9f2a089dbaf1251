"""Where a command line enters: its exit status, and one line for every error that a user can cause."""

import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kdprobe.cli.hidden import hidden_module
from kdprobe.errors import KdprobeError
from kdprobe.terminal import echo

STOPPED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and end the process where it fails, as the console script does.

    Args:
        arguments: of `kdprobe`; those of this process if not given.

    Raises:
        SystemExit: with the exit status, unless that is 0.
    """
    if status := exit_status(arguments):
        sys.exit(status)


def exit_status(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; every error that a user can cause is one line on standard error.

    Args:
        arguments: of `kdprobe`; those of this process if not given.

    Returns:
        0 if it succeeded, 2 if it did not, 130 if it was stopped, 1 if nobody reads its output any more.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with _stoppable(), warnings.catch_warnings():
            warnings.showwarning = _warn
            from kdprobe.cli.group import run_line  # with click, which a file of the user's may hide

            return run_line(words)
    except KeyboardInterrupt:
        return _report("stopped", STOPPED)
    except KdprobeError as error:
        return _report(str(error), error.status)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return _report("there is not enough memory for this; choose smaller images, smaller batches or fewer layers")
        raise
    except BrokenPipeError:
        return 1
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        return _report(f"{place}{error.strerror or error}")
    except (ImportError, AttributeError) as error:
        if (reason := hidden_module(error)) is None:
            raise
        return _report(reason)


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


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    echo("warning: " + " ".join(str(message).split()), err=True)


def _report(message: str, status: int = 2) -> int:
    echo("kdprobe: " + " ".join(message.split()), err=True)
    return status
