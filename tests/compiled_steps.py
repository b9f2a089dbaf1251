"""Trains by each of some methods, compiled and not, and prints what was compiled and the losses.

    python -m tests.compiled_steps DEVICE BACKEND METHOD...

A program of its own, as what checks types in tests cannot be compiled. On a GPU, inductor replays CUDA graphs.
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

from kdprobe.distillers import Progress
from kdprobe.runtime.distributed import Ranks
from kdprobe.training.loop import Trainer
from kdprobe.training.state import Position
from tests.small_jobs import job_of, save_teachers

EPOCHS = 4
RECORDED = Counter[str]()


def trained(teachers: dict[str, Path], method: str, device: str, *, compile: bool) -> dict[str, Any]:
    """Losses of all steps; graphs compiled, and recorded, by the end of each epoch; why some were broken or skipped."""
    torch.manual_seed(0)
    options = (f"training.compile={str(compile).lower()}", f"training.epochs={EPOCHS}", "training.optimizer.lr=1e-3")
    config, job = job_of(teachers, method, *options, device=device)
    torch._dynamo.reset()
    counters.clear()
    trainer = Trainer(config.training, config.data, job, Ranks(0, 1, torch.device(device)), seed=0)
    probe = counters["stats"]["unique_graphs"]  # of the trial whether there is a compiler
    losses, graphs, recorded, before = [], [], [], RECORDED["n"]
    for epoch in range(EPOCHS):
        position = Position(epoch=epoch)
        trainer.objective.train()
        for batch in trainer._batches(position):
            torch.manual_seed(100 * epoch + position.step)
            with trainer.running():
                progress = Progress(epoch + position.step / trainer.n_steps, EPOCHS)
                loss = torch.stack([*trainer.losses(batch, None, progress).values()]).sum()
                loss.backward()
            trainer._step()
            trainer.optimizer.zero_grad(set_to_none=True)
            position.step += 1
            losses.append(loss.detach().clone())
        graphs.append(counters["stats"]["unique_graphs"] - probe)
        recorded.append(RECORDED["n"] - before)
    skips = counters["inductor"]["cudagraph_skips"]
    found = {"losses": [float(loss) for loss in losses], "graphs": graphs, "recorded": recorded, "skips": skips}
    return {**found, "breaks": list(counters["graph_break"])}


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
        teachers = save_teachers(Path(folder))
        for method in methods:
            found = [trained(teachers, method, device, compile=wanted) for wanted in (False, True)]
            print(json.dumps({"method": method, "eager": found[0]["losses"], **found[1]}))


if __name__ == "__main__":
    main()
