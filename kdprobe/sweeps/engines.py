"""The engines by name, made with their own options."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdprobe.config import override
from kdprobe.devices import pick_device, usable_processors
from kdprobe.errors import ConfigError
from kdprobe.sweeps.engine import Engine
from kdprobe.sweeps.work import Order

if TYPE_CHECKING:
    from kdprobe.sweeps.local import Start

#: which engine each option is for
_OPTIONS = {"slots": "local", "start": "local", "address": "ray", "processors": "ray", "gpus": "ray", "slurm": "slurm"}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options of another engine.

    Raises:
        ConfigError: naming the first one.
    """
    for option, engine in _OPTIONS.items():
        if engine != name and options.get(option) not in (None, ()):
            raise ConfigError(f"--{option} is for --engine {engine}, not for {name}")


def make_engine(
    name: str,
    order: Order,
    *,
    slots: int | None = None,
    start: "Start | None" = None,
    address: str | None = None,
    processors: float | None = None,
    gpus: float | None = None,
    slurm: Sequence[str] = (),
) -> Engine:
    """Open an engine.

    Args:
        name: `local`, `ray` or `slurm`.
        order: the sweep and the task.
        slots: cells at a time, for `local`.
        start: `fork` or `spawn`, for `local`, as `local.pick_start` takes it.
        address: of a running cluster, for `ray`, and so the next two.
        processors: of each cell; 1 if not given.
        gpus: of each cell; 1 if there are any and it is not given.
        slurm: `KEY=VALUE` parameters of submitit, `cells_per_job` and `cluster`, for `slurm`.

    Raises:
        SweepError: if it cannot be had.
    """
    if name == "ray":
        from kdprobe.sweeps.ray import RayEngine

        return RayEngine(order, address=address, processors=1 if processors is None else processors, gpus=gpus)
    if name == "slurm":
        from kdprobe.sweeps.slurm import SlurmEngine

        options = override({}, slurm)
        ours = {key: options.pop(key) for key in ("cluster", "cells_per_job") if key in options}
        return SlurmEngine(order, options=options, **ours)
    from kdprobe.sweeps.local import LocalEngine, make_slots, pick_start

    n_gpus, device = 0, pick_device(order.device).type
    if device == "cuda":
        import torch

        n_gpus = torch.cuda.device_count()
    each = make_slots(slots, processors=usable_processors(), n_gpus=n_gpus)
    return LocalEngine(order, each, start=pick_start(start, on_processors=device == "cpu"))
