"""How often the intervals hold the truth, in small populations."""

import numpy as np
import pytest

from analyses.fidelity.intervals import consistency_interval, kappa_interval, skewed_mean
from analyses.fidelity.measured import measure_answers
from analyses.fidelity.quantities import Answers, quantities
from tests.analyses.fidelity.planted import answers


def coverage(ends: list[np.ndarray], truth: float) -> float:
    low, high = np.array(ends)[:, 1:].T
    return float(((low <= truth) & (truth <= high)).mean())


def test_a_skewed_mean_is_covered_where_students_interval_misses_it():
    rng = np.random.default_rng(0)
    draws = rng.gamma(0.15, 1 / 0.15, (250, 60))  # skewness 5, mean 1
    assert 0.92 < coverage([skewed_mean(values) for values in draws], 1.0) < 0.98
    halves = 2.0 * draws.std(1, ddof=1) / np.sqrt(60)
    assert (np.abs(draws.mean(1) - 1) < halves).mean() < 0.9
    value, low, high = skewed_mean(-draws[0])
    assert (value, low, high) == pytest.approx(tuple(-skewed_mean(draws[0])[[0, 2, 1]]))


def test_a_mean_of_equal_or_too_few_values_has_no_interval():
    for values in (np.zeros(9), np.full(5, 0.3), np.array([0.1, 0.2])):
        value, *ends = skewed_mean(values)
        assert value == pytest.approx(values.mean())
        assert np.isnan(ends).all()


@pytest.mark.parametrize(("n", "teacher", "right"), [(60, 0.95, 0.9), (200, 0.97, 0.98)])
def test_kappas_are_covered(n, teacher, right):
    population = {"n_classes": 5, "teacher": teacher, "right": right, "hard": 0.4, "copies": 0.4}
    rng = np.random.default_rng(1)
    truth = _kappas(rng, 200_000, population)
    found = [_kappas(rng, n, population, ends=True) for _ in range(100)]
    assert 0.9 < coverage([one for one, _ in found], truth[0]) <= 0.995
    assert 0.9 < coverage([one for _, one in found], truth[1]) <= 0.995


def _kappas(rng, n, population, *, ends=False):
    true, taught, own = answers(rng, n, **population)
    marks = np.stack([own == true, own == taught, (own == taught) & (own == true)]), taught == true
    share_own, share_taught = (np.bincount(one, minlength=5) / n for one in (own, taught))
    columns = np.stack(
        [*marks[0], (own == taught) & (own != true), (own != true) & (taught != true), share_taught[own], 0 * true],
        axis=1,
    )
    if not ends:
        return quantities(columns.mean(0), marks[1].mean())[5:7]
    made = object.__new__(Answers)
    made.columns, made.others, made.right = columns.astype(float), share_own[taught], marks[1]
    return measure_answers([made])[5:7]


def test_networks_that_agree_on_all_images_need_not_always():
    value, low, high = kappa_interval(1.0, 0.1, np.zeros(50))
    assert (value, high) == (1, 1)
    assert low == pytest.approx(1 - (1 - 0.9287) / 0.9, abs=1e-3)  # Wilson's 92.9 % of 50 on the scale of kappa
    value, low, high = consistency_interval(np.array([[48.0, 0], [0, 2]]), 1.0)
    assert low < 0.7
    assert value == high == 1
    assert np.isnan(kappa_interval(1.0, 1.0, np.zeros(3))).all()
    assert np.isnan(consistency_interval(np.array([[9.0, 0], [0, 0]]), np.nan)).all()
