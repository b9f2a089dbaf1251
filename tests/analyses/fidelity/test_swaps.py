"""Paired tests of two networks beside one teacher: false alarms, power, and intervals of differences."""

import numpy as np
import pytest
import torch

from analyses.evaluation.permutation import paired_permutation
from analyses.fidelity.measured import measure_answers
from analyses.fidelity.quantities import FIDELITIES, Answers
from analyses.fidelity.swaps import difference_ends, swap_test
from analyses.fidelity.together import Together
from kdprobe.mean_interval import holm
from tests.analyses.fidelity.planted import answers, logits

PLACE = {name: place for place, name in enumerate(FIDELITIES)}


def two_students(rng, n, *, copies=(0.0, 0.0), right=(0.9, 0.9)):
    """Two networks of one teacher, alike but for what is said."""
    true, taught, own = answers(rng, n, teacher=0.8, right=right[0], copies=copies[0])
    share = np.where(taught == true, right[1], 0.5)
    other = np.where(rng.random(n) < share, true, (true + rng.integers(1, 10, n)) % 10)
    other = np.where((taught != true) & (rng.random(n) < copies[1]), taught, other)
    teacher, labels = logits(rng, taught), torch.from_numpy(true)
    return [Answers(logits(rng, one), teacher, labels, temperature=1.0) for one in (own, other)]


def test_accuracy_is_tested_as_by_paired_permutation():
    one, other = two_students(np.random.default_rng(3), 200, right=(0.92, 0.85))
    expected, _ = paired_permutation(one.columns[:, 0] > 0, other.columns[:, 0] > 0, np.zeros(200, dtype=np.int64))
    found = swap_test(one, other, n_permutations=4_999)[PLACE["accuracy"]]
    assert found == pytest.approx(expected.p_value, abs=0.02)


def test_networks_that_are_alike_give_few_false_alarms():
    rng = np.random.default_rng(0)
    p_values = np.array([swap_test(*two_students(rng, 120), n_permutations=199, seed=k) for k in range(150)])
    alarms = (p_values < 0.05).mean(0)
    assert (alarms < 0.105).all(), alarms
    assert (alarms > 0.005).all(), alarms


def test_a_network_that_copies_mistakes_is_found_and_one_that_is_better_alone_is_not():
    copying = swap_test(*two_students(np.random.default_rng(1), 400, copies=(0.5, 0.0)), n_permutations=999)
    assert copying[PLACE["agreement_wrong"]] < 0.002
    better = two_students(np.random.default_rng(2), 400, right=(0.98, 0.8))
    found, values = swap_test(*better, n_permutations=999), [one.values for one in better]
    assert found[PLACE["agreement"]] < 0.002
    assert values[0][PLACE["agreement"]] > values[1][PLACE["agreement"]]
    assert found[PLACE["agreement_wrong"]] > 0.05


def test_a_network_is_as_close_as_itself():
    one, _ = two_students(np.random.default_rng(4), 60)
    assert (swap_test(one, one, n_permutations=99) == 1).all()


def _ends(pair):
    both = [measure_answers([one]) for one in pair]
    return difference_ends(*both, tuple(Together([one]).by_image()[0] for one in pair))


@pytest.mark.slow
def test_differences_are_covered():
    rng, population = np.random.default_rng(5), {"copies": (0.4, 0.1), "right": (0.95, 0.85)}
    large = two_students(rng, 200_000, **population)
    truth = large[0].values - large[1].values
    ends = np.array([_ends(two_students(rng, 150, **population)) for _ in range(120)])
    covered = ((ends[..., 1] <= truth) & (truth <= ends[..., 2])).mean(0)
    assert (covered > 0.9).all(), covered


def test_a_difference_is_never_a_point():
    one, other = two_students(np.random.default_rng(6), 90, copies=(0.4, 0.1))
    for pair, differs in (((one, other), True), ((one, one), False)):
        value, low, high = _ends(pair).T
        assert (low < value).all()
        assert (value < high).all()
        assert (value != 0).any() == differs


def test_holm_is_the_stepwise_rule():
    p_values = np.array([[0.01, 0.04, np.nan], [0.03, 0.005, 1.0]])
    np.testing.assert_allclose(holm(p_values), [[0.04, 0.09, np.nan], [0.09, 0.025, 1.0]])
    assert np.isnan(holm(np.array([np.nan]))).all()
