"""The command line in processes that are killed or awaited, without the seconds that each would take to import it."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from subprocess import CompletedProcess

import kdprobe

_IMPORTED = [
    "h5py", "pytest", "timm", "torch._dynamo", "torchvision", "kdprobe.cli.train", "kdprobe.distillers.dropkd",
    "kdprobe.features.dump", "kdprobe.training.run", "tests.tiny", __name__,
]  # fmt: skip

#: starts processes that have imported what takes long
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(_IMPORTED)


def start(words: Sequence[str | Path], told: Path) -> ForkServerProcess:
    """Begin `kdprobe WORDS`, whose standard output and error go to a file."""
    process = CONTEXT.Process(target=_command, args=([str(word) for word in words], told))
    process.start()
    return process


def finished(words: Sequence[str | Path], told: Path) -> CompletedProcess[str]:
    """Wait for `kdprobe WORDS`, whose standard output and error are taken together."""
    process = start(words, told)
    process.join()
    assert process.exitcode is not None
    return CompletedProcess(words, process.exitcode, told.read_text(), told.read_text())


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
