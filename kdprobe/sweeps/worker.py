"""A worker process of the local engine: cells come as lines on standard input, outcomes go back as lines.

It serves several cells one after another, because importing torch takes longer than a small cell, but not forever:
the engine replaces it after a failure and when it is old (`local`).
"""

import argparse
import atexit
import gc
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from kdprobe.sweeps.work import Order, work


def _serve(order: Order) -> None:
    """Work until standard input ends, as it does however the driver ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library prints is no reply
    if hasattr(os, "register_at_fork"):
        # a data loader's process that outlives this one must not hold the pipe open
        os.register_at_fork(after_in_child=replies.close)
    for line in sys.stdin:
        request = json.loads(line)
        outcome = work(order, request["cell"], request["config"], request["given_up"])
        try:
            replies.write(json.dumps(asdict(outcome)) + "\n")
        except BrokenPipeError:  # the driver is gone
            os._exit(0)
        if outcome.name == "stopped":
            return


def main() -> None:
    """Read the order from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--stale-after", type=float, required=True)
    parser.add_argument("--trust", nargs="*", type=str, default=())
    given = vars(parser.parse_args())
    atexit.register(gc.freeze)  # as `cli.main` does
    _serve(Order(**{**given, "trust": tuple(given["trust"])}))


if __name__ == "__main__":
    main()
