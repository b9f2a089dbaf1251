"""What a pretrained Transformer without a head teaches a small CNN: from its weights file to a report.

    python -m tests.benchmarks.foreign_teacher --weights FILE --data FOLDER --out OUT [--epochs N] [--device cuda]

FOLDER holds train/ and val/ with a folder for each class. Everything goes through the command line, as a user would do
it; a step whose output is there already is left as it is. The numbers are gathered in OUT/summary.json:

1. a linear head on the frozen Transformer, and both probes of its features;
2. a CNN that learns from the headless Transformer, which sees the same view at a size of its own: with labels by
   `rkd`, `fitnet` and `dropkd`, and without labels, judged by both probes;
3. the same CNN taught by the Transformer with its new head, by `kd` and `dropkd`;
4. CKA, decomposition and evaluation of one such pair, and the report of everything;
5. the student as ONNX, torch.export and timm weights;
6. the same losses in the trainer, in a loop of one's own and in Lightning.
"""

import argparse
import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

DINO = "vit_small_patch14_dinov2"


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--weights", required=True, type=Path)
    told.add_argument("--data", required=True, type=Path)
    told.add_argument("--out", required=True, type=Path)
    told.add_argument("--teacher", default=DINO)
    told.add_argument("--student", default="resnet18")
    told.add_argument("--teacher-size", type=int, default=98)
    told.add_argument("--student-size", type=int, default=64)
    told.add_argument("--epochs", type=int, default=20)
    told.add_argument("--batch-size", type=int, default=128)
    told.add_argument("--per-class", type=int, help="at most this many training images of each class")
    told.add_argument("--device", default="auto")
    told.add_argument("--jobs", type=int, default=1, help="students trained at a time")
    Study(told.parse_args()).run()


