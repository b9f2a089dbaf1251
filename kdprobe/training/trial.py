"""Trying a training: whether it could begin, and what it would learn from, without writing anything."""

import os
from pathlib import Path

import torch

from kdprobe.config import RunConfig
from kdprobe.data import DataSet
from kdprobe.errors import RunError
from kdprobe.runs.folder import RunFolder
from kdprobe.runs.inputs import Inputs
from kdprobe.training.build import build
from kdprobe.training.console import Watch
from kdprobe.training.distributed import Ranks
from kdprobe.training.loop import Trainer
from kdprobe.training.out_of_memory import out_of_memory_advice
from kdprobe.training.precision import repeatable, with_precision
from kdprobe.training.rehearsal import rehearse
from kdprobe.training.signals import StopRequest


def try_out(config: RunConfig, data: DataSet) -> Inputs:
    """Rehearse the first step of a training on this machine's processor, which leaves its accelerators alone.

    Args:
        config: what would be done.
        data: of the configuration, from `build.read`.

    Returns:
        which teacher and data it would learn from.

    Raises:
        KdprobeError: for anything that a first batch reveals.
    """
    group, folder = Ranks(0, 1, torch.device("cpu")), RunFolder(Path(os.devnull))
    config = with_precision(config, group)
    with repeatable(config.seed, group.device):
        job = build(config, group.device, data=data)
        watch = Watch(folder, config, quiet=True, tensorboard=False)
        try:
            rehearse(Trainer(config, job, folder, group, StopRequest(), watch))
        except torch.OutOfMemoryError as error:
            raise RunError(out_of_memory_advice(config, job.objective, group.device)) from error
    return job.inputs
