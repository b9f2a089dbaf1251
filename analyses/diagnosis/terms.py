"""What each term of a loss is, how large its gradient is, where it goes, and how it lies to the others'."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor

from analyses.diagnosis.kept_run import KeptRun, TrainingStep
from kdprobe.training.build import Job

#: options that weight a term, besides those whose names end in `weight`
_WEIGHTS = ("alpha", "beta")
_LINEAR = 1e-4  # by which twice a term may differ from the term at twice its weight


class Trained(NamedTuple):
    """Numbers of parameters of the student.

    Attributes:
        total: all.
        frozen: do not require gradients.
        unused: no term depends on them.
        idle: of the others, those whose gradient was exactly zero in all minibatches.
    """

    total: int
    frozen: int
    unused: int
    idle: int


@dataclass(frozen=True, eq=False)
class TermGradients:
    """k minibatches, T terms, P parts of student and method.

    Attributes:
        terms: names of the terms.
        parts: `student.NAME` and `method.NAME`, the outermost modules that have parameters to be trained.
        loss: weighted terms [k, T].
        inner: inner products of the terms' gradients with respect to the student's parameters [k, T, T].
        norms: norms of their gradients in each part [k, T, P].
        trained: numbers of the student's parameters.
        idle: tensors of the student's parameters whose gradients were zero everywhere.
        weight_norm: norm of the student's parameters that are trained.
    """

    terms: tuple[str, ...]
    parts: tuple[str, ...]
    loss: ndarray
    inner: ndarray
    norms: ndarray
    trained: Trained
    idle: tuple[str, ...]
    weight_norm: float


def gradients_of(terms: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> list[tuple[Tensor | None, ...]]:
    """The gradient of each term with respect to each parameter; None where a term does not depend on it.

    Args:
        terms: scalars.
        parameters: that require gradients.

    Example:
        >>> import torch
        >>> from analyses.diagnosis.terms import gradients_of
        >>> x, y = torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)
        >>> gradients_of({"one": (3 * x).sum()}, [x, y])
        [(tensor([3., 3.]), None)]
    """
    nothing = (None,) * len(parameters)
    return [
        torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True) if term.requires_grad else nothing
        for term in terms.values()
    ]


def gram_of(gradients: Sequence[Tensor | None]) -> Float64[Tensor, "terms terms"]:
    """Inner products of the terms' gradients with respect to one parameter; None counts as zero."""
    size = max((one.numel() for one in gradients if one is not None), default=0)
    rows = [torch.zeros(size).double() if one is None else one.detach().flatten().double().cpu() for one in gradients]
    stacked = torch.stack(rows)
    return stacked @ stacked.mT


def shares_and_cosines(inner: ndarray, task: int | None) -> tuple[ndarray, ndarray]:
    """Shares of the gradient by term, which sum to 1, and cosines between each term's gradient and the task's.

    Args:
        inner: inner products [k, T, T].
        task: the place of the task's loss among the terms; None if there is none.

    Returns:
        shares [T] of the terms' mean norms, and mean cosines [T]; NaN where a gradient is zero or not finite.

    Example:
        >>> import numpy as np
        >>> from analyses.diagnosis.terms import shares_and_cosines
        >>> shares, cosines = shares_and_cosines(np.array([[[1.0, 3.0], [3.0, 9.0]]]), 0)
        >>> shares.tolist(), cosines.tolist()
        ([0.25, 0.75], [1.0, 1.0])
    """
    norms = np.sqrt(np.einsum("ktt->kt", inner))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = norms.mean(0) / norms.mean(0).sum()
        if task is None:
            return shares, np.full(len(shares), np.nan)
        cosines = inner[:, task] / (norms * norms[:, [task]])
    return shares, np.clip(cosines.mean(0), -1, 1)


