"""Linear predictivity: how well ridge regression on one layer predicts another on samples that it was not fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.arrays import as_tensor, takes_arrays
from analyses.similarity.measure import FeatureSet, Measure
from kdprobe.errors import AnalysisError

RIDGE_PENALTIES = tuple(10.0**power for power in range(-3, 4))
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Predictivity:
    """How well features are predicted out of fold.

    Attributes:
        predictions: [n, dy].
        r: Pearson's correlation of each target in each fold [folds, dy]; NaN for a target or a prediction that does
            not vary there.
        r2: coefficient of determination of each, against the mean of the held-out samples [folds, dy].
        brain_score: mean over folds of the median of r over targets, those that are NaN left out.
        brain_score_error: its standard error over folds.
        r2_pooled: 1 - the squared errors of all samples and targets over those of the training samples' means.
        penalties: the penalty used in each fold [folds].
    """

    predictions: Tensor
    r: Tensor
    r2: Tensor
    brain_score: float
    brain_score_error: float
    r2_pooled: float
    penalties: Tensor


@dataclass(frozen=True, eq=False)
class _Fold:
    """One fold's predictors, decomposed."""

    held: Tensor  # places [t]
    rest: Tensor  # places [n - t]
    basis: Tensor  # [n - t, r] left singular vectors of the centred training samples
    sizes: Tensor  # [r]
    scores: Tensor  # [t, r] the held-out samples along the right ones

    def fitted(self, targets: Tensor, penalties: Sequence[float]) -> tuple[Tensor, float]:
        """Predictions of the held-out samples [t, dy], and the penalty of least leave-one-out error."""
        known = targets[self.rest]
        mean = known.mean(0)
        along = self.basis.T @ (known - mean)
        chosen = penalties[0] if len(penalties) == 1 else self._chosen(known - mean, along, penalties)
        return mean + self.scores @ ((self.sizes / (self.sizes**2 + chosen))[:, None] * along), chosen

    def _chosen(self, centred: Tensor, along: Tensor, penalties: Sequence[float]) -> float:
        """Leave-one-out errors follow from the leverages; the intercept has one, too."""
        errors = []
        for penalty in penalties:
            kept = self.sizes**2 / (self.sizes**2 + penalty)
            leverage = (self.basis**2) @ kept + 1 / len(centred)
            residuals = centred - self.basis @ (kept[:, None] * along)
            errors.append(float((residuals / (1 - leverage)[:, None]).square().sum()))
        return penalties[int(np.argmin(errors))]


def _folds(predictors: Tensor, folds: Tensor) -> list[_Fold]:
    made = []
    for number in torch.unique(folds):
        held, rest = (folds == number).nonzero()[:, 0], (folds != number).nonzero()[:, 0]
        mean = predictors[rest].mean(0)
        basis, sizes, turned = torch.linalg.svd(predictors[rest] - mean, full_matrices=False)
        made.append(_Fold(held, rest, basis, sizes, (predictors[held] - mean) @ turned.T))
    return made


@takes_arrays
def linear_predictivity(
    x: Float[Tensor, "n dx"],
    y: Float[Tensor, "m dy"],
    folds: Int[Tensor, " f"],
    *,
    penalties: float | Sequence[float] = RIDGE_PENALTIES,
) -> Predictivity:
    """Predict y from x by ridge regression with an intercept, out of fold.

    Features are not standardised. Of several penalties, each fold takes the one of least leave-one-out squared error
    within its training samples, summed over all targets.

    Args:
        x: predictors.
        y: targets, of the same samples.
        folds: in which fold each sample is held out.
        penalties: of the squared weights, above 0.

    Returns:
        not symmetric: report both directions.

    Raises:
        AnalysisError: for different samples, fewer than two folds, a fold that leaves fewer than two samples to
            fit, features that are not finite, or a penalty that is not positive.

    Reference:
        Schrimpf et al. (2018), Brain-Score: which artificial neural network for object recognition is most brain-like?
        (r and its median); Hastie, Tibshirani, Friedman (2009), The elements of statistical learning, equation 7.64.

    Example:
        >>> import torch
        >>> from analyses.similarity import linear_predictivity
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(200, 4, generator=generator)
        >>> y = torch.cat([x, torch.randn(200, 4, generator=generator)], 1)  # half of it can be predicted
        >>> round(linear_predictivity(x, y, torch.arange(200) % 5).r2.mean().item(), 1)
        0.5
        >>> round(linear_predictivity(y, x, torch.arange(200) % 5).r2.mean().item(), 1)
        1.0
    """
    x, y = (as_tensor(one, name=name, least=2).detach().flatten(1).double() for one, name in ((x, "x"), (y, "y")))
    folds = torch.as_tensor(folds)
    given = [float(penalties)] if isinstance(penalties, int | float) else [float(one) for one in penalties]
    if len(x) != len(y) or len(x) != len(folds):
        raise AnalysisError(
            f"x, y and folds need the same samples, but have {len(x)} and {len(y)} rows and {len(folds)} folds"
        )
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise AnalysisError("linear predictivity needs finite features, but some are NaN or infinite")
    if not given or min(given) <= 0:
        raise AnalysisError(f"penalties must be above 0, but are {given}")
    counts = torch.unique(folds, return_counts=True)[1]
    if len(counts) < 2 or len(x) - int(counts.max()) < 2:
        raise AnalysisError(f"folds must leave 2 samples or more to fit, but of {len(x)} they hold {counts.tolist()}")
    return _measured(x, y, _folds(x, folds), given)


