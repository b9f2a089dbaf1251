"""Another process that runs commands one after another, on another processor than the one that gives them."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_PROGRAM = "from kdprobe.cli.second_hand import serve; serve()"
_END = ""


class SecondHand:
    """Runs kdprobe's commands in a process of its own, in one thread; it dies when the one that it helps dies.

    Whether a command succeeds is not asked: who gives them looks for what they leave.

    Args:
        log: file to which what it prints is appended.
    """

    def __init__(self, log: Path) -> None:
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                text=True,
            )

    def give(self, words: Sequence[str]) -> None:
        """Another command, for when it has done those before."""
        self._write(words)

    def finish(self) -> None:
        """Wait until it has done everything."""
        self._write(_END)
        self._process.wait()

    def stop(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):  # what it was still to be told
            self._process.stdin.close()  # type: ignore[union-attr]

    def _write(self, message: object) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it is gone: what it should have done is still to be done
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()


def serve() -> None:
    """Run the commands that come over standard input, until the empty one."""
    from kdprobe.cli.group import main

    waiting: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(waiting,), daemon=True).start()
    while words := waiting.get():
        try:
            main(words)
        except SystemExit:
            continue  # a failure is in the log, and whoever gave the command meets it again


def _listen(waiting: "queue.SimpleQueue[list[str]]") -> None:
    for line in sys.stdin:
        waiting.put(json.loads(line))
    os._exit(1)  # nobody is there any more
