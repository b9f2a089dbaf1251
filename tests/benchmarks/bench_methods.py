"""What each method adds to a training step: ResNet56 to ResNet20, batch 64, CIFAR-sized images.

Run by `make bench-methods`. Methods take turns, so that a busy machine slows all of them alike. The times are medians
over the turns: processor time on a CPU, elapsed time on a GPU. What plain training needs too, such as reading and
standardising the images, is left out.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from kdprobe.data.loaders import Batch
from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.rkd import angle_loss, distance_loss
from kdprobe.errors import KdprobeError
from kdprobe.models import create
from kdprobe.models.stages import Stages, measure
from kdprobe.training.objective import Objective


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

    def __call__(self, batch: Batch) -> float:
        """Seconds of a step."""
        clock = time.perf_counter if batch.images.is_cuda else time.process_time
        start = clock()
        images, shown, labels = self.method.inputs(batch)
        with torch.no_grad():
            teacher = None if self.teacher is None else self.teacher(shown)
        terms = self.objective(images, labels, teacher, Progress(30.0, 240))[1]
        self.optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        self.optimizer.step()
        if images.is_cuda:
            torch.cuda.synchronize()
        return clock() - start


def times(device: torch.device, turns: int) -> dict[str, tuple[float, int] | str]:
    """Median seconds and auxiliary parameters of each method, or why it is not defined."""
    found: dict[str, tuple[float, int] | str] = {}
    steps = {}
    for name in DISTILLERS:
        try:
            steps[name] = Step(name, device)
        except KdprobeError as error:
            found[name] = str(error)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(64, 3, 32, 32, generator=generator).to(device)
    batch = Batch(images, torch.arange(64, device=device) % 100, torch.arange(64, device=device))
    for step in steps.values():
        step(batch)
    taken = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            taken[name].append(step(batch))
    for name, step in steps.items():
        parameters = sum(p.numel() for p in step.method.parameters())
        found[name] = (statistics.median(taken[name]), parameters)
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
    args = parser.parse_args()
    memory = relational_memory(256)  # first: what the methods leave to the allocator would hide it
    found = times(torch.device(args.device), args.turns)
    base = found["kd"][0]
    print(f"{'method':16} {'ms/step':>8} {'over kd':>8} {'parameters':>11}")
    for name, row in found.items():
        if isinstance(row, str):
            print(f"{name:16} {row}")
        else:
            print(f"{name:16} {1e3 * row[0]:8.1f} {100 * (row[0] / base - 1):+7.1f}% {row[1]:11,}")
    print(f"rkd at batch 256: {memory:.0f} MiB of extra memory")


if __name__ == "__main__":
    main()
