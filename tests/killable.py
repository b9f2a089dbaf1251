"""The command line in processes that are killed, without the seconds that each would take to import it."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import kdprobe

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["kdprobe.training", "kdprobe.cli.entry", "tests.tiny", __name__])


def start(words: Sequence[str | Path], told: Path) -> ForkServerProcess:
    """Begin `kdprobe WORDS`, whose standard output and error go to a file."""
    process = _CONTEXT.Process(target=_command, args=([str(word) for word in words], told))
    process.start()
    return process


def end(process: ForkServerProcess, told: Path) -> None:
    """Kill it, unless it is done; nothing else may have ended it."""
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), told.read_text()


def _command(words: list[str], told: Path) -> None:
    with told.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.exit(kdprobe.main(words))
