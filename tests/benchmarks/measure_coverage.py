"""Intervals of measures of similarity other than CKA, held against what they are intervals of."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from analyses.jackknife import jackknife_t
from analyses.similarity.intervals import group_samples
from analyses.similarity.measure import FeatureSet
from analyses.similarity.measures import MEASURES
from kdprobe.features.hsic import u_centre
from tests.benchmarks.populations import Population

OF_POPULATION = ("rsa", "rsa-spearman", "distance-correlation")  # values that do not depend on the number of samples
OF_SAMPLES = ("mutual-knn", "cknna")
_PAIRS, _MANY, _TIMES = 250_000, 1_000, 12  # pairs for RSA; samples, how often, for distance correlation


def truths(population: Population) -> dict[str, float]:
    """Values of measures in the population: RSA over independent pairs, distance correlation from ratios of means."""
    rng = np.random.default_rng(7)
    sides = zip(*(population.draw(rng, _PAIRS) for _ in range(2)), strict=True)
    pairs = [np.linalg.norm(one - other, axis=1) for one, other in sides]
    pearson, spearman = (np.corrcoef(*map(how, pairs))[0, 1] for how in (np.asarray, rankdata))
    sums = np.zeros(3)
    for _ in range(_TIMES):
        x, y = (u_centre(_distances(side)) for side in population.draw(rng, _MANY))
        sums += [float((one * other).sum()) for one, other in ((x, y), (x, x), (y, y))]
    return dict(zip(OF_POPULATION, map(float, (pearson, spearman, sums[0] / np.sqrt(sums[1] * sums[2]))), strict=True))


def _distances(features: np.ndarray) -> torch.Tensor:
    n = len(features)
    found = np.zeros((n, n))
    found[np.triu_indices(n, 1)] = pdist(features)
    return torch.from_numpy(found + found.T)


def found_intervals(
    names: Sequence[str], population: Population, n: int, groups: Sequence[int], draws: int
) -> dict[str, np.ndarray]:
    """Value, and half the width of the interval for each number of groups, of each draw [draws, 1 + groups].

    Also of measures that come without intervals, as these are why.
    """
    rng, found = np.random.default_rng(n), {name: np.empty((draws, 1 + len(groups))) for name in names}
    for draw in range(draws):
        sides = [FeatureSet(torch.from_numpy(side)) for side in population.draw(rng, n)]
        for name in names:
            measure = MEASURES[name]
            one, other = ((side, measure.prepare(side)) for side in sides)
            found[name][draw, 0] = measure.compare(one[1], other[1])
            for place, count in enumerate(groups, 1):
                left_out = measure.left_out([one], [other], group_samples(np.arange(n), count, seed=draw))
                found[name][draw, place] = jackknife_t(*left_out)[0, 0]
    return found


def covered(found: np.ndarray, truth: float | None) -> list[float]:
    """How often each interval holds the truth; without one, the mean over the draws of values of so many samples."""
    values, halves = found[:, 0], found[:, 1:]
    far = np.abs(values - (values.mean() if truth is None else truth))
    return [float(share) for share in (far[:, None] <= halves).mean(0)]
