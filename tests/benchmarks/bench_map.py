"""Time and memory of a map of N networks of the CIFAR family on the digits: `make bench-map`.

Networks are made, not trained: what is measured does not depend on their weights. Memory is the largest resident set of
any process that measures pairs; it must not grow with N.
"""

import argparse
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from analyses.map.members import find_members
from analyses.map.study import measure_map
from kdprobe.models import create
from kdprobe.models.checkpoint import save

NAMES = ("resnet8", "resnet14", "resnet20", "resnet32")


def checkpoints(folder: Path, count: int) -> list[str]:
    found = []
    for number in range(count):
        torch.manual_seed(number)
        path = folder / f"{NAMES[number % len(NAMES)]}-{number:02d}.safetensors"
        save(create(NAMES[number % len(NAMES)], n_classes=10, image_size=32, data="digits").eval(), path)
        found.append(str(path))
    return found


def timed(texts: list[str], folder: Path, options: dict[str, str]) -> tuple[float, float]:
    """Seconds of a map, and the largest resident set of its workers in MiB."""
    start = time.perf_counter()
    measure_map(find_members(texts), folder, device="cpu", **options)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return time.perf_counter() - start, peak


def measure(folder: Path, count: int, names: list[str]) -> None:
    texts, n_pairs = checkpoints(folder, count), count * (count - 1) // 2
    for place, name in enumerate(names):
        # in a process of its own, of which only these workers are children
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            options = {"measure": name, "rule": "last"}
            first = alone.submit(timed, texts, folder / "map", options).result()[0] if not place else float("nan")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            options = {"measure": name, "rule": "pooled"}
            seconds, peak = alone.submit(timed, texts, folder / "map", options).result()
        shown = "" if place else f"{first:.0f} s"
        each = 1000 * seconds / n_pairs
        print(f"| {count} | {name} | {shown} | {seconds:.1f} s | {each:.1f} ms | {peak:.0f} MiB |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--measures", nargs="+", default=["cka", "procrustes", "rsa"])
    given = parser.parse_args()
    print(
        "| networks | measure | features and pairs | pairs alone | each | largest worker |\n|---|---|---|---|---|---|"
    )
    for count in given.counts:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), count, given.measures)


if __name__ == "__main__":
    main()
