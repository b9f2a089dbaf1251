"""This tree beside an earlier one, in turns: CKA and dumps over bare passes, the trainer over a bare loop, commands.

    python -m tests.benchmarks.bench_before REVISION [--turns 3] [--only NAME ...]

REVISION is one of this repository's, whose files are unpacked into a temporary folder. Each measure runs in a process
of its own in either tree, one tree after the other and the other way round in the next turn; where it is a ratio, by
the benchmarks of the tree itself. Commands are told in seconds of processors, those of their children too. Printed are
medians over the turns, and the median of the turns' ratios with its range.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: CKA of 61 x 87 layers over the two bare forward passes of the same process
CKA = """
import statistics
import timm, torch
import tests.benchmarks.bench_cka as bench
torch.manual_seed(0)
one, other = (timm.create_model(name).eval() for name in ("resnet18", "vit_tiny_patch16_224"))
rows, columns = bench.select_layers(one, "leaves"), bench.select_layers(other, "leaves")
with bench.capture(one, rows) as first, bench.capture(other, columns) as second, torch.inference_mode():
    one(torch.zeros(1, 3, 224, 224)), other(torch.zeros(1, 3, 224, 224))
    ran = list(first), list(second)
loader = bench.loader_of(torch.randn(2 * SIZE, 3, 224, 224), SIZE)
def bare():
    with torch.inference_mode():
        for (images,) in loader:
            one(images), other(images)
def measured():
    return bench.quietly(bench.ours, one, other, loader, *ran)
bare(), measured()
ratios = []
for _ in range(3):
    base = bench.seconds(bare)
    ratios.append(bench.seconds(measured) / base)
print("measured", statistics.median(ratios))
"""
#: the trainer's images per second over those of a bare loop
TRAINER = """
import tempfile
from pathlib import Path
import torch
from tests.benchmarks.bench_train import bare_speed, trainer_speed
cpu = torch.device("cpu")
with tempfile.TemporaryDirectory() as folder:
    print("measured", trainer_speed("fp32", Path(folder), cpu) / bare_speed("fp32", cpu))
"""
#: bare passes' images per second over those of a dump of all stages
DUMP = """
import contextlib, io, re, tempfile
from pathlib import Path
from tests.benchmarks.bench_store import dumping
said = io.StringIO()
with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
    dumping(Path(folder), batch_size=64, n_minibatches=4, turns=3)
print("measured", 1 / float(re.search(r"features.* ([0-9.]+) of bare", said.getvalue()).group(1)))
"""
TRAINING = ("train", "digits/resnet8", "--set", "training.epochs=1", "--quiet")
SWEEP = ("sweep", "digits/resnet8", "--grid", "training.epochs=1", "--seeds", "12", "--slots", "2", "--quiet")
N_RUNS = 200

Measure = Callable[[Path, Path], float]


def told(code: str, tree: Path, _: Path) -> float:
    """What a piece of Python says that it measured, run in a tree."""
    run = _run([sys.executable, "-c", code], tree, tree)
    found = re.search(r"^measured (\S+)$", run.stdout, re.MULTILINE)
    if run.returncode or not found:
        raise SystemExit(f"{tree}: {run.stdout}{run.stderr}")
    return float(found.group(1))


def spent(words: Sequence[str], tree: Path, folder: Path, *, into: str = "") -> float:
    """Seconds of processors of a command of a tree, which writes into a new folder of this name."""
    out = ["--out", str(folder / into)] if into else []
    shutil.rmtree(folder / into, ignore_errors=True) if into else None
    command = [sys.executable, "-m", "kdprobe", *words, *out]
    before = os.times()
    run = _run(command, tree, folder)
    after = os.times()
    if run.returncode:
        raise SystemExit(f"{tree}: {' '.join(command)}: {run.stdout}{run.stderr}")
    return sum(after[2:4]) - sum(before[2:4])


def listing(tree: Path, folder: Path) -> float:
    """Seconds of processors that `runs ls` of many finished runs takes; they are copies of one."""
    runs = folder / "runs"
    if not runs.exists():
        spent(TRAINING, tree, folder, into="one")
        for number in range(N_RUNS):
            shutil.copytree(folder / "one", runs / f"{number}")
    return spent(("runs", "ls", str(runs)), tree, folder)


MEASURES: dict[str, Measure] = {
    **{
        f"CKA over two bare passes, minibatches of {size}": partial(told, CKA.replace("SIZE", str(size)))
        for size in (32, 64, 128)
    },
    "trainer's speed over a bare loop's": partial(told, TRAINER),
    "dump over two bare passes": partial(told, DUMP),
    "--help, s": partial(spent, ("--help",)),
    "an epoch of digits, s": partial(spent, TRAINING, into="digits"),
    "12 trainings of an epoch, s": partial(spent, SWEEP, into="sweep"),
    f"runs ls of {N_RUNS} runs, s": listing,
}


def _run(command: Sequence[str], tree: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    return subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)


def unpacked(revision: str, folder: Path) -> Path:
    """The files of a revision of this repository, with the names of its commands, which are metadata of a package."""
    tree = folder / "before"
    tree.mkdir()
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", revision], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(tree)], input=packed, check=True)
    named = [sys.executable, "-c", "from setuptools import setup; setup()", "--quiet", "egg_info"]
    subprocess.run(named, cwd=tree, check=True, capture_output=True)
    return tree


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        trees = {"before": unpacked(given.revision, folder), "now": ROOT}
        print("| | before | now | now / before, median of the turns (range) |\n|---|---|---|---|")
        for name in given.only:
            taken: dict[str, list[float]] = {which: [] for which in trees}
            for turn in range(given.turns):
                for which in list(trees)[:: 1 if turn % 2 == 0 else -1]:
                    place = folder / f"with-{which}"
                    place.mkdir(exist_ok=True)
                    taken[which].append(MEASURES[name](trees[which], place))
            ratios = [now / before for now, before in zip(taken["now"], taken["before"], strict=True)]
            medians = " | ".join(f"{statistics.median(values):.3g}" for values in taken.values())
            between = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"| {name} | {medians} | {statistics.median(ratios):.2f} ({between}) |", flush=True)


if __name__ == "__main__":
    main()
