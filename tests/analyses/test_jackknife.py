"""The jackknife's interval: Student's own for a mean, and simulated truth where groups weigh differently."""

import numpy as np
import pytest

from analyses.jackknife import jackknife_t, too_few
from kdprobe.mean_interval import mean_interval


def without_each(values, weights):
    """Weighted means [...] of values [K, ...]."""
    weighted = (weights * values.T).T
    return ((weighted.sum(0) - weighted).T / (weights.sum() - weights)).T


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_of_a_mean_it_is_students(level):
    values = np.random.default_rng(0).normal(size=7)
    _, half = mean_interval(values, confidence=level)
    assert jackknife_t(without_each(values, np.ones(7)), level=level) == pytest.approx(half)
    assert jackknife_t(without_each(values, np.ones(7)), weights=[5] * 7, level=level) == pytest.approx(half)


def test_quantities_are_independent_of_each_other():
    values = np.random.default_rng(0).normal(size=(5, 2, 3))
    halves = jackknife_t(values, weights=[1, 2, 3, 4, 5])
    assert halves.shape == (2, 3)
    assert halves[1, 2] == pytest.approx(jackknife_t(values[:, 1, 2], weights=[1, 2, 3, 4, 5]))


@pytest.mark.parametrize(
    ("sizes", "most"), [([64, 64, 4], 0.98), ([64, 64, 64, 64, 20], 0.96), ([90, 10, 10, 10], 0.985), ([30] * 4, 0.96)]
)
def test_weighted_means_are_covered(sizes, most):
    """Groups that are noisier the fewer samples they have; where one or two hold the weight, it may be too much."""
    sizes, rng = np.array(sizes), np.random.default_rng(0)
    values = rng.normal(size=(len(sizes), 20_000)) / np.sqrt(sizes)[:, None]
    halves = jackknife_t(without_each(values, sizes), weights=sizes)
    assert 0.945 <= np.mean(np.abs(sizes @ values / sizes.sum()) <= halves) <= most


def test_what_has_no_interval():
    assert np.isnan(jackknife_t(np.ones((2, 4)))).all()
    assert too_few(2, "minibatches") == "intervals need at least 3 minibatches, but there were 2"
    assert too_few(3, "minibatches") == ""
    halves = jackknife_t(np.array([[1.0, 1.0], [np.inf, 2.0], [3.0, 3.0]]))
    assert np.isnan(halves[0])
    assert halves[1] == pytest.approx(4.302653 * np.sqrt(2 / 3 * 2))
