"""Another process that runs commands one after another, on a processor of its own."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kdprobe.user_code import child_command

_END = ""


class SecondHand:
    """Runs kdprobe's commands in a process of its own, in one thread; it ends when the process that it helps ends.

    It does not report whether a command succeeded: whoever gives the commands looks for what they leave behind.

    Args:
        log: file to which its output is appended.
    """

    def __init__(self, log: Path) -> None:
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                child_command("kdprobe.cli.second_hand"),
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                text=True,
            )

    def give(self, words: Sequence[str]) -> None:
        """Queue another command behind those before it."""
        self._write(words)

    def finish(self) -> None:
        """Wait until it has done everything."""
        self._write(_END)
        self._process.wait()

    def stop(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):  # what was not yet written to it
            self._process.stdin.close()  # type: ignore[union-attr]

    def _write(self, message: object) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it is gone: its commands are still to be run
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()


def _serve() -> None:
    """Run the commands that come over standard input, until the empty one."""
    from kdprobe.cli.entry import main

    waiting: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(waiting,), daemon=True).start()
    while words := waiting.get():
        main(words)  # a failure is in the log, and whoever gave the command meets it again


def _listen(waiting: "queue.SimpleQueue[list[str]]") -> None:
    for line in sys.stdin:
        waiting.put(json.loads(line))
    os._exit(1)  # nobody is there any more


if __name__ == "__main__":
    _serve()
