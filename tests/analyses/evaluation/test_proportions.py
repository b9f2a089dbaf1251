"""Intervals of shares: against textbook values, their definition, and simulated truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from analyses.evaluation.proportions import mean_of_shares
from kdprobe.mean_interval import wilson

tallies = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8)


@given(st.integers(0, 60), st.integers(0, 60))
def test_wilson_is_scipys(right: int, wrong: int) -> None:
    found = wilson(np.array([right, wrong]))
    if right + wrong == 0:
        assert np.isnan(found).all()
        return
    expected = binomtest(right, right + wrong).proportion_ci(method="wilson")
    np.testing.assert_allclose(found, [right / (right + wrong), expected.low, expected.high], atol=1e-12)


def test_none_right_of_88_is_no_point() -> None:
    np.testing.assert_allclose(wilson(np.array([[0, 88], [88, 0]])), [[0, 0, 0.0418], [1, 0.9582, 1]], atol=1e-4)


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.8, 0.95, 0.99]))
def test_of_one_class_the_mean_is_that_share(right: int, wrong: int, confidence: float) -> None:
    tally = np.array([[right, wrong]])
    expected = wilson(tally, confidence=confidence)[0]
    np.testing.assert_allclose(mean_of_shares(tally, confidence=confidence), expected, atol=2e-6)


@given(tallies)
def test_the_mean_lies_inside(found: list[tuple[int, int]]) -> None:
    value, low, high = mean_of_shares(np.array(found))
    defined = [right / (right + wrong) for right, wrong in found if right + wrong]
    if not defined:
        assert np.isnan([value, low, high]).all()
        return
    assert value == pytest.approx(np.mean(defined))
    assert 0 <= low <= value <= high <= 1
    assert low < high
    swapped = mean_of_shares(np.array(found)[:, ::-1])
    np.testing.assert_allclose(swapped, [1 - value, 1 - high, 1 - low], atol=1e-6)


@pytest.mark.parametrize(
    ("images", "shares"),
    [
        ([5] * 7, [0.9] * 7),
        ([5, 10, 15, 20, 30, 40, 50], [0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97]),
        ([5, 50, 50, 50], [0.3, 0.95, 0.95, 0.95]),
        ([50] * 10, [0.99] * 10),
        ([5] * 7, [0.5] * 7),
        ([5, 5], [0.9, 0.8]),
    ],
)
def test_the_mean_of_recalls_is_covered(images: list[int], shares: list[float]) -> None:
    """120 draws: at 0.95 fewer than 105 are one in 600."""
    rng, covered = np.random.default_rng(0), 0
    for right in rng.binomial(images, shares, size=(120, len(images))):
        _, low, high = mean_of_shares(np.stack([right, np.array(images) - right], axis=1))
        covered += low <= np.mean(shares) <= high
    assert covered >= 105
