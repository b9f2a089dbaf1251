"""The Ray engine: one task per cell on a running cluster, or on one that it starts on this machine.

All nodes see the sweep's folder under one path and have kdprobe installed. Ray places the tasks and sets
CUDA_VISIBLE_DEVICES and OMP_NUM_THREADS; what is tried again is decided by the driver, as for every engine.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kdprobe.devices import usable_processors
from kdprobe.errors import SweepError
from kdprobe.sweeps.cells import Cell
from kdprobe.sweeps.work import Order, Outcome, work

_PATIENCE = 10.0  # seconds that a cluster has to answer


class RayEngine:
    """Tasks on a Ray cluster.

    Args:
        order: the sweep and the task.
        address: `auto` or HOST:PORT of a running cluster; None starts one here, for this machine alone.
        processors: how many a cell takes.
        gpus: how many a cell takes; fractions share one. If not given, one where the cluster has any and the device
            is not `cpu`. A cell that takes none computes on the CPU.

    Raises:
        SweepError: if Ray is not installed, or the cluster does not answer or lacks what a cell takes.
    """

    def __init__(
        self, order: Order, *, address: str | None = None, processors: float = 1, gpus: float | None = None
    ) -> None:
        self.slots = 1000  # queued tasks are what makes a cluster grow
        with _on_this_machine_alone() if address is None else nullcontext():
            try:
                import ray
            except ImportError as error:
                raise SweepError("the engine 'ray' is not installed; pip install 'kdprobe[ray]'") from error
            self._ray: Any = ray
            self._connect(address)
        there = self._ray.cluster_resources()
        if gpus is None:
            gpus = 0 if order.device == "cpu" else min(there.get("GPU", 0), 1)
        self._check_size(there, processors, gpus)
        options: dict[str, Any] = {"num_cpus": processors, "num_gpus": gpus, "max_retries": 0}
        self._work = ray.remote(**options)(_work_there)
        self._order = replace(order, device="cpu") if gpus == 0 and order.device == "auto" else order
        self._folder = Path.cwd()
        self._references: dict[str, Any] = {}

    def submit(self, cell: Cell, given_up: int = 0) -> Future[Outcome]:
        """Queue a cell on the cluster."""
        reference = self._work.remote(self._order, cell.id, cell.config, given_up, self._folder)
        self._references[cell.id] = reference
        future: Future[Outcome] = reference.future()
        return future

    def abandon(self, cell: Cell) -> None:
        """End the worker process that is at a cell."""
        if cell.id in self._references:
            self._ray.cancel(self._references[cell.id], force=True)

    def close(self) -> None:
        """Leave the cluster; tasks that still run are stopped with their worker processes."""
        self._ray.shutdown()

    def _connect(self, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave CUDA_VISIBLE_DEVICES alone
        looks: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if address is None:
            address = "local"
            own = {"num_cpus": usable_processors(), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        else:
            own = {}
        if address not in ("auto", "local"):
            _check_answers(address)
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(address=address, **own, **looks)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise SweepError(
                f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}; start one with: ray start --head"
            ) from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own in place, which knows nothing of the sweep

    def _check_size(self, there: Mapping[str, float], processors: float, gpus: float) -> None:
        for name, wanted in (("CPU", processors), ("GPU", gpus)):
            if wanted > there.get(name, 0):
                self.close()
                raise SweepError(f"a cell takes {wanted:g} {name}, but the cluster has {there.get(name, 0):g}")


@contextmanager
def _on_this_machine_alone() -> Iterator[None]:
    """A cluster that is started inside listens on 127.0.0.1, and only to those who know its token.

    Ray reads both when it is imported. Where it is imported already, it makes the token itself (since version 2.59).
    """
    wanted = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # its name for a cluster of more than this machine
    if "ray" not in sys.modules:
        wanted |= {"RAY_AUTH_MODE": "token"}
        if not any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
            wanted |= {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    constants: Any = sys.modules.get("ray._private.ray_constants", SimpleNamespace())
    clusters = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    before = {name: os.environ.get(name) for name in wanted if not name.startswith("RAY_AUTH")}
    os.environ.update(wanted)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = clusters
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _work_there(order: Order, cell: str, config: dict[str, Any], given_up: int, folder: Path) -> Outcome:
    if folder.is_dir():
        os.chdir(folder)  # so that relative paths in the configuration mean the same
    return work(order, cell, config, given_up)


def _check_answers(address: str) -> None:
    """Ask for an answer before Ray does, which would wait for minutes.

    Raises:
        SweepError: if this is not an address, nothing listens there, or what listens is not a Ray cluster.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise SweepError(f"a cluster's address is auto or HOST:PORT, but got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE / 2).close()
    except (OSError, OverflowError, ValueError) as error:  # ValueError: a port of thousands of digits
        raise SweepError(f"no Ray cluster answers at {address!r}: {error}") from error
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        healthy = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        raise SweepError(
            f"what listens at {address!r} is not a Ray cluster, does not answer, or wants the token of RAY_AUTH_TOKEN, "
            "with RAY_AUTH_MODE=token"
        )