class Study:
    """The steps, each a method; what they find is kept in `found`."""

    def __init__(self, told: argparse.Namespace) -> None:
        self.told, self.out = told, told.out.resolve()
        self.lock = threading.Lock()
        self.data = f"folder:{told.data.resolve()}"
        self.headless = f"{told.teacher}@{told.weights.resolve()}"
        self.out.mkdir(parents=True, exist_ok=True)
        self.path = self.out / "summary.json"
        self.found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def run(self) -> None:
        self.head()
        with ThreadPoolExecutor(self.told.jobs) as pool:
            list(pool.map(lambda train: train(), self.students()))
        self.analyses()
        self.exports()
        self.loops()
        print(json.dumps(self.found, indent=2))

    def head(self) -> None:
        """A linear head on the frozen Transformer."""
        model = {"name": self.told.teacher, "weights": str(self.told.weights.resolve())}
        frozen = {"freeze": ["*", "!head*"], "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-2}}
        still = {"crop": "none", "flip": False}
        self.train("head", model, size=self.told.teacher_size, augment=still, training=frozen)
        size = ("--classes", "0", "--image-size", str(self.told.teacher_size))
        for probe in ("linear", "knn"):
            self.probe(f"teacher-{probe}", self.headless, probe, *size)

    def students(self) -> Iterator[Callable[[], None]]:
        """Of the headless Transformer with labels, by features alone without them, and of the one with a head."""
        yield partial(self.student, "plain", {"name": "plain"})
        headless = {"path": self.headless, "n_classes": 0, "image_size": self.told.teacher_size}
        for name in ("rkd", "fitnet", "dropkd"):
            yield partial(self.student, f"headless-{name}", {"name": name}, headless)
        for name in ("rkd", "fitnet"):
            yield partial(self.unlabelled, name, headless)
        for name in ("kd", "dropkd"):
            yield partial(self.student, f"head-{name}", {"name": name}, {"path": str(self.out / "head")})

    def unlabelled(self, name: str, teacher: dict[str, Any]) -> None:
        """A student that sees no labels, judged by two classifiers of its features."""
        run, spec = f"unlabelled-{name}", f"images:{self.told.data.resolve() / 'train'}"
        self.student(run, {"name": name, "ce_weight": 0.0}, teacher, spec=spec)
        for probe in ("linear", "knn"):
            self.probe(f"{run}-{probe}", str(self.out / run), probe)

    def analyses(self) -> None:
        """CKA, decomposition, evaluation of one pair, and the report of everything."""
        pair = ("--teacher", str(self.out / "head"), "--student", str(self.out / "head-dropkd"))
        where = ("--data", self.data, "--device", self.told.device)
        results = self.out / "results"
        self.step("cka", "cka", *pair, *where, "--out", results / "cka.npz")
        self.step("decompose", "decompose", *pair, *where, "--out", results / "decomposition.npz")
        plain = ("--checkpoint", self.out / "plain", "--checkpoint", self.out / "head-dropkd")
        self.step("evaluate", "evaluate", *plain, "--device", self.told.device, "--out", results / "evaluation")
        runs = sorted(path.parent for path in self.out.glob("*/result.json"))
        self.step("compare", "runs", "compare", *runs, "--out", results / "comparison.npz")
        self.step("report", "report", results, "--out", results / "report.html")

    def exports(self) -> None:
        for kind, ending in (("onnx", "onnx"), ("torch", "pt2"), ("timm", "safetensors")):
            file = self.out / "exported" / f"student.{ending}"
            self.step(f"export-{kind}", "export", self.out / "head-kd", "--format", kind, "--out", file)

    def loops(self) -> None:
        """The first steps of one training in three loops."""
        if "loops" not in self.found:
            from tests.benchmarks.three_loops import first_losses

            self.keep("loops", first_losses(self.out / "head-dropkd" / "config.yaml"))

    def student(self, run: str, method: dict[str, Any], teacher: dict[str, Any] | None = None, spec: str = "") -> None:
        training = {"optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4, "nesterov": True}}
        model = {"name": self.told.student}
        augment = {"crop": "pad", "padding": 8, "flip": True}
        self.train(
            run, model, spec=spec, size=self.told.student_size, augment=augment, training=training, method=method,
            teacher=teacher,
        )  # fmt: skip

    def train(
        self,
        run: str,
        model: dict[str, Any],
        *,
        size: int,
        augment: dict[str, Any],
        training: dict[str, Any],
        spec: str = "",
        method: dict[str, Any] | None = None,
        teacher: dict[str, Any] | None = None,
    ) -> None:
        config = {
            "data": {
                "spec": spec or self.data,
                "image_size": size,
                "augment": augment,
                **({} if self.told.per_class is None or spec else {"per_class": self.told.per_class}),
            },
            "model": model,
            "method": method or {"name": "plain"},
            "training": {
                "epochs": self.told.epochs,
                "batch_size": self.told.batch_size,
                "schedule": {"name": "onecycle"},
                **training,
            },
            **({} if teacher is None else {"teacher": teacher}),
        }
        file = self.out / f"{run}.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        again = ("--resume",) if (self.out / run / "config.yaml").exists() else ()
        words = () if again else (file,)
        self.step(run, "train", *words, "--out", self.out / run, "--device", self.told.device, *again)
        result = json.loads((self.out / run / "result.json").read_text())
        self.keep(run, {key: result[key] for key in ("accuracy", "epochs", "seconds", "precision")})

    def probe(self, name: str, checkpoint: str, probe: str, *more: str) -> None:
        words = ("--checkpoint", checkpoint, "--data", self.data, "--probe", probe, "--device", self.told.device)
        self.step(name, "evaluate", *words, *more, "--out", self.out / "results" / name)

    def step(self, name: str, *words: object) -> None:
        """One command; what it prints is kept."""
        if name in self.found:
            return
        given = [*map(str, words), "--quiet"]
        print("$", shlex.join(["kdprobe", *given]), flush=True)
        started = time.perf_counter()
        done = self.command(given)
        if done.returncode:
            raise SystemExit(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")
        print(done.stdout[-1500:], done.stderr[-500:], flush=True)
        seconds = round(time.perf_counter() - started, 1)
        self.keep(name, {"seconds": seconds, "printed": done.stdout[-2000:], "said": done.stderr[-1000:]})

    def command(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """`kdprobe WORDS` in a process of its own."""
        return subprocess.run([sys.executable, "-m", "kdprobe", *words], capture_output=True, text=True, check=False)

    def keep(self, name: str, value: Any) -> None:
        with self.lock:
            self.found[name] = {**self.found.get(name, {}), **value}
            self.path.write_text(json.dumps(self.found, indent=2))


if __name__ == "__main__":
    main()
