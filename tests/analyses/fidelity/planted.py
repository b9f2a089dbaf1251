"""Logits of networks with planted mistakes: which of them are their teacher's is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from scipy.special import expit, logit, ndtri
from torch import Tensor

from analyses.evaluation.predictions import Judged
from analyses.fidelity.lineage import Lineage
from analyses.fidelity.measured import Measured
from analyses.fidelity.quantities import FIDELITIES, Answers
from analyses.fidelity.together import Together
from kdprobe.data import load_data
from kdprobe.models.creation import ModelInfo

_NONE = np.zeros((len(FIDELITIES), 3))


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


def trained(rng: np.random.Generator, n_images: int, n_seeds: int = 1, **population: Any) -> list[Answers]:
    """Networks of one method and several seeds beside one teacher; `population` as `methods` takes it."""
    return methods(rng, n_images, n_seeds, **population)[0]


def methods(
    rng: np.random.Generator,
    n_images: int,
    n_seeds: int = 1,
    *,
    teacher: float = 0.9,
    accuracy: float = 0.9,
    copies: Sequence[float] = (0.2,),
    spread: float = 0.0,
    apart: float = 0.0,
    effects: ndarray | None = None,
) -> list[list[Answers]]:
    """Networks of several methods and seeds beside one teacher, with ten classes.

    Some images are hard for all of them, and have a class that they are often taken for.

    Args:
        rng: of everything.
        n_images: n.
        n_seeds: k.
        teacher: how often the teacher is right.
        accuracy: about how often the networks are, where they do not copy the teacher's mistakes.
        copies: for each method, how many of these its networks copy.
        spread: standard deviation over seeds of the logits of the last two.
        apart: that of how hard an image is for one method alone.
        effects: those of the seeds instead of random ones, [k, 2], in standard deviations.
    """
    true = rng.integers(0, 10, n_images)
    taught = np.where(rng.random(n_images) < teacher, true, _others(rng, true, 10))
    hard, mistaken, of_teacher = rng.normal(0, 1.5, n_images), _others(rng, true, 10), logits(rng, taught)
    found = []
    for share in copies:
        seeds = spread * (rng.normal(size=(n_seeds, 2)) if effects is None else effects)
        own_hard = hard + apart * rng.normal(size=n_images)
        right = rng.random((n_seeds, n_images)) < expit(1.3 * logit(accuracy) + seeds[:, :1] + own_hard)
        other = _others(rng, np.tile(true, (n_seeds, 1)), 10)
        wrong = np.where(rng.random((n_seeds, n_images)) < 0.5, mistaken, other)
        copied = (taught != true) & (rng.random((n_seeds, n_images)) < expit(logit(share) + seeds[:, 1:]))
        answers_of_seeds = np.where(copied, taught, np.where(right, true, wrong))
        labels = torch.from_numpy(true)
        found.append([Answers(logits(rng, one), of_teacher, labels, temperature=1.0) for one in answers_of_seeds])
    return found


def truth(n_images: int = 20_000, n_seeds: int = 1, **population: Any) -> ndarray:
    """The quantities of many images, and of seeds that stand for all."""
    rng, places = np.random.default_rng(99), (np.arange(n_seeds) + 0.5) / n_seeds
    effects = np.stack([ndtri(places), ndtri(rng.permutation(places))], axis=1)
    return Together(trained(rng, n_images, n_seeds, effects=effects, **population)).values


def as_measured(known: Sequence[Sequence[Answers]], n_controls: int = 1) -> list[Measured]:
    """As the comparison of methods takes them; the last methods are controls. Their own values are not filled in."""
    return [
        Measured(Lineage("student" if place < len(known) - n_controls else "control", f"m{place}", seed), one, _NONE)
        for place, of_method in enumerate(known)
        for seed, one in enumerate(of_method)
    ]


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
    return (true + rng.integers(1, n_classes, true.shape)) % n_classes