def measure_terms(run: KeptRun, n_minibatches: int) -> TermGradients:
    """Show a run minibatches of its own training, and take the gradient of each term."""
    trained = _trained(run.job)
    moved: list[Tensor | None] = [None] * len(trained)
    loss, grams, terms = [], [], dict[str, Tensor]()
    with run.unchanged():
        run.trainer.objective.train()
        for step in run.counted_steps(n_minibatches, "terms and gradients"):
            terms = run.terms(step)
            of_parameters = [*zip(*gradients_of(terms, [*trained.values()]), strict=True)]
            loss.append([float(term.detach()) for term in terms.values()])
            grams.append(torch.stack([gram_of(one) for one in of_parameters]).numpy())
            moved = [_moved(before, one) for before, one in zip(moved, of_parameters, strict=True)]
    of_all = np.stack(grams)  # [k, parameters, T, T]
    parts = tuple(dict.fromkeys(map(_part, trained)))
    squares = np.einsum("kptt->kpt", of_all)
    of_part = [squares[:, [_part(name) == part for name in trained]].sum(1) for part in parts]
    of_student = [name.startswith("student.") for name in trained]
    counts, idle = _counted(run.job, dict(zip(trained, moved, strict=True)))
    return TermGradients(
        terms=tuple(terms),
        parts=parts,
        loss=_finite(np.array(loss)),
        inner=_finite(of_all[:, of_student].sum(1)),
        norms=_finite(np.sqrt(np.stack(of_part, axis=2))),
        trained=counts,
        idle=idle,
        weight_norm=math.sqrt(sum(float(one.detach().double().square().sum()) for one in _of_student(trained))),
    )


def _trained(job: Job) -> dict[str, Tensor]:
    """What is trained, the student's parameters first."""
    modules = {"student": job.student, "method": job.method}
    return {
        f"{whose}.{name}": parameter
        for whose, module in modules.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def _of_student(trained: Mapping[str, Tensor]) -> Iterable[Tensor]:
    return (one for name, one in trained.items() if name.startswith("student."))


def _part(name: str) -> str:
    """`student.layer1` of `student.layer1.0.conv1.weight`."""
    return ".".join(name.split(".")[:2])


def _moved(before: Tensor | None, gradients: Sequence[Tensor | None]) -> Tensor | None:
    """Which numbers of a parameter any term has moved so far; None where no term depends on it."""
    found = [before, *(one != 0 for one in gradients if one is not None)]
    return reduce(torch.logical_or, there) if (there := [one for one in found if one is not None]) else None


def _counted(job: Job, moved: Mapping[str, Tensor | None]) -> tuple[Trained, tuple[str, ...]]:
    """Numbers of the student's parameters, and its tensors that no term moved."""
    sizes = {f"student.{name}": one.numel() for name, one in job.student.named_parameters()}
    frozen = sum(size for name, size in sizes.items() if name not in moved)
    unused = sum(size for name, size in sizes.items() if name in moved and moved[name] is None)
    seen = {name: one for name, one in moved.items() if name in sizes and one is not None}
    idle = {name: int((~one).sum()) for name, one in seen.items()}
    still = tuple(name.removeprefix("student.") for name, count in idle.items() if count == sizes[name])
    return Trained(sum(sizes.values()), frozen, unused, sum(idle.values())), still


def _finite(values: ndarray) -> ndarray:
    """NaN for what is not finite."""
    return np.where(np.isfinite(values), values, np.nan)


def weighting_options(run: KeptRun, n_minibatches: int) -> dict[str, tuple[str, float]]:
    """For each term that an option weights, that option and its value.

    Which option weights which term is tried: at twice its weight, a term is twice as large.

    Args:
        run: the run.
        n_minibatches: on the last of so many, as terms that are warmed up are zero in the first.
    """
    found = {}
    *_, step = run.steps(n_minibatches)
    terms = _terms_of(run, step)
    for option, weight in _weights(run):
        doubled = _terms_of(run, step, **{option: 2 * weight})
        for name, value in terms.items():
            if value and abs(doubled[name] - 2 * value) <= _LINEAR * abs(value):
                found[name] = f"method.{option}", weight
    return found


def _weights(run: KeptRun) -> list[tuple[str, float]]:
    options = run.job.method.options.model_dump()
    named = ((key, value) for key, value in options.items() if key.endswith("weight") or key in _WEIGHTS)
    return [(key, value) for key, value in named if isinstance(value, float) and value]


@torch.no_grad()
def _terms_of(run: KeptRun, step: TrainingStep, **changed: float) -> dict[str, float]:
    """The terms of a minibatch with some options changed; each time the same random numbers are drawn."""
    method = run.job.method
    options = method.options
    with run.unchanged():
        run.trainer.objective.train()
        method.options = options.model_copy(update=changed)
        terms = run.terms(step)
    return {name: float(value) for name, value in terms.items()}