def _measured(x: Tensor, y: Tensor, folds: Sequence[_Fold], penalties: Sequence[float]) -> Predictivity:
    predictions, chosen, r, r2, errors, totals = torch.empty_like(y), [], [], [], 0.0, 0.0
    for fold in folds:
        found, penalty = fold.fitted(y, penalties)
        truth = y[fold.held]
        predictions[fold.held] = found
        chosen.append(penalty)
        squares = (truth - found).square().sum(0)
        still = _constant(truth)  # whose mean is rounded, so that its deviations need not be 0
        r.append(torch.where(still | _constant(y[fold.rest]), torch.nan, _correlations(truth, found)))
        own = (truth - truth.mean(0)).square().sum(0)
        r2.append(torch.where(still, torch.nan, 1 - squares / own))
        errors += float(squares.sum())
        totals += float((truth - y[fold.rest].mean(0)).square().sum())
    medians = np.array([np.nanmedian(row) if not np.isnan(row).all() else np.nan for row in torch.stack(r).numpy()])
    error = float(medians.std() / len(medians) ** 0.5)
    pooled = 1 - errors / totals if totals else float("nan")
    return Predictivity(
        predictions,
        torch.stack(r),
        torch.stack(r2),
        float(medians.mean()),
        error,
        pooled,
        torch.tensor(chosen, dtype=torch.float64),
    )


def _constant(values: Tensor) -> Tensor:
    """Which columns are the same for all samples."""
    return (values == values[:1]).all(0)


def _correlations(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(0), y - y.mean(0)
    return (x * y).sum(0) / (x.square().sum(0) * y.square().sum(0)).sqrt()


@dataclass(frozen=True, eq=False)
class Regressed:
    """A layer as predictor and as target.

    Attributes:
        values: [n, v], centred, with a mean squared length of 1.
        order: where each sample of the comparison stands in the values.
        made: the folds of the predictors, made when first needed and shared by permuted copies.
    """

    values: Tensor
    order: Tensor
    made: list[_Fold] = field(default_factory=list)

    def folds(self) -> list[_Fold]:
        """Samples held out in turn, in an order of the values that depends on their number alone."""
        if not self.made:
            generator = torch.Generator().manual_seed(0)
            number = torch.arange(len(self.values))[torch.randperm(len(self.values), generator=generator)] % FOLDS
            self.made.extend(_folds(self.values, number))
        return self.made


@dataclass(frozen=True)
class LinearPredictivity(Measure[Regressed]):
    """The pooled R2 of `linear_predictivity` over five folds.

    Features are scaled as a whole, which leaves R2 as it is and gives the penalties a meaning for layers of any size.
    Folds stay with the samples of the predictors when these are permuted.
    """

    title: ClassVar[str] = "R2 of the second layer, predicted from the first"
    symmetric: ClassVar[bool] = False
    no_interval: ClassVar[str] = (
        "what a regression predicts grows with the samples that it is fitted to, so that an interval around it would "
        "miss the value of the population; read it beside its permutation null"
    )

    def prepare(self, features: FeatureSet) -> Regressed:
        """Centred features of mean squared length 1."""
        if features.n < 2 * FOLDS:
            raise AnalysisError(f"linear predictivity needs at least {2 * FOLDS} samples, but got {features.n}")
        centred = features.centred
        return Regressed(centred * (features.n**0.5 / centred.norm()), torch.arange(features.n))

    def compare(self, one: Regressed, other: Regressed) -> float:
        """R2 of the second."""
        errors, totals = self.squares(one, other)
        return 1 - errors / totals

    def reordered(self, prepared: Regressed, order: Tensor) -> Regressed:
        """The order of the samples permuted."""
        return Regressed(prepared.values, prepared.order[order], prepared.made)

    def squares(self, one: Regressed, other: Regressed) -> tuple[float, float]:
        """Squared errors of all held-out samples, and their squared distances from the training samples' mean."""
        targets = other.values[other.order][torch.argsort(one.order)]  # in the order of the predictors
        errors, totals = 0.0, 0.0
        for fold in one.folds():
            truth = targets[fold.held]
            errors += float((truth - fold.fitted(targets, RIDGE_PENALTIES)[0]).square().sum())
            totals += float((truth - targets[fold.rest].mean(0)).square().sum())
        return errors, totals


@dataclass(frozen=True)
class PredictsTeacher(LinearPredictivity):
    """The same in the other direction."""

    title: ClassVar[str] = "R2 of the teacher's layer, predicted from the student's"

    def squares(self, one: Regressed, other: Regressed) -> tuple[float, float]:
        """Of the first, predicted from the second."""
        return super().squares(other, one)


@dataclass(frozen=True)
class PredictsStudent(LinearPredictivity):
    """The direction of `LinearPredictivity`, named by the networks."""

    title: ClassVar[str] = "R2 of the student's layer, predicted from the teacher's"
