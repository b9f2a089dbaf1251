"""What a teacher costs before and after its outputs are kept in `teacher.store`: several methods and seeds.

Every training is done twice, first by asking the teacher and then with a store that the first training of all fills and
the others read. Printed are the seconds of each training, those of the teacher in it, and the shares over all; reading
and writing the store count as the teacher's. The figure in the README is of

    python -m tests.benchmarks.bench_teacher_store --teacher vit_small_patch14_dinov2@dinov2-vit-s14.safetensors \
        --data folder:tiny-imagenet-50 --per-class 40 --epochs 10 --period 2
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kdprobe.config import RunConfig, parse
from kdprobe.distillers import option_types
from kdprobe.runs.folder import RunFolder
from kdprobe.teachers.stored_teacher import StoredTeacher
from kdprobe.teachers.teacher import Teacher
from kdprobe.terminal import worded_bytes
from kdprobe.training import train
from kdprobe.training.build import build

METHODS: dict[str, dict[str, Any]] = {
    "rkd": {},
    "crd": {},
    "at": {},
    "fitnet": {},
    "dropkd": {"logit_weight": 0.0},
}


def config(given: argparse.Namespace, method: str, seed: int, **facts: Any) -> RunConfig:
    """One training; all see the same views."""
    values = {
        "data": {
            "spec": given.data,
            "image_size": given.student_size,
            "per_class": given.per_class,
            "seed": 0,
            "augment": {"period": given.period},
        },
        "model": {"name": given.student},
        "teacher": {"path": given.teacher, "image_size": given.teacher_size, "n_classes": 0, **facts},
        "method": {"name": method, **METHODS[method]},
        "training": {"epochs": given.epochs, "batch_size": given.batch_size, "precision": "fp32"},
        "seed": seed,
    }
    return parse(values, option_types())


def outputs(configs: Iterable[RunConfig]) -> list[str]:
    """What all methods together read of the teacher, so that the first training keeps all of it."""
    found = set()
    for one in configs:
        method = build(one, torch.device("cpu")).method
        for need in method.teacher_needs:
            several = need in ("maps", "preacts") and method.teacher_stages is not None
            found |= {f"{need}.{stage}" for stage in method.teacher_stages or ()} if several else {need}
    return sorted(found - {"head"})


@contextmanager
def timed(kind: type, name: str) -> Iterator[list[float]]:
    """The seconds of each call of a method."""
    original: Callable[..., Any] = getattr(kind, name)
    seconds: list[float] = []

    def call(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*arguments)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(kind, name, call)
    try:
        yield seconds
    finally:
        setattr(kind, name, original)


def measured(chosen: RunConfig, out: Path) -> tuple[float, float]:
    """Seconds of a training's epochs, and those of its teacher."""
    stored = chosen.teacher_facts is not None and chosen.teacher_facts.store is not None
    with timed(*((StoredTeacher, "__call__") if stored else (Teacher, "__call__"))) as teacher:
        train(chosen, out, device="cpu", quiet=True)
    return sum(record["seconds"] for record in RunFolder(out).metrics()), sum(teacher)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher-size", type=int, default=98)
    parser.add_argument("--student", default="resnet18")
    parser.add_argument("--student-size", type=int, default=64)
    parser.add_argument("--per-class", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--period", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary folder if not given")
    given = parser.parse_args()
    cells = [(method, seed) for method in given.methods for seed in range(given.seeds)]
    warnings.simplefilter("ignore")  # position embeddings are resampled each time
    kept = outputs(config(given, method, 0) for method in given.methods)
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads; kept: {', '.join(kept)}", flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        store = Path(folder) / "store"
        ways = {"asked": {}, "stored": {"store": str(store), "store_dtype": given.dtype, "store_outputs": kept}}
        sums = {way: [0.0, 0.0] for way in ways}
        for method, seed in cells:
            for way, facts in ways.items():
                took = measured(config(given, method, seed, **facts), Path(folder) / f"{method}-{seed}-{way}")
                sums[way] = [one + other for one, other in zip(sums[way], took, strict=True)]
                print(f"{method:8} seed {seed} {way:7} {took[0]:7.1f} s, the teacher {took[1]:7.1f} s", flush=True)
        for way, (total, teacher) in sums.items():
            print(f"{len(cells)} trainings {way:7} {total:7.1f} s, the teacher {teacher:7.1f} s: {teacher / total:.1%}")
        size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        faster = sums["asked"][0] / sums["stored"][0]
        print(f"the store: {worded_bytes(size)}; all trainings together {faster:.2f} times as fast")


if __name__ == "__main__":
    main()
