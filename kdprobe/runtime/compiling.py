"""A compiled training: student, method and losses in one graph, the frozen teacher in another.

Where each step has tensors of the same shapes, a CUDA device is given a graph's kernels all at once (CUDA graphs),
where it would wait to be told of the many short ones of a small network.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdprobe.devices import sent
from kdprobe.models.hooks import KeptHooks
from kdprobe.models.stages import Stages
from kdprobe.runtime.distributed import Ranks
from kdprobe.terminal.progress import say


@dataclass(frozen=True)
class Compilation:
    """What compiled modules need around them.

    Attributes:
        device: theirs.
        hooks: those that they look through.
        replays: whether their kernels are recorded and replayed.
    """

    device: torch.device
    hooks: Sequence[KeptHooks]
    replays: bool

    @property
    def words(self) -> str:
        """What a run says of it."""
        return ", compiled and replayed as CUDA graphs" if self.replays else ", compiled"

    @contextmanager
    def step(self) -> Iterator[None]:
        """Inside `with`, they run once, or once for each piece of a batch."""
        if self.replays:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with ExitStack() as stack:
            for hooks in self.hooks:
                stack.enter_context(hooks)
            yield

    def scalar(self, number: float) -> Tensor:
        """A number that changes from step to step, on the device: for another one nothing is compiled anew."""
        return sent(torch.tensor(number, dtype=torch.float64), self.device)


def compile_training(
    objective: nn.Module, stages: Sequence[Stages], group: Ranks, *, is_static: bool
) -> Compilation | None:
    """Compile an objective and a teacher in place; without a working compiler, report that and do nothing.

    Args:
        objective: student, method and losses, or what wraps them.
        stages: the student's, which is inside, and the teacher's, if there is one.
        group: this process among all.
        is_static: whether each step but the last of an epoch has tensors of the same shapes.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=group.device))  # each kind has its own compiler
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        say(f"training.compile is off: no working compiler was found ({reason})")
        return None
    replays = is_static and group.device.type == "cuda" and group.world == 1
    for module in (objective, *stages[1:]):
        module.compile(mode="reduce-overhead" if replays else None, dynamic=False if is_static else None)
    return Compilation(group.device, [one.keep_hooks() for one in stages], replays)
