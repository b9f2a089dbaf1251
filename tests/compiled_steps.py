"""Trains by each of some methods, compiled, and prints what was compiled, and losses beside those as written.

    python -m tests.compiled_steps DEVICE BACKEND METHOD...

Both start each step from the same weights, statistics and random numbers: two trainings would tell little, as a ReLU
that rounding opens or closes moves all gradients, and a dozen steps make a difference a thousand times as large. Each
epoch ends as in a training, with an evaluation. A program of its own, as what checks types in tests cannot be compiled.
On a GPU, inductor replays CUDA graphs.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch._inductor.cudagraph_trees import CUDAGraphTreeManager

from kdprobe.data import Batch
from kdprobe.distillers import Progress
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.signals import StopRequest
from kdprobe.training.loop import Trainer
from kdprobe.training.rehearsal import undone
from kdprobe.training.state import Position
from tests.small_jobs import job_of, save_teachers

EPOCHS = 4
RECORDED = Counter[str]()


def trained(teachers: dict[str, Path], method: str, device: str) -> dict[str, Any]:
    """What there is to say of each step and of each epoch's end.

    Returns:
        `losses` of all steps, and as written, `eager`; `gradients`, how far they are from those as written, over their
        length; `graphs` compiled, and `recorded`, by the end of each epoch; why some were broken or skipped.
    """
    torch.manual_seed(0)
    options = ("training.compile=true", f"training.epochs={EPOCHS}", "training.optimizer.lr=1e-3")
    config, job = job_of(teachers, method, *options, device=device)
    torch._dynamo.reset()
    counters.clear()
    trainer = Trainer(config.training, config.data, job, Ranks(0, 1, torch.device(device)), seed=0)
    networks = [*trainer.objective.modules(), *(job.teacher.stages.modules() if job.teacher else ())]
    probe = counters["stats"]["unique_graphs"]  # of the trial whether there is a compiler
    losses, eager, gradients, graphs, recorded, before = [], [], [], [], [], RECORDED["n"]
    for epoch in range(EPOCHS):
        position = Position(epoch=epoch)
        trainer.objective.train()
        for batch in trainer._batches(position):
            with undone(networks, trainer.group.device), torch.compiler.set_stance("force_eager"):
                loss, wanted = computed(trainer, batch, position)
            eager.append(loss)
            loss, found = computed(trainer, batch, position)
            losses.append(loss)
            gradients.append(float((found - wanted).norm() / wanted.norm()))
            trainer._step()
            position.step += 1
        trainer._accuracy(position, StopRequest())
        graphs.append(counters["stats"]["unique_graphs"] - probe)
        recorded.append(RECORDED["n"] - before)
    skips = counters["inductor"]["cudagraph_skips"]
    found_of = {"losses": losses, "eager": eager, "gradients": gradients, "graphs": graphs, "recorded": recorded}
    return {**found_of, "skips": skips, "breaks": list(counters["graph_break"])}


def computed(trainer: Trainer, batch: Batch, position: Position) -> tuple[float, torch.Tensor]:
    """The loss of a step and all its gradients in one row, which the parameters then have too."""
    torch.manual_seed(100 * position.epoch + position.step)
    trainer.optimizer.zero_grad(set_to_none=True)
    with trainer.running():
        progress = Progress(position.epoch + position.step / trainer.n_steps, EPOCHS)
        loss = torch.stack([*trainer.losses(batch, None, progress).values()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
    each = [p.grad.flatten() for p in trainer.objective.parameters() if p.grad is not None]
    return float(loss.detach()), torch.cat(each)


def counting(record: Callable[..., Any]) -> Callable[..., Any]:
    """What records a CUDA graph, counted."""

    def recording(*args: Any) -> Any:
        RECORDED["n"] += 1
        return record(*args)

    return recording


def main() -> None:
    """Print a line of JSON for each method."""
    torch._inductor.config.fallback_random = True  # the same random numbers as without a compiler
    device, backend, *methods = sys.argv[1:]
    in_place = torch.nn.Module.compile
    if backend != "inductor":
        torch.nn.Module.compile = lambda module, mode, dynamic: in_place(module, backend=backend, dynamic=dynamic)  # type: ignore[method-assign]
    CUDAGraphTreeManager.record_function = counting(CUDAGraphTreeManager.record_function)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        teachers = save_teachers(Path(folder))
        for method in methods:
            print(json.dumps({"method": method, **trained(teachers, method, device)}))


if __name__ == "__main__":
    main()
