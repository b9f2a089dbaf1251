"""What each measure of similarity costs: seconds and peak memory for all pairs of 61 and 87 layers of 1,000 samples.

Layers have the widths of pooled ResNets and vision transformers, 64 to 768, falling spectra and causes in common, and
are float32 as networks give them. Each measure runs in a process of its own, on one thread: `layers` is what belongs to
one layer, made once for each of 148, `pairs` all 5,307 values, `intervals` the jackknife over 20 groups of samples.
Times are
processor time, so that what else a machine does hardly matters, and the median of some runs.

`--neighbours N` measures the neighbours among N samples instead, whose inner products never stand in memory at once.

Usage: python -m tests.benchmarks.bench_similarity [--repeats 3] [--groups 20] [--only rsa mutual-knn] [--side 61 87]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import torch

from analyses.similarity.intervals import PreparedLayer, group_half_widths, group_samples, matrix_of
from analyses.similarity.measure import FeatureSet
from analyses.similarity.measures import MEASURES, find_measure

WIDTHS = (64, 128, 192, 256, 384, 512, 768)
CAUSES, CLASSES = 40, 10
MEASURED = ["svcca", "pwcca", "procrustes", "rsa", "rsa-spearman", "distance-correlation", "mutual-knn", "cknna"]


def layers(n: int, count: int, *, seed: int, widths: tuple[int, ...] = WIDTHS) -> Iterator[torch.Tensor]:
    """Layers of one network, narrow to wide: clusters of samples and causes of variances 1/k, seen through ReLUs."""
    shared = torch.Generator().manual_seed(0)
    clusters = torch.randn(CLASSES, CAUSES, generator=shared)[torch.arange(n) % CLASSES]
    causes = clusters + torch.randn(n, CAUSES, generator=shared)
    causes *= torch.arange(1.0, CAUSES + 1) ** -0.5
    generator = torch.Generator().manual_seed(seed)
    for place in range(count):
        width = widths[place * len(widths) // count]
        seen = causes @ torch.randn(CAUSES, width, generator=generator)
        yield torch.relu(seen + 0.5 * torch.randn(n, width, generator=generator))


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """What an action gives, and its seconds of processor time."""
    start = time.process_time()
    return action(), time.process_time() - start


def peak() -> float:
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def all_pairs(name: str, n: int, side: tuple[int, int], groups: int, repeats: int) -> dict[str, float]:
    """Seconds of each part, and peak memory above that of the features."""
    measure, runs = find_measure(name), []
    made = [list(layers(n, count, seed=seed)) for seed, count in enumerate(side, 1)]
    before = peak()
    for _ in range(repeats):
        (rows, columns), preparing = timed(
            lambda: [[PreparedLayer(one, measure.prepare(one)) for one in map(FeatureSet, network)] for network in made]
        )
        matrix, comparing = timed(lambda rows=rows, columns=columns: matrix_of(measure, rows, columns))
        assert np.isfinite(matrix).all()
        leaving = 0.0
        if groups and not measure.no_interval:
            member = group_samples(np.arange(n), groups)
            _, leaving = timed(
                lambda rows=rows, columns=columns, member=member: group_half_widths(measure, rows, columns, member)
            )
        runs.append((preparing, comparing, preparing + comparing, leaving))
    keys = ("layers", "pairs", "both", "intervals")
    return {**dict(zip(keys, map(median, zip(*runs, strict=True)), strict=True)), "MB": peak() - before}


def neighbours(name: str, n: int, widths: tuple[int, int]) -> dict[str, float]:
    """Seconds for one pair of layers of many samples, and peak memory above that of the features."""
    measure = find_measure(name)
    x, y = (next(layers(n, 1, seed=seed, widths=(width,))) for seed, width in enumerate(widths, 1))
    before = peak()
    (one, other), preparing = timed(lambda: [measure.prepare(FeatureSet(side)) for side in (x, y)])
    value, comparing = timed(lambda: measure.compare(one, other))
    return {"layers": preparing, "pairs": comparing, "value": value, "MB": peak() - before}


def main() -> None:
    """A line for each measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--samples", type=int, default=1_000)
    parser.add_argument("--groups", type=int, default=20, help="0 for no intervals.")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=None)
    parser.add_argument("--side", type=int, nargs=2, default=(61, 87), help="Layers of each network.")
    parser.add_argument("--neighbours", type=int, default=0, metavar="N")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.here:
        (name,) = given.only
        if given.neighbours:
            found = neighbours(name, given.neighbours, (64, 384))
        else:
            found = all_pairs(name, given.samples, tuple(given.side), given.groups, given.repeats)
        print(json.dumps(found))
        return
    names = given.only or (["mutual-knn", "cycle-knn", "cknna"] if given.neighbours else MEASURED)
    for number, name in enumerate(names):
        again = [sys.executable, "-m", "tests.benchmarks.bench_similarity", *sys.argv[1:], "--here", "--only", name]
        found = json.loads(subprocess.run(again, check=True, capture_output=True, text=True).stdout)
        if not number:
            print(f"{'measure':<22}" + "".join(f"{key:>11}" for key in found), flush=True)
        print(f"{name:<22}" + "".join(f"{value:>11.3g}" for value in found.values()), flush=True)


if __name__ == "__main__":
    main()
