"""Feature files: what dumping costs over the bare forward passes, what reading takes of memory (`make bench-cka`).

Stage outputs of ResNet18 and ViT-tiny at 224 px with random weights, images in memory. Rates are the medians of turns
that alternate in one process; the peak memory of reading is that of a process of its own above its imports.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from analyses.cka.stored import files_cka
from kdprobe.data import Batch
from kdprobe.features.dump import Dump, write_dump
from kdprobe.features.store import FeatureStore, Network
from kdprobe.models import create
from kdprobe.models.creation import model_info
from tests.benchmarks.bench_cka import peak_memory, reset_peak, seconds

WIDTH = 500_000  # values per sample of the large file's layers


def networks() -> dict[str, nn.Module]:
    """Teacher and student."""
    names = {"teacher": "vit_tiny_patch16_224", "student": "resnet18"}
    return {role: create(name, n_classes=1000, image_size=224).eval() for role, name in names.items()}


def minibatches(images: Tensor, batch_size: int, start: int, stop: int) -> Iterator[dict[str, Batch]]:
    """Both networks see the same images."""
    for first in range(start, stop, batch_size):
        index = torch.arange(first, min(first + batch_size, stop))
        batch = Batch(images[index], torch.zeros(len(index), dtype=torch.int64), index)
        yield {"teacher": batch, "student": batch}


def bare(models: dict[str, nn.Module], images: Tensor, batch_size: int) -> None:
    """The forward passes alone, on the same normalised images."""
    with torch.inference_mode():
        for batches in minibatches(images, batch_size, 0, len(images)):
            for role, batch in batches.items():
                models[role](model_info(models[role]).normalise(batch.images))


def dumping(folder: Path, *, batch_size: int, n_minibatches: int, turns: int) -> None:
    """Print images/s of the bare forward passes and of dumps, and their ratios."""
    models, images = networks(), torch.rand(batch_size * n_minibatches, 3, 224, 224)
    source = partial(minibatches, images, batch_size)
    options: dict[str, dict[str, str]] = {
        "features, filters off": {"compression": "none"},
        "Gram matrices": {"content": "grams", "compression": "none"},
    }
    runs: dict[str, Callable[[], object]] = {"bare": partial(bare, models, images, batch_size)}
    for name, chosen in options.items():
        dump = Dump(models, source, len(images), batch_size, **chosen)  # type: ignore[arg-type]
        runs[name] = partial(write_dump, dump, folder / "features.h5")
    rates: dict[str, list[float]] = {name: [] for name in runs}
    runs["bare"]()
    for _ in range(turns):
        for name, run in runs.items():
            rates[name].append(len(images) / seconds(run))
            (folder / "features.h5").unlink(missing_ok=True)
    for name, found in rates.items():
        ratio = statistics.median(rate / base for rate, base in zip(found, rates["bare"], strict=True))
        print(f"{name:22} {statistics.median(found):6.1f} images/s, {ratio:.2f} of bare", flush=True)


def reading(folder: Path, *, gigabytes: float, batch_size: int = 64) -> None:
    """Write a file of this size and print how much memory CKA of it takes in a process of its own."""
    path, generator = folder / "large.h5", torch.Generator().manual_seed(0)
    n_samples = round(gigabytes * 1e9 / (4 * 2 * WIDTH))
    layers = {role: {"layer": torch.rand(batch_size, WIDTH, generator=generator)} for role in ("teacher", "student")}
    made = {role: Network(role) for role in layers}
    with FeatureStore.create(path, made, data="random", batch_size=batch_size, compression="none") as writer:
        for start in range(0, n_samples, batch_size):
            index = torch.arange(start, min(start + batch_size, n_samples))
            shown = {role: {"layer": of["layer"][: len(index)]} for role, of in layers.items()}
            writer.append(index, torch.zeros_like(index), shown)
    command = [sys.executable, "-m", "tests.benchmarks.bench_store", "--read", str(path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(f"reading a file of {path.stat().st_size / 1e9:.1f} GB for CKA: {said.strip()}", flush=True)


def read(path: Path) -> None:
    """Print the peak memory of CKA of a file above what the process had before."""
    before = peak_memory()
    reset_peak()
    took = seconds(lambda: files_cka([path]))
    print(f"{peak_memory() - before:.2f} GB above the {before:.2f} GB of the imports, {took:.0f} s")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--minibatches", type=int, default=6)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary folder if not given")
    parser.add_argument("--read", type=Path)
    given = parser.parse_args()
    if given.read:
        read(given.read)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        print(f"{os.cpu_count()} cores, files in {Path(folder).parent}", flush=True)
        dumping(Path(folder), batch_size=given.batch_size, n_minibatches=given.minibatches, turns=given.turns)
        reading(Path(folder), gigabytes=given.gigabytes)


if __name__ == "__main__":
    main()
