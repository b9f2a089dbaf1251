"""The choice, and the best of n trials against all subsets of n, one by one."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdprobe.tuning.chosen import best_trial, expected_best

SHARES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.51, 0.9, 1.0]), min_size=1, max_size=7)


def test_ties_go_to_the_earlier_trial_and_diverged_ones_are_not_chosen():
    assert best_trial([0.5, 0.7, 0.7]) == 1
    assert best_trial([math.nan, 0.0, math.nan]) == 1
    assert best_trial([math.nan, math.nan]) is None


@given(SHARES)
def test_the_best_of_n_trials_is_that_of_all_subsets(shares):
    found = expected_best(np.array(shares))
    for n, (mean, low, high) in enumerate(found, start=1):
        best = [max(subset) for subset in combinations(shares, n)]
        assert mean == pytest.approx(np.mean(best))
        assert sum(value < low - 1e-12 for value in best) <= 0.025 * len(best) + 1e-9
        assert sum(value > high + 1e-12 for value in best) <= 0.025 * len(best) + 1e-9
        assert {low, high} <= set(best)
    assert found[-1].tolist() == [max(shares)] * 3
    assert (np.diff(found[:, 0]) >= -1e-12).all()


def test_the_ends_are_the_quantiles_of_many_subsets():
    shares = np.random.default_rng(0).permutation(40) / 40
    best = [max(subset) for subset in combinations(shares, 3)]
    low, high = np.quantile(best, [0.025, 0.975], method="inverted_cdf")
    assert expected_best(shares)[2, 1:].tolist() == [low, high]


def test_a_trial_that_diverged_counts_as_nothing():
    np.testing.assert_array_equal(expected_best(np.array([math.nan, 0.5])), expected_best(np.array([0.0, 0.5])))
    assert expected_best(np.array([math.nan, 0.5]))[:, 0].tolist() == [0.25, 0.5]
