import os
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest

from analyses.map.tiles import PAIRS
from kdprobe.results import load_result
from kdprobe.sweeps.attempts import last_numbers, read_attempt
from tests.analyses.map.networks import features, write_dump
from tests.small_sweeps import environment, until

COUNT = 12  # networks in 2 blocks, that is 3 tiles


def written(cells):
    """The whole lines of each tile, by its id."""
    return {path.parent.name.partition(".")[0]: path.read_text().split("\n")[:-1] for path in cells.glob(f"*/{PAIRS}")}


@pytest.mark.slow
def test_a_map_whose_processes_are_all_killed_goes_on_with_the_next_pair(tmp_path):
    dumps = [write_dump(tmp_path / f"n{n:02d}.h5", {"s": features(n, 16, n=1800)}, size=600) for n in range(COUNT)]
    out = tmp_path / "m"
    words = ["map", *dumps, "--out", str(out), "--measure", "rsa", "--quiet"]
    command = [sys.executable, "-m", "kdprobe", *words]
    driver = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    cells, attempts = out / "cells" / "cells", out / "cells" / "attempts"
    until(lambda: any(len(lines) > 2 for lines in written(cells).values()), driver)
    driver.kill()
    for cell, number in last_numbers(attempts).items():
        with suppress(ProcessLookupError):
            os.kill(read_attempt(attempts, cell, number).process, signal.SIGKILL)
    driver.communicate()
    before = written(cells)
    n_before = sum(map(len, before.values()))
    n_pairs = COUNT * (COUNT - 1) // 2
    assert 2 < n_before < n_pairs
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    after = written(cells)
    assert sum(map(len, after.values())) == n_pairs
    assert all(after[cell][: len(lines)] == lines for cell, lines in before.items())
    result = load_result(out / "map.npz")
    assert not np.isnan(result.arrays["similarity"]).any()
