"""Intervals from counts are the intervals from images."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from numpy import ndarray

from analyses.bootstrap import bootstrap
from analyses.confusion import confusion, mean_share, overall_share, shares, tally

N_CLASSES = 4


def images(n: int, seed: int, right: float = 0.85) -> tuple[ndarray, ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.choice(N_CLASSES, n, p=[0.4, 0.3, 0.2, 0.1])
    return targets, np.where(rng.random(n) < right, targets, rng.integers(0, N_CLASSES, n))


def counts(targets: ndarray, predictions: ndarray) -> ndarray:
    return tally(confusion(torch.from_numpy(targets), torch.from_numpy(predictions), N_CLASSES))


def accuracy(targets: ndarray, predictions: ndarray, axis: int = -1) -> ndarray:
    return (targets == predictions).mean(axis)


def uar(targets: ndarray, predictions: ndarray, axis: int = -1) -> ndarray:
    of_class = [targets == label for label in range(N_CLASSES)]
    return np.mean([(own & (targets == predictions)).sum(axis) / own.sum(axis) for own in of_class], axis=0)


@pytest.mark.parametrize(("of_images", "of_counts"), [(accuracy, overall_share), (uar, mean_share)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_interval_is_scipys(
    of_images: Callable[..., ndarray], of_counts: Callable[[ndarray], ndarray], seed: int
) -> None:
    sample = images(250, seed)
    expected = scipy.stats.bootstrap(
        sample, of_images, paired=True, vectorized=True, n_resamples=9999, rng=np.random.default_rng(1)
    ).confidence_interval
    value, low, high = bootstrap(counts(*sample), of_counts).ends
    assert value == pytest.approx(float(of_images(*sample)))
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1.01 / 250)  # one image


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0.9, 0.8, 0.7])
    sizes = np.array([150, 100, 50])
    covered = []
    for seed in range(400):
        right = rng.binomial(sizes, truth)
        table = np.stack([right, sizes - right], axis=1)
        _, low, high = bootstrap(table, mean_share, n_resamples=999, seed=seed).ends
        covered.append(low <= truth.mean() <= high)
    assert 0.92 < np.mean(covered) < 0.98


def test_the_seed_decides() -> None:
    table = counts(*images(100, 0))
    first, same, other = (bootstrap(table, mean_share, n_resamples=500, seed=seed).ends for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_more_confidence_is_wider() -> None:
    table = counts(*images(200, 0))
    narrow, wide = (bootstrap(table, overall_share, confidence=level).ends for level in (0.8, 0.99))
    assert wide[1] < narrow[1] < narrow[0] < narrow[2] < wide[2]


def test_per_class_shares_have_an_interval_each() -> None:
    table = np.array([[40, 10], [0, 0], [30, 0], [1, 0]])
    interval = bootstrap(table, shares)
    assert interval.ends.shape == (4, 3)
    assert interval.ends[0, 1] < 0.8 < interval.ends[0, 2]
    assert np.isnan(interval.ends[1]).all()
    assert interval.ends[2].tolist() == [1, 1, 1]
    assert interval.corrected.tolist() == [True, False, False, False]


@pytest.mark.parametrize("table", [[[5, 0], [7, 0]], [[0, 5], [0, 7]], [[1, 0], [0, 0]]])
def test_where_nothing_varies_percentiles_are_given(table: list[list[int]]) -> None:
    interval = bootstrap(np.array(table), overall_share)
    assert not interval.corrected
    assert interval.ends.tolist() == [float(table[0][0] > 0)] * 3
