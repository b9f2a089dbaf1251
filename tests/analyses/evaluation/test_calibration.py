"""Calibration error against a plain loop, and its interval against scipy's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray

from analyses.evaluation.calibration import calibration_error, calibration_interval, confidences, reliability
from kdprobe.errors import AnalysisError

pairs = st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), min_size=1, max_size=50)


def slow_error(confidence: ndarray, right: ndarray, n_bins: int) -> float:
    total = 0.0
    for b in range(n_bins):
        inside = [i for i, c in enumerate(confidence) if b / n_bins + 1e-6 < c <= (b + 1) / n_bins + 1e-6]
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


@pytest.mark.parametrize("n_bins", [4, 20, 15])
@pytest.mark.parametrize("edge", [0.25, 0.5, 1.0])
def test_edges_belong_to_the_bin_below_whatever_rounding_makes_of_them(edge: float, n_bins: int) -> None:
    scores = (
        edge + np.array([-1, -1e-7, 0, *([1e-7] if edge < 1 else [])]) * np.array([2e-5, 1, 1, 1])[: 4 - (edge == 1)]
    )
    images = reliability(scores, np.ones(len(scores), bool), n_bins=n_bins).images
    assert images.max() == len(scores), "all in one bin: half-open, with the edge at its upper end"
    assert images.argmax() == int(np.ceil(edge * n_bins)) - 1
    if edge * n_bins == round(edge * n_bins) and edge < 1:
        above = reliability(np.array([edge + 1e-4]), np.ones(1, bool), n_bins=n_bins).images
        assert above.argmax() == images.argmax() + 1
    logits = torch.tensor([[np.log(edge), np.log((1 - edge) / 3 + 1e-300)] + [np.log((1 - edge) / 3 + 1e-300)] * 2])
    told = confidences(logits.float())
    assert reliability(told, np.ones(1, bool), n_bins=n_bins).images.argmax() == images.argmax()


def test_one_image_tells_next_to_nothing() -> None:
    value, low, high = calibration_interval(np.array([0.8]), np.array([True]))
    assert (value, low) == (pytest.approx(0.2), 0)
    assert high > 0.6


def test_as_sure_as_right_is_no_point() -> None:
    value, low, high = calibration_interval(np.full(100, 0.7), np.arange(100) < 70)
    assert value == pytest.approx(0)
    assert low == 0
    assert high == pytest.approx(1.96 * (0.7 * 0.3 / 100) ** 0.5, rel=0.05)


def test_errors_that_are_sure_keep_their_distance_from_0() -> None:
    value, low, high = calibration_interval(np.full(1000, 0.99), np.arange(1000) < 600)
    assert value == pytest.approx(0.39)
    assert low == pytest.approx(0.39 - 1.96 * (0.6 * 0.4 / 1000) ** 0.5, abs=0.004)
    assert high == pytest.approx(0.39 + 1.96 * (0.6 * 0.4 / 1000) ** 0.5, abs=0.004)


@pytest.mark.parametrize(("too_sure", "n"), [(0.0, 200), (0.0, 1000), (0.1, 200), (0.1, 1000)])
def test_the_interval_covers_the_truth(too_sure: float, n: int) -> None:
    """Networks that are sure by so much too much; at 0.95 and 60 sets of images 52 is one in 200."""
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        confidence = rng.uniform(0.2, 1, n)
        right = rng.random(n) < confidence - too_sure
        value, low, high = calibration_interval(confidence, right, n_draws=200, seed=seed)
        assert 0 <= low <= value <= high <= 1
        covered += low <= too_sure <= high
    assert covered >= 52


@pytest.mark.parametrize("wrong", [0.0, 1.5])
def test_confidences_outside_are_refused(wrong: float) -> None:
    with pytest.raises(AnalysisError, match=r"confidences must be in \(0, 1\], but run from"):
        calibration_error(np.array([0.5, wrong]), np.array([True, True]))
