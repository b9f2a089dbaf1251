"""Several processes that share one job, as `torchrun` starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def process_group() -> Iterator[tuple[int, int]]:
    """Join the processes that torchrun started; alone without torchrun.

    Yields:
        rank of this process, and how many there are.
    """
    n_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if n_ranks == 1:
        yield 0, 1
        return
    torch.distributed.init_process_group("gloo")
    try:
        yield torch.distributed.get_rank(), n_ranks
    finally:
        torch.distributed.destroy_process_group()
