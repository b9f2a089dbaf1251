"""The permutation test against all swaps, the exact sign test and its own level."""

from itertools import product

import numpy as np
import pytest
from numpy import ndarray
from scipy.stats import binomtest, kstest

from analyses.evaluation.permutation import paired_permutation


def uar(right: ndarray, targets: ndarray) -> float:
    return float(np.mean([right[targets == label].mean() for label in np.unique(targets)]))


def test_p_values_equal_those_of_all_swaps() -> None:
    rng = np.random.default_rng(0)
    targets = np.array([0] * 7 + [2] * 4 + [5] * 2)
    right, other = rng.random(13) < 0.9, rng.random(13) < 0.4
    every = []
    for swap in product([False, True], repeat=13):
        one, two = np.where(swap, other, right), np.where(swap, right, other)
        every.append((one.mean() - two.mean(), uar(one, targets) - uar(two, targets)))
    exact = (np.abs(every) >= np.abs(every[0]) - 1e-12).mean(0)
    accuracy, recall = paired_permutation(right, other, targets)
    assert (accuracy.value, recall.value) == pytest.approx(every[0])
    assert (accuracy.p_value, recall.p_value) == pytest.approx(exact, abs=0.006)


def test_accuracy_agrees_with_the_sign_test() -> None:
    rng = np.random.default_rng(1)
    right, other = rng.random(400) < 0.85, rng.random(400) < 0.8
    targets = rng.integers(0, 10, 400)
    won, lost = int((right & ~other).sum()), int((other & ~right).sum())
    accuracy, _ = paired_permutation(right, other, targets)
    assert accuracy.value == pytest.approx((won - lost) / 400)
    assert accuracy.p_value == pytest.approx(binomtest(won, won + lost).pvalue, abs=0.006)


def test_the_other_way_round_changes_the_sign_alone() -> None:
    rng = np.random.default_rng(2)
    right, other, targets = rng.random(50) < 0.9, rng.random(50) < 0.7, rng.integers(0, 3, 50)
    for forward, backward in zip(
        paired_permutation(right, other, targets), paired_permutation(other, right, targets), strict=True
    ):
        assert forward.value == pytest.approx(-backward.value)
        assert forward.p_value == pytest.approx(backward.p_value, abs=0.006)


def test_the_same_answers_differ_by_nothing() -> None:
    right = np.array([True, False, True])
    for difference in paired_permutation(right, right, np.array([0, 0, 1]), n_permutations=100):
        assert difference == (0, 1)


def test_equally_good_networks_are_told_apart_as_rarely_as_stated() -> None:
    rng = np.random.default_rng(3)
    p_values = []
    for _ in range(300):
        targets = rng.integers(0, 4, 2000)
        right, other = rng.random((2, 2000)) < 0.8
        p_values.append(paired_permutation(right, other, targets, n_permutations=499)[1].p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_more_permutations_than_a_chunk_are_all_made() -> None:
    right, other = np.ones(40, bool), np.zeros(40, bool)
    accuracy, _ = paired_permutation(right, other, np.zeros(40, np.int64), n_permutations=25_000)
    assert accuracy == (1, 1 / 25_001)
