"""Intervals and tests over seeds and images: within their range, covering, and few false alarms."""

import numpy as np
import pytest
from scipy.stats import norm, t

from analyses.fidelity.comparisons import compare_methods
from analyses.fidelity.measured import measure_answers
from analyses.fidelity.quantities import FIDELITIES
from analyses.fidelity.seeds import Spread, two_way_p_values, with_seeds
from kdprobe.mean_interval import holm
from tests.analyses.fidelity.planted import as_measured, methods, trained, truth

PLACE = {name: place for place, name in enumerate(FIDELITIES)}
FEW = {
    "teacher": 0.85,
    "accuracy": 0.8,
    "copies": (0.4,),
    "spread": 0.3,
}  # of 60 images about 9 that the teacher errs on


def test_ends_are_wider_by_what_seeds_add_and_stay_in_their_range():
    ends, limits = np.array([[0.5, 0.4, 0.7]] * 4), np.array([[0.0, 1.0]] * 4)
    squares = np.array([0.0, 1e-4, 0.5, 1e9])
    found = with_seeds(ends, squares, limits)
    np.testing.assert_array_equal(found[0], ends[0])
    np.testing.assert_allclose(found[1, 1:], [0.5 - np.sqrt(0.01 + 1e-4), 0.5 + np.sqrt(0.04 + 1e-4)], atol=1e-5)
    np.testing.assert_allclose(found[3], [0.5, 0, 1], atol=1e-8)
    assert (np.diff(found[:, 1]) < 0).all()
    at_the_end = with_seeds(np.array([[1.0, 0.8, 1.0]]), np.array([0.3]), np.array([[0.0, 1.0]]))
    assert at_the_end[0, 2] == 1
    assert 0 < at_the_end[0, 1] < 0.8


@pytest.fixture(scope="module")
def true():
    return truth(10_000, n_seeds=20, **FEW)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_methods_of_few_seeds_and_few_mistakes_are_covered(n_seeds, true):
    rng = np.random.default_rng(n_seeds)
    ends = np.array([measure_answers(trained(rng, 60, n_seeds, **FEW)) for _ in range(40)])
    value, low, high = np.moveaxis(ends, -1, 0)
    for name, place in PLACE.items():
        quantity = FIDELITIES[name]
        assert low[:, place].min() >= quantity.lowest
        assert high[:, place].max() <= quantity.highest
    assert ((low <= value) & (value <= high)).all()
    assert (((low <= true) & (true <= high)).mean(0) >= 0.9).all()
    assert (high - low)[:, PLACE["agreement_wrong"]].max() < 1  # wide, but it says something


def test_differences_stay_in_their_range_and_alike_methods_give_few_alarms():
    rng, alarms = np.random.default_rng(0), []
    for _ in range(12):
        known = methods(rng, 40, 3, **{**FEW, "copies": (0.4, 0.4), "apart": 0.5})
        compared = compare_methods(as_measured(known), confidence=0.95, seed=0)
        value, low, high = compared.differences[0].T
        ranges = np.array([quantity.highest - quantity.lowest for quantity in FIDELITIES.values()])
        within = (-ranges <= low) & (low <= value) & (value <= high) & (high <= ranges)
        assert (within | np.isnan(value)).all()  # in one draw the teacher is right throughout
        found = compared.p_values[0] < 0.05
        apart = (low > 0) | (high < 0)
        assert (found == apart).mean() >= 0.75  # interval and test nearly always say the same
        alarms.append(found)
    assert np.mean(alarms) < 0.1


def test_p_values_are_students_over_seeds_alone_and_normal_over_images_alone():
    alone = Spread(np.array([0.02, 0.0, 0.02]), 3)
    found = two_way_p_values(np.array([0.05, 0.05, 0.05]), np.array([0.0, 0.02, 0.02]), alone)
    assert found[0] == pytest.approx(2 * t.sf(2.5, 3))
    assert found[1] == pytest.approx(2 * norm.sf(2.5))
    assert found[2] > found[0]
    far = two_way_p_values(np.array([0.0, np.nan, 0.9]), np.array([0.1, 0.1, 1e-9]), Spread(np.zeros(3), 2))
    assert (far[0], far[2]) == (1, pytest.approx(0, abs=1e-99))
    assert np.isnan(far[1])


def test_the_two_sided_error_of_one_seed_is_none():
    spread = Spread.of(np.full((1, 2), 0.3))
    assert (spread.square(0.95) == 0).all()
    assert Spread.of(np.array([[-0.1], [0.1]])).square(0.95) == pytest.approx((t.ppf(0.975, 1) * 0.1) ** 2)


def test_p_values_are_adjusted_for_each_question_apart():
    population = {**FEW, "copies": (0.9, 0.2, 0.1)}
    known = as_measured(methods(np.random.default_rng(3), 200, 4, **population))
    compared = compare_methods(known, confidence=0.95, seed=0)
    assert [(pair["one"], pair["other"]) for pair in compared.pairs] == [("m0", "m2"), ("m1", "m2"), ("m0", "m1")]
    beside_controls, p_values = compared.adjusted[:2], compared.p_values
    for columns in ([PLACE["accuracy"]], [PLACE["agreement_wrong"]], [1, 2, 4, 5, 6, 7]):
        np.testing.assert_allclose(beside_controls[:, columns], holm(p_values[:2, columns]))
        np.testing.assert_allclose(compared.adjusted[2, columns], holm(p_values[2, columns]))
    assert beside_controls[0, PLACE["agreement_wrong"]] < 0.05
