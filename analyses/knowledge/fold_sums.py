"""Sums of squares and products of two networks' features over training folds.

Those of a training fold are the sums over all samples without the held-out ones. One eigendecomposition per network
and training fold then serves all penalties, and serves the network as predictor and as target.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from kdprobe.errors import Undefined

# as multiples of the largest eigenvalue: from next to no shrinkage to next to no prediction
PENALTIES = torch.logspace(-10, 6, 65, dtype=torch.float64)
_TIE = 1e-9


@dataclass(frozen=True, eq=False)
class Training:
    """The samples outside one fold, as sums of squares and products, and the fold's own samples.

    Attributes:
        n: training samples.
        held_out: places of the fold's samples.
        own: the fold's samples of teacher and student, without the training mean.
        means: training means of teacher and student.
        squares: eigenvalues of each network's sums of squares and products, ascending.
        axes: their eigenvectors, as columns.
        products: between the networks along both networks' axes, [r_teacher, r_student].
        penalties: of teacher and student as predictors of each other.
    """

    n: int
    held_out: Tensor
    own: tuple[Tensor, Tensor]
    means: tuple[Tensor, Tensor]
    squares: tuple[Tensor, Tensor]
    axes: tuple[Tensor, Tensor]
    products: Tensor
    penalties: tuple[float, float]

    def products_of(self, target: int) -> Float64[Tensor, "p q"]:
        """Products with rows along the predictor's axes and columns along the target's (0 teacher, 1 student)."""
        return self.products.mT if target == 0 else self.products

    def variates(self, directions: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The fold's own samples along directions [r, c] that are given along each network's axes."""
        teacher, student = (own @ (axes @ of) for own, axes, of in zip(self.own, self.axes, directions, strict=True))
        return teacher, student

    def relative_penalties(self) -> tuple[float, float]:
        """Penalties as multiples of each network's largest eigenvalue."""
        teacher, student = (p / float(squares[-1]) for p, squares in zip(self.penalties, self.squares, strict=True))
        return teacher, student


def trainings(teacher: Tensor, student: Tensor, folds: list[Tensor]) -> Iterator[Training]:
    """Each fold's training samples, by taking the held-out ones from the sums over all.

    Raises:
        Undefined: if a feature does not vary outside a fold.
    """
    both = (teacher, student)
    sums = [x.mT @ x for x in both]
    products = teacher.mT @ student
    for held_out in folds:
        n = len(teacher) - len(held_out)
        own = [x[held_out] for x in both]
        means = [-x.sum(0) / n for x in own]
        inside = [total - x.mT @ x - n * torch.outer(m, m) for total, x, m in zip(sums, own, means, strict=True)]
        totals = [float(matrix.trace()) for matrix in inside]
        for name, total, matrix in zip(("teacher", "student"), totals, sums, strict=True):
            if total <= 1e-12 * float(matrix.trace()):
                raise Undefined(f"the {name}'s feature varies in one fold only; take fewer folds or more samples")
        squares, axes = zip(*(torch.linalg.eigh(matrix) for matrix in inside), strict=True)
        between = axes[0].mT @ (products - own[0].mT @ own[1] - n * torch.outer(*means)) @ axes[1]
        along = between.square()
        yield Training(
            n=n,
            held_out=held_out,
            own=(own[0] - means[0], own[1] - means[1]),
            means=(means[0], means[1]),
            squares=squares,
            axes=axes,
            products=between,
            penalties=(
                choose_penalty(squares[0], along.sum(1), total=totals[1], n=n),
                choose_penalty(squares[1], along.sum(0), total=totals[0], n=n),
            ),
        )


def choose_penalty(squares: Float64[Tensor, " p"], along: Float64[Tensor, " p"], *, total: float, n: int) -> float:
    """The ridge penalty with the least generalised cross-validation error; the strongest among equals.

    Args:
        squares: eigenvalues of the predictor's sums of squares and products, ascending.
        along: sum over targets of the squared products of each principal axis with them.
        total: sum of squares of the targets.
        n: samples, whose mean was taken away.

    Returns:
        a multiple in `PENALTIES` of the largest eigenvalue.

    Reference:
        Golub, Heath, Wahba (1979), Generalized cross-validation as a method for choosing a good ridge
        parameter, equation 1.4.
    """
    penalties = PENALTIES.to(squares.device)[:, None] * squares[-1]
    squares, along = squares[1 - n :], along[1 - n :]  # n samples around their mean have no more axes
    used = squares > squares[-1] * n * torch.finfo(torch.float64).eps
    squares, fitted = squares[used], along[used] / squares[used]
    left = penalties / (squares + penalties)  # share of each axis that is shrunk away, [penalties, axes]
    beyond = max(total - float(fitted.sum()), 0.0) if len(squares) < n - 1 else 0.0  # a square but for rounding
    errors = beyond + (fitted * left.square()).sum(1)
    scores = errors / (n - 1 - len(squares) + left.sum(1)).square()
    best = scores <= scores.min() + _TIE * total / (n - 1) ** 2
    return float(penalties[best.nonzero().max()])
