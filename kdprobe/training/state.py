"""Saving a run so that it continues as if it had never stopped."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from kdprobe.errors import RunError
from kdprobe.files import replacing

VERSION = 1


@dataclass(frozen=True)
class Reached:
    """How far a saved run had come.

    Attributes:
        epoch: epochs done.
        best_accuracy: highest so far, a fraction.
        best_epoch: after which epoch.
        seconds: spent in training so far.
    """

    epoch: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0


def save_state(path: Path, objective: nn.Module, optimizer: Optimizer, reached: Reached) -> None:
    """Write student, auxiliary modules, optimizer, random states and progress, as a whole."""
    state = {
        "version": VERSION,
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
        "reached": vars(reached),
    }
    with replacing(path) as temporary:
        torch.save(state, temporary)


def restore_state(path: Path, objective: nn.Module, optimizer: Optimizer) -> Reached:
    """Read what `save_state` wrote into a run built from the same configuration.

    Raises:
        RunError: if the file is damaged or belongs to another model or method.
    """
    try:
        state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["version"] != VERSION:
            raise RunError(f"{path} has version {state['version']}; this kdprobe continues version {VERSION}")
        objective.load_state_dict(state["objective"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"]["cpu"])
        if torch.cuda.is_available() and state["random"]["cuda"]:
            torch.cuda.set_rng_state_all(state["random"]["cuda"])
        return Reached(**state["reached"])
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise RunError(f"{path} is damaged or belongs to another run: {reason}") from error
