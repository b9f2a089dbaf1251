import math

import numpy as np
import pytest

from kdprobe.mean_interval import mean_interval, worded_interval


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        mean, half = mean_interval(rng.normal(5, 2, size=3).tolist())
        covered += abs(mean - 5) <= half
    assert 0.935 < covered / 2000 < 0.965


def test_a_known_interval():
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(4.302652729696142 / math.sqrt(3))


def test_absent_values_and_single_seeds():
    assert mean_interval([math.nan, 2.0])[0] == 2
    assert math.isnan(mean_interval([2.0])[1])
    assert math.isnan(mean_interval([])[0])
    assert worded_interval([]) == "-"
    assert worded_interval([0.5], scale=100, digits=1) == "50.0"
    assert worded_interval([0.9, 1.0], scale=100, digits=1) == "95.0 ± 63.5"
