"""Logits of networks with planted mistakes: which of them are their teacher's is known."""

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from analyses.evaluation.predictions import Judged
from kdprobe.data import load_data
from kdprobe.models.creation import ModelInfo


def answers(
    rng: np.random.Generator,
    n_images: int,
    *,
    n_classes: int = 10,
    teacher: float = 0.9,
    right: float = 0.9,
    hard: float = 0.5,
    copies: float = 0.0,
) -> tuple[ndarray, ndarray, ndarray]:
    """True classes, the teacher's answers and a student's.

    Args:
        rng: of everything.
        n_images: n.
        n_classes: C.
        teacher: how often the teacher is right.
        right: how often the student is right where the teacher is.
        hard: how often it is right where the teacher is not, unless it copies it.
        copies: how many of the teacher's mistakes it makes for sure.
    """
    true = rng.integers(0, n_classes, n_images)
    taught = np.where(rng.random(n_images) < teacher, true, _others(rng, true, n_classes))
    share = np.where(taught == true, right, hard)
    own = np.where(rng.random(n_images) < share, true, _others(rng, true, n_classes))
    return true, taught, np.where((taught != true) & (rng.random(n_images) < copies), taught, own)


def logits(rng: np.random.Generator, predicted: ndarray, n_classes: int = 10) -> Tensor:
    """Logits whose largest is that of the answer."""
    found = rng.normal(size=(len(predicted), n_classes))
    found[np.arange(len(predicted)), predicted] = found.max(1) + rng.exponential(2, len(predicted))
    return torch.from_numpy(found).float()


def judged(name: str, found: Tensor) -> Judged:
    """A network that gave these logits for the digits' test images."""
    info = ModelInfo("resnet8", 10, 8, sha256=name)
    return Judged(name, f"{name}.safetensors", info, load_data("digits", image_size=8), found)


def _others(rng: np.random.Generator, true: ndarray, n_classes: int) -> ndarray:
    return (true + rng.integers(1, n_classes, len(true))) % n_classes
