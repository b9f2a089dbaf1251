"""Calibration error against a plain loop, and its interval against scipy's."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray

from analyses.calibration import calibration_error, calibration_interval, confidences, reliability
from kdprobe.errors import AnalysisError

pairs = st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), min_size=1, max_size=50)


def slow_error(confidence: ndarray, right: ndarray, n_bins: int) -> float:
    total = 0.0
    for b in range(n_bins):
        inside = [i for i, c in enumerate(confidence) if b / n_bins < c <= (b + 1) / n_bins]
        if inside:
            accuracy = sum(right[i] for i in inside) / len(inside)
            sure = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - sure)
    return total


def sample(n: int, seed: int) -> tuple[ndarray, ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.3, 1, n)
    return confidence, rng.random(n) < confidence**2


@given(pairs, st.sampled_from([1, 2, 4, 8]))
def test_the_error_equals_the_loop(found: list[tuple[float, bool]], n_bins: int) -> None:
    confidence, right = (np.array(column) for column in zip(*found, strict=True))
    expected = slow_error(confidence, right, n_bins)
    assert calibration_error(confidence, right, n_bins=n_bins) == pytest.approx(expected, abs=1e-12)


def test_bins_hold_every_image_once_and_give_the_error() -> None:
    confidence, right = sample(500, 0)
    bins = reliability(confidence, right)
    assert bins.images.sum() == 500
    assert np.isnan(bins.accuracy[bins.images == 0]).all()
    gaps = bins.images * np.abs(bins.accuracy - bins.confidence)
    assert np.nansum(gaps) / 500 == pytest.approx(calibration_error(confidence, right))


def test_sure_and_right_is_calibrated() -> None:
    assert calibration_error(np.ones(5), np.ones(5, bool)) == 0
    assert calibration_error(np.ones(5), np.zeros(5, bool)) == 1
    assert calibration_error(np.full(4, 0.75), np.array([True, True, True, False])) == 0


def test_confidence_is_the_predicted_classs_probability() -> None:
    logits = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0], [-1000.0, 1000.0]], dtype=torch.float32)
    np.testing.assert_allclose(confidences(logits), [0.5, 0.75, 1], rtol=1e-6)


def test_the_interval_is_scipys() -> None:
    data = sample(120, 1)

    def error(confidence: ndarray, right: ndarray) -> float:
        return calibration_error(confidence, right.astype(bool))

    expected = scipy.stats.bootstrap(
        data, error, paired=True, vectorized=False, n_resamples=1999, method="basic", rng=np.random.default_rng(0)
    ).confidence_interval
    value, low, high = calibration_interval(*data)
    assert value == pytest.approx(calibration_error(*data))
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_one_image_has_nothing_to_vary() -> None:
    assert calibration_interval(np.array([0.8]), np.array([True])) == pytest.approx(np.full(3, 0.2))


def test_the_interval_covers_the_truth() -> None:
    """A network that is sure by 0.03 too much, of whose 359 images chance makes twice that."""
    rng, covered = np.random.default_rng(0), 0
    for seed in range(100):
        confidence = np.clip(rng.beta(3, 1.2, 359), 0.1, 1)
        right = rng.random(359) < confidence - 0.03
        _, low, high = calibration_interval(confidence, right, n_resamples=199, seed=seed)
        covered += low <= 0.03 <= high
    assert covered >= 75


@pytest.mark.parametrize("wrong", [0.0, 1.5])
def test_confidences_outside_are_refused(wrong: float) -> None:
    with pytest.raises(AnalysisError, match=r"confidences must be in \(0, 1\], but run from"):
        calibration_error(np.array([0.5, wrong]), np.array([True, True]))
