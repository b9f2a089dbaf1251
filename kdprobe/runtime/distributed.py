"""One process or many: the processes that `torchrun` starts, and what they exchange.

With one process nothing here costs anything: the same code runs with a world of one.
"""

import inspect
import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from kdprobe.devices import pick_device
from kdprobe.errors import ConfigError, RunError

_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    Attributes:
        rank: number of this process; rank 0 writes.
        world: number of processes.
        device: this process's.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @property
    def shard(self) -> tuple[int, int]:
        """Which shard of each batch is this process's: (rank, number of processes)."""
        return self.rank, self.world

    def wrap(self, module: nn.Module, *, sync_bn: bool, some_unused: bool = False) -> nn.Module:
        """The module whose gradients are averaged over all processes.

        Args:
            module: the module.
            sync_bn: whether batch norm is over the images of all processes.
            some_unused: some of its parameters may get no gradient.

        Raises:
            ConfigError: for synchronised batch norm on a CPU, where PyTorch has none.
        """
        if self.world == 1:
            return module
        if sync_bn:
            if self.device.type != "cuda":
                raise ConfigError(f"training.sync_bn needs CUDA devices, but this process has {self.device}")
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        options: dict[str, Any] = {"device_ids": [self.device.index] if self.device.type == "cuda" else None}
        options["find_unused_parameters"] = some_unused
        # batch norm's statistics stay each process's own until they are evaluated; the option's name has changed
        known = inspect.signature(DistributedDataParallel).parameters
        options["forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"] = False
        return DistributedDataParallel(module, **options)

    def synchronising(self, module: nn.Module, wanted: bool) -> AbstractContextManager[object]:
        """Whether the backward passes inside average the gradients of a wrapped module over all processes."""
        return nullcontext() if wanted or self.world == 1 else module.no_sync()  # type: ignore[operator]

    def weight(self, n_here: int, n_all: int | None = None) -> float | Tensor:
        """What the mean over this process's images counts in the mean over the processes: 1 if all have equally many.

        Args:
            n_here: images of this process.
            n_all: images of all processes; they ask one another if it is not given.
        """
        if self.world == 1:
            return 1.0
        if n_all is not None:
            return n_here * self.world / n_all
        mine = torch.tensor(float(n_here), device=self.device)
        return mine * self.world / self.sum(mine.clone())

    def seed(self, *key: int) -> None:
        """Give each of several processes random numbers of its own; a single process goes on with those it has."""
        if self.world > 1:
            torch.manual_seed(hash((*key, self.rank)))

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes, in every process."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def join(self, numbers: Tensor) -> list[int]:
        """The numbers of all processes, in their order, in every process."""
        if self.world == 1:
            return numbers.tolist()
        found: list[list[int]] = [[] for _ in range(self.world)]
        dist.all_gather_object(found, numbers.tolist())
        return [number for one in found for number in one]

    @torch.no_grad()
    def average_statistics(self, module: nn.Module, *, but: Collection[nn.Module] = ()) -> None:
        """Give all processes the mean of their batch norm statistics, so that one network is evaluated and saved.

        A step changes the statistics linearly, so that it makes no difference to their mean how often this is done.

        Args:
            module: the network.
            but: modules whose statistics never change.
        """
        if self.world > 1:
            for norm in (one for one in module.modules() if one not in but):
                if isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None:
                    for statistic in (norm.running_mean, norm.running_var):
                        dist.all_reduce(statistic)
                        statistic.div_(self.world)

    def wait(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def ranks(device: str) -> Iterator[Ranks]:
    """Join the processes that `torchrun` started, or be alone.

    Args:
        device: as `pick_device`; each process takes the CUDA device of its local rank.

    Raises:
        DeviceError: if the device is not there.
        RunError: if another process is gone.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = pick_device(device)
    if world == 1:
        yield Ranks(0, 1, chosen)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if chosen.type == "cuda":
        chosen = pick_device(f"cuda:{local}")
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Ranks(rank, world, chosen)
    except RuntimeError as error:
        if not any(word in str(error) for word in ("gloo", "NCCL", "Connection")):
            raise
        raise RunError(f"process {rank} stops because another process is gone; continue with --resume") from error
    finally:
        dist.destroy_process_group()
