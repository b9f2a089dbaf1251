"""A worker process of the local engine: cells come as lines on standard input, answers go back as lines.

Importing torch takes longer than a small cell, so it does that once. With `--start fork` each cell has a fork of this
process to itself. Nothing is computed and no device is touched before the fork: threads of torch and the drivers of
devices do not survive it. With `--start spawn` this process works itself, and the engine replaces it after a failure
and when it is old (`local`).

For each cell there is a line that names the process at it, then one with the outcome; where the fork died, one with its
exit status, as `Popen.returncode` has it.
"""

import argparse
import atexit
import gc
import importlib
import json
import multiprocessing
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from kdprobe.sweeps.work import TRAIN, Order, ledger_of, task_of, work


def prepare(order: Order) -> None:
    """Import and read, before a process forks, what each of its forks would."""
    with suppress(Exception):  # which each cell says
        task_of(order)
        if order.task == TRAIN:
            importlib.import_module("torch._dynamo")  # as optimizers do at their first step: a second and a half
        ledger_of(order.folder)
    gc.freeze()  # else each fork copies what was imported, to count who refers to it


def lost(status: int) -> ChildProcessError:
    """How a process at a cell ended, by its exit status as `Popen.returncode` has it."""
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return ChildProcessError(f"its process {how}")


def _serve(order: Order, *, forks: bool) -> None:
    """Work until standard input ends, as it does however the driver ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library prints is no reply
    if forks:
        prepare(order)
    else:
        _keep_from_children(replies)
    for line in sys.stdin:
        request = json.loads(line)
        if forks:
            _in_a_fork(order, request, replies)
        elif _answer(order, request, replies) == "stopped":
            return


def _in_a_fork(order: Order, request: dict[str, Any], replies: IO[str]) -> None:
    def answer() -> None:
        _keep_from_children(replies)
        _answer(order, request, replies)

    child = multiprocessing.get_context("fork").Process(target=answer)
    child.start()
    child.join()
    if child.exitcode:
        _tell(replies, {"status": child.exitcode})


def _keep_from_children(replies: IO[str]) -> None:
    """A data loader's process that outlives this one must not hold the pipe open."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=replies.close)


def _answer(order: Order, request: dict[str, Any], replies: IO[str]) -> str:
    """Work on a cell in this process, and say so; the outcome's name."""
    _tell(replies, {"process": os.getpid()})
    outcome = work(order, request["cell"], request["config"], request["given_up"])
    _tell(replies, asdict(outcome))
    return outcome.name


def _tell(replies: IO[str], said: dict[str, Any]) -> None:
    try:
        replies.write(json.dumps(said) + "\n")
    except BrokenPipeError:  # the driver is gone
        os._exit(0)


def main() -> None:
    """Read the order from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--stale-after", type=float, required=True)
    parser.add_argument("--start", choices=["fork", "spawn"], required=True)
    parser.add_argument("--trust", nargs="*", type=str, default=())
    given = vars(parser.parse_args())
    forks = given.pop("start") == "fork"
    atexit.register(gc.freeze)  # as `cli.main` does
    _serve(Order(**{**given, "trust": tuple(given["trust"])}), forks=forks)


if __name__ == "__main__":
    main()
