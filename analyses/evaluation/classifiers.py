"""Simple classifiers of features: what a network's features are worth where it has no classes of its own."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numpy import ndarray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor
from torch.nn import functional as F

from kdprobe.data.augment import generator
from kdprobe.data.dataset import stratified
from kdprobe.errors import AnalysisError
from kdprobe.features.rounding import column_errors

STRENGTHS = tuple(10.0**power for power in range(-6, 4))
HELD_OUT = 0.2
TEMPERATURE = 0.07
_PATIENCE = 2  # values of C in a row that are worse than the best, after which no larger ones are tried
_ITERATIONS = 1000
_EQUAL = 1e-12  # how far cosines of equal features are apart by rounding, at most
_CHUNK = 1024  # test images that are compared with all training images at a time


class LinearProbe(NamedTuple):
    """What logistic regression says.

    Attributes:
        probabilities: of each class for each test image.
        strength: the C that was chosen.
        converged: whether its last fit did.
    """

    probabilities: Float64[ndarray, "m C"]
    strength: float
    converged: bool


def linear_probe(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    shown: Float[Tensor, "m d"],
    *,
    n_classes: int,
    held_out: float = HELD_OUT,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> LinearProbe:
    """Scikit-learn's logistic regression, learnt from training images.

    Features are standardised by the mean and standard deviation of the training images; those that vary by no more than
    rounding are left out. The inverse strength of the penalty, C, is chosen on a part of the training images that is
    held out: the value with the best accuracy there, and of several that are equally good, as happens with few images,
    the one with the lowest log loss. The classifier is then fitted to all training images with it.

    Args:
        features: of the training images.
        labels: their classes, from 0.
        shown: features of the test images.
        n_classes: C.
        held_out: the part of each class that C is chosen on.
        strengths: values of C to choose from, ascending.
        seed: which images are held out.

    Raises:
        AnalysisError: if the training images are all of one class.
        DataError: if a class has too few of them to hold any out.
    """
    _refuse_one_class(labels)
    mean, std = features.double().mean(0), features.double().std(0, correction=0)
    scale = torch.where(std > column_errors(features), std, torch.inf)  # what varies by rounding alone is left out
    x, shown_x = (((part.double() - mean) / scale).numpy() for part in (features, shown))
    y = labels.numpy()
    fitted, judged = (part.numpy() for part in stratified(labels, held_out, generator(seed, 0, 0)))
    best, best_score, worse = strengths[0], (-1.0, 0.0), 0
    classifier = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)
    for strength in strengths:
        _fit(classifier.set_params(C=strength), x[fitted], y[fitted])
        shares = classifier.predict_proba(x[judged])
        accuracy = float((classifier.classes_[shares.argmax(1)] == y[judged]).mean())
        score = accuracy, -float(log_loss(y[judged], shares, labels=classifier.classes_))
        worse = worse + 1 if score < best_score else 0
        if score > best_score:
            best, best_score = strength, score
        if worse == _PATIENCE:
            break
    final = LogisticRegression(max_iter=_ITERATIONS, C=best)
    converged = _fit(final, x, y)
    probabilities = np.zeros((len(shown_x), n_classes))
    probabilities[:, final.classes_] = final.predict_proba(shown_x)
    return LinearProbe(probabilities, best, converged)


def _fit(classifier: LogisticRegression, x: ndarray, y: ndarray) -> bool:
    """Fit it; whether it converged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        classifier.fit(x, y)
    return not any(issubclass(one.category, ConvergenceWarning) for one in caught)


def nearest_neighbours(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    shown: Float[Tensor, "m d"],
    *,
    n_classes: int,
    neighbours: int = 20,
    temperature: float = TEMPERATURE,
) -> Float64[ndarray, "m C"]:
    """Votes of the training images that are most alike by cosine, the more alike, the weightier.

    Training images that are equally alike, but for rounding, share the votes that are left for them, so that their
    order does not matter.

    Args:
        features: of the training images.
        labels: their classes, from 0.
        shown: features of the test images.
        n_classes: C.
        neighbours: k, the number of training images that vote.
        temperature: a vote weighs exp(cosine / temperature).

    Returns:
        each class's share of the votes.

    Raises:
        AnalysisError: if the training images are all of one class, or fewer than k.

    Reference:
        Wu, Xiong, Yu, Lin (2018), Unsupervised feature learning via non-parametric instance discrimination, section
        3.4; Caron et al. (2021), DINO, which takes k = 20.
    """
    _refuse_one_class(labels)
    if neighbours > len(labels):
        raise AnalysisError(
            f"{neighbours} nearest neighbours were asked for, but there are {len(labels)} training images"
        )
    known, asked = (F.normalize(part.double(), dim=1) for part in (features, shown))
    shares = []
    for part in torch.split(asked, _CHUNK):
        cosine = part @ known.T
        least = cosine.topk(neighbours, dim=1).values[:, -1:]
        near, index = cosine.topk(int((cosine >= least - _EQUAL).sum(1).amax()), dim=1)
        ahead, level = near > least + _EQUAL, (near - least).abs() <= _EQUAL
        left = (neighbours - ahead.sum(1, keepdim=True)) / level.sum(1, keepdim=True)
        votes = (ahead + left * level) * ((near - near[:, :1]) / temperature).exp()
        count = torch.zeros(len(part), n_classes, dtype=torch.float64).scatter_add_(1, labels[index], votes)
        shares.append(count / count.sum(1, keepdim=True))
    found: Float64[ndarray, "m C"] = torch.cat(shares).numpy()
    return found


def _refuse_one_class(labels: Tensor) -> None:
    if int(labels.min()) == int(labels.max()):
        raise AnalysisError("a probe tells classes apart, but the training images are all of one class")
