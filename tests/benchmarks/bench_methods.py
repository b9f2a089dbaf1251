"""What each method adds to a training step: ResNet56 to ResNet20, batch 64, CIFAR-sized images.

Run by `make bench-methods`. Methods take turns, so that a busy machine slows all of them alike. The times are medians
over the turns: processor time on a CPU, elapsed time on a GPU. What plain training needs too, such as reading and
standardising the images, is left out. The loss alone, forwards and backwards from features at hand, is measured too:
a method that shows both networks a second view of each image (mld, eac) doubles the step whatever its loss costs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kdprobe.data.loaders import Batch
from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.rkd import angle_loss, distance_loss
from kdprobe.errors import KdprobeError
from kdprobe.models import create
from kdprobe.models.stages import Features, Stages, measure
from kdprobe.training.objective import Objective

PROGRESS = Progress(30.0, 240)


class Step:
    """One training step of a method, as the training loop makes it."""

    def __init__(self, name: str, device: torch.device) -> None:
        kind = DISTILLERS[name]
        student, teacher = (create(net, n_classes=100, image_size=32) for net in ("resnet20", "resnet56"))
        self.method = kind(kind.Options(), measure(student), measure(teacher) if kind.uses_teacher else None)
        self.teacher = Stages(teacher, needs=self.method.teacher_needs) if kind.uses_teacher else None
        self.objective = Objective(student, self.method).train().to(device)
        if self.teacher is not None:
            self.teacher.to(device).eval()
        self.optimizer = torch.optim.SGD(self.objective.parameters(), lr=0.01)

    def __call__(self, batch: Batch) -> None:
        """The whole step."""
        images, shown, labels = self.method.inputs(batch)
        with torch.no_grad():
            teacher = None if self.teacher is None else self.teacher(shown)
        terms = self.objective(images, labels, teacher, PROGRESS)[1]
        self.optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        self.optimizer.step()

    def loss(self, batch: Batch) -> Callable[[], None]:
        """The loss of the step, from the features of a batch that are computed here."""
        images, shown, labels = self.method.inputs(batch)
        with torch.no_grad():
            teacher = None if self.teacher is None else self.teacher(shown)
            student = _leaves(self.objective.student(images))

        def run() -> None:
            terms = self.method(student, teacher, labels, PROGRESS)
            if terms:
                torch.stack(list(terms.values())).sum().backward()

        return run


def _leaves(features: Features) -> Features:
    """The same features, which ask for gradients."""
    single = {
        name: value.requires_grad_()
        for name in ("logits", "pooled", "tokens")
        if (value := getattr(features, name)) is not None
    }
    several = {name: tuple(x.requires_grad_() for x in getattr(features, name)) for name in ("maps", "preacts")}
    return replace(features, **single, **several)


def seconds(run: Callable[[], None], device: torch.device) -> float:
    """Processor time on a CPU, elapsed time on a GPU."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


@dataclass
class Cost:
    """Median seconds of a step and of its loss alone, and auxiliary parameters."""

    step: float
    loss: float
    parameters: int


def costs(device: torch.device, turns: int) -> dict[str, Cost | str]:
    """Of each method, or why it is not defined."""
    found: dict[str, Cost | str] = {}
    steps = {}
    for name in DISTILLERS:
        try:
            steps[name] = Step(name, device)
        except KdprobeError as error:
            found[name] = str(error)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(64, 3, 32, 32, generator=generator).to(device)
    batch = Batch(images, torch.arange(64, device=device) % 100, torch.arange(64, device=device))
    losses = {name: step.loss(batch) for name, step in steps.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(turns + 1):
        for name, step in steps.items():
            both = seconds(lambda step=step: step(batch), device), seconds(losses[name], device)
            if turn > 0:  # the first warms up
                taken[name].append(both)
    for name, step in steps.items():
        parameters = sum(p.numel() for p in step.method.parameters())
        found[name] = Cost(*map(statistics.median, zip(*taken[name], strict=True)), parameters)
    return {name: found[name] for name in DISTILLERS}


def relational_memory(n: int) -> float:
    """Extra MiB that the relational losses and their gradients take at their peak."""

    def run(size: int) -> None:
        student = torch.randn(size, 64, requires_grad=True)
        (distance_loss(student, torch.randn(size, 64)) + angle_loss(student, torch.randn(size, 64))).backward()

    run(4)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = _status("VmRSS")
    run(n)
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--csv", type=Path, help="file for what a step costs over one of kd")
    args = parser.parse_args()
    memory = relational_memory(256)  # first: what the methods leave to the allocator would hide it
    found = costs(torch.device(args.device), args.turns)
    base = found["kd"]
    assert isinstance(base, Cost)
    print(f"{'method':16} {'ms/step':>8} {'over kd':>8} {'ms loss':>8} {'of kd step':>10} {'parameters':>11}")
    for name, cost in found.items():
        if isinstance(cost, str):
            print(f"{name:16} {cost}")
            continue
        over, share = 100 * (cost.step / base.step - 1), 100 * cost.loss / base.step
        times = f"{1e3 * cost.step:8.1f} {over:+7.1f}% {1e3 * cost.loss:8.2f} {share:9.1f}%"
        print(f"{name:16} {times} {cost.parameters:11,}")
    if args.csv:
        rows = [f"{name},{cost.step / base.step - 1:.4f}" for name, cost in found.items() if isinstance(cost, Cost)]
        args.csv.write_text("\n".join(["method,over_kd", *rows]) + "\n", encoding="utf-8")
    print(f"rkd at batch 256: {memory:.0f} MiB of extra memory")


if __name__ == "__main__":
    main()
