"""Time and memory of a map of N networks of the CIFAR family on the digits: `make bench-map`.

Networks are made, not trained: what is measured does not depend on their weights. Memory is the most that any process
that measures pairs holds of its own; it must not grow with N. The pages of its libraries come on top, about 380 MiB
that all processes share; 110 MiB more of them are read when one ends, as after a minute of work, which is why the
largest resident set that `getrusage` tells is larger for many networks.
"""

import argparse
import tempfile
import threading
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


class Watch(threading.Thread):
    """Looks at the memory of all children of this process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._over = 0.0, threading.Event()

    def run(self) -> None:
        """Look again and again."""
        while not self._over.wait(0.05):
            for path in Path("/proc/self/task").glob("*/children"):
                self.peak = max(self.peak, *map(held, path.read_text().split()), 0.0)

    def __enter__(self) -> "Watch":
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        self.join()


def held(process: str) -> float:
    """What a process holds of its own, in MiB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return max([int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:")], default=0.0)


def timed(texts: list[str], folder: Path, options: dict[str, str]) -> tuple[float, float, float]:
    """Seconds of a map, and what its workers and the process that keeps them busy hold, in MiB."""
    start = time.perf_counter()
    with Watch() as watch:
        measure_map(find_members(texts), folder, device="cpu", **options)
    return time.perf_counter() - start, watch.peak, held("self")


def measure(folder: Path, count: int, names: list[str]) -> None:
    texts, n_pairs = checkpoints(folder, count), count * (count - 1) // 2
    for place, name in enumerate(names):
        # in a process of its own, of which only these workers are children
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            options = {"measure": name, "rule": "last"}
            first = alone.submit(timed, texts, folder / "map", options).result()[0] if not place else float("nan")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            options = {"measure": name, "rule": "pooled"}
            seconds, peak, own = alone.submit(timed, texts, folder / "map", options).result()
        shown = "" if place else f"{first:.0f} s"
        each = 1000 * seconds / n_pairs
        print(
            f"| {count} | {name} | {shown} | {seconds:.1f} s | {each:.1f} ms | {peak:.0f} MiB | {own:.0f} MiB |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--measures", nargs="+", default=["cka", "procrustes", "rsa"])
    given = parser.parse_args()
    print(
        "| networks | measure | features and pairs | pairs alone | each | worker holds | driver holds |\n"
        "|---|---|---|---|---|---|---|"
    )
    for count in given.counts:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), count, given.measures)


if __name__ == "__main__":
    main()
