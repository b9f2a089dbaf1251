"""Small sweeps for tests."""

import os
import re
import subprocess
import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from kdprobe.config import override, parse
from kdprobe.distillers import option_types
from kdprobe.recipe import read_recipe
from kdprobe.sweeps.attempts import read_attempt
from kdprobe.sweeps.cells import dropout_grid, make_cells
from kdprobe.sweeps.ledger import begin

RATES = (0.3, 0.4, 0.5, 0.6, 0.7)


def base(*assignments):
    values = override(read_recipe("digits/resnet8-dropkd"), ["teacher=somewhere", *assignments])
    return parse(values, option_types()).model_dump(mode="json")


def cells(rates=RATES, n_seeds=1, kind="feature", *assignments):
    grid = dropout_grid(kind, rates, seeds=range(n_seeds), max_gap=None)
    return make_cells(base(*assignments), grid, option_types())


def ledger(path, rates=RATES, n_seeds=1, **options):
    return begin(path, cells(rates, n_seeds), **options)


def lines(path, cell):
    """What the stand-ins for training wrote down: (word, process, time)."""
    text = (path / "journal" / cell).read_text()
    return [(line.rsplit(" ", 2)[0], int(line.split()[-2]), float(line.split()[-1])) for line in text.splitlines()]


def check_nothing_twice(found):
    """Nothing was repeated but steps that a kill interrupted, and no two processes were at one cell at a time."""
    for cell in found.distinct():
        written = lines(found.path, cell.id)
        words = Counter(word for word, _, _ in written)
        kills = len(list(found.attempts.glob(f"{cell.id}.*"))) - 1
        last = read_attempt(found.attempts, cell.id, kills + 1)
        # a kill may come between the result and the line about it: then the newest attempt never ended
        assert words["trained"] == 1 or not (words["trained"] or (last.ended and not kills)), (cell.id, words)
        assert sum(count - 1 for count in words.values() if count) <= kills, (cell.id, words)
        processes = [process for _, process, _ in written]
        changes = sum(one != other for one, other in pairwise(processes))
        assert changes == len(set(processes)) - 1, (cell.id, written)


def until(condition, process=None, *, seconds=200):
    """Wait for a condition; fails when the process that is to bring it about ends, or after so many seconds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it took too long"
        assert process is None or process.poll() is None, "the process ended before"
        time.sleep(0.02)
    return found


def environment():
    """For processes that must find the test package."""
    path = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def listening_below() -> set[str]:
    """The addresses on which the processes that this one started listen; whatever else the machine does counts not."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            parents[int(name.split(" ")[0])] = int(rest.split()[1])
    ours = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in ours} - ours:
        ours |= more
    lines = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    own = [line for line in lines if {int(pid) for pid in re.findall(r"pid=(\d+)", line)} & ours]
    return {line.split()[3].rpartition(":")[0] for line in own}
