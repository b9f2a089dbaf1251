"""Cells that need no training: small stand-ins for `work.train_cell`, importable by workers of every engine."""

import json
import os
import signal
import time
from pathlib import Path

from torch.optim.optimizer import register_optimizer_step_pre_hook

from kdprobe.runs.folder import RunFolder
from kdprobe.sweeps.work import train_cell
from kdprobe.user_code import trusted_modules

STEPS = 8


def journal(out: Path, text: str) -> None:
    """One line that other processes cannot tear apart."""
    path = out.parent.parent / "journal" / out.name.partition(".")[0]
    path.parent.mkdir(exist_ok=True)
    with path.open("ab", buffering=0) as file:
        file.write(f"{text} {os.getpid()} {time.time():.3f}\n".encode())


def tiny(config, out, device, seconds=0.1):
    """Eight steps of a tenth of a second, each saved, so that a killed cell goes on where it was."""
    out.mkdir(parents=True, exist_ok=True)
    state = out / "state.pt"
    done = int(state.read_text() or 0) if state.exists() else 0
    for step in range(done, STEPS):
        journal(out, f"step {step}")
        time.sleep(seconds)
        state.with_suffix(".new").write_text(str(step + 1))
        state.with_suffix(".new").replace(state)
    finish(config, out, device)


def long(config, out, device):
    """Eight steps of a second."""
    tiny(config, out, device, seconds=1.0)


def instant(config, out, device):
    finish(config, out, device)


def broken(config, out, device):
    journal(out, "broken")
    print("about to fail")
    raise ValueError("no such luck")


def once_broken(config, out, device):
    """Fails at the first try."""
    tries = out.parent.parent / "tries" / out.name.partition(".")[0]
    if not tries.exists():
        tries.parent.mkdir(exist_ok=True)
        tries.touch()
        broken(config, out, device)
    finish(config, out, device)


def once_killed(config, out, device):
    """Its process is killed at the first try."""
    if out.name.endswith(".1"):
        os.kill(os.getpid(), signal.SIGKILL)
    finish(config, out, device)


def crashing_once(config, out, device):
    """The first seed's process dies at its first try, as by a crash of a driver."""
    tries = out.parent.parent / "tries" / out.name.partition(".")[0]
    if config.seed == 0 and not tries.exists():
        tries.parent.mkdir(exist_ok=True)
        tries.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    finish(config, out, device)


def near_its_limit(config, out, device):
    """Slurm tells all processes of a job, with some of its plugins."""
    _all_told(signal.SIGUSR2)


def cancelled(config, out, device):
    """The same, with what ends a job."""
    _all_told(signal.SIGTERM)


def _all_told(number):
    for process in (os.getppid(), os.getpid()):
        os.kill(process, number)
    time.sleep(60)


def forgetful(config, out, device):
    """Leaves nothing."""


def pinned(config, out, device):
    """Says where it was put."""
    keys = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    print(json.dumps({"pids": [os.getppid(), os.getpid()], **{key: os.environ.get(key) for key in keys}}))
    finish(config, out, device)


def slow_at_first(config, out, device):
    """A real training; while the cell is attempted for the first time a step of it takes three seconds."""
    if out.name.endswith(".1"):
        register_optimizer_step_pre_hook(lambda *_: time.sleep(3))
    train_cell(config, out, device)


def finish(config, out, device):
    rate = config.method.get("feature_rate_teacher", 0.0) - config.method.get("feature_rate_student", 0.0)
    accuracy = 0.9 - abs(rate) + 0.001 * config.seed
    values = {"model": "resnet8", "teacher": "t", "teacher_sha256": "0", "data": "digits", "seed": config.seed}
    values["evaluated_images"] = 1000
    RunFolder(out).write_result({**values, "accuracy": accuracy, "seconds": 0.8})
    journal(out, "trained")


def trusting_cell(config, out, device):
    """Says which modules files may name."""
    journal(out, " ".join(sorted(trusted_modules())))
    finish(config, out, device)
