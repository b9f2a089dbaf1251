"""Intervals over seeds."""

import math

import numpy as np
import pytest
from scipy.stats import nct, t

from kdprobe.mean_interval import (
    all_equal,
    detectable_difference,
    difference_interval,
    difference_p_value,
    mean_interval,
    seeds_interval,
    seeds_to_tell,
    shares_interval,
    within,
    worded,
    worded_interval,
    worded_power,
)


def test_the_interval_covers_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(4000):
        mean, half = mean_interval(rng.normal(5, 2, size=3).tolist())
        covered += abs(mean - 5) <= half
    assert covered / 4000 == pytest.approx(0.95, abs=0.012)


def test_the_half_width_is_students():
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(4.302652729911275 / math.sqrt(3))


def test_what_is_missing_does_not_count_and_one_value_has_no_interval():
    assert mean_interval([math.nan, 2.0])[0] == 2
    assert math.isnan(mean_interval([2.0])[1])
    assert math.isnan(mean_interval([])[0])
    assert worded_interval([]) == "-"
    assert worded_interval([math.nan, math.nan]) == "-"
    assert worded_interval([0.5], scale=100, digits=1) == "50.0"
    assert worded_interval([0.5, 0.52], scale=100, digits=1) == "51.0 ± 12.7"


def test_no_interval_leaves_the_range_of_a_share():
    assert worded_interval([0.9, 1.0], scale=100, digits=1) == "95.0 [31.5, 100.0]"
    assert worded_interval([0.2507, 0.3565], scale=100, unit=" %") == "30.36 [0.00, 97.58] %"
    mean, half = mean_interval([0.6, 0.98])
    assert seeds_interval([0.6, 0.98], n_images=50) == (mean, 0.0, 1.0)
    assert half > 1
    low, high = seeds_interval([1.0, 1.0], n_images=360)[1:]
    assert (low, high) == (pytest.approx(1 - 1.959964**2 / (360 + 1.959964**2)), 1)
    assert difference_interval([0.9, 0.5], [0.1, 0.2], n_images=50)[1:] == (-1, 1)
    assert worded((0.3, -0.5, 1.0), scale=100, signed=True, unit=" points") == "+30.00 [-50.00, 100.00] points"
    assert worded((-1e-12, -0.01, 0.01), signed=True) == "+0.00 ± 0.01"
    for nearly in (-0.00825, -0.00825 + 1e-17, -0.00825 - 1e-17):  # the same difference, summed in another order
        assert worded((nearly, nearly - 0.02, nearly + 0.02), scale=100, signed=True) == "-0.82 ± 2.00"


def test_ends_are_cut_where_the_value_is_when_chance_has_brought_it_beyond_its_range():
    ends = np.array([[-0.01, -0.2, 0.18], [0.5, np.nan, np.nan], [np.nan] * 3, [1.1, 0.9, 1.3]])
    found = within(ends, np.array([[0.0, 1.0]] * 4))
    np.testing.assert_array_equal(found, [[-0.01, -0.01, 0.18], [0.5, np.nan, np.nan], [np.nan] * 3, [1.1, 0.9, 1.1]])


def test_cut_intervals_leave_out_0_just_where_the_test_finds_a_difference():
    rng, told = np.random.default_rng(0), []
    for spread in (0.01, 0.1, 0.4) * 20:
        first, second = rng.uniform(0.5, 0.5 + spread, 2), rng.uniform(0, spread, 2)
        _, low, high = difference_interval(first, second, n_images=50)
        told.append((not low <= 0 <= high, difference_p_value(first, second, n_images=50) < 0.05))
    assert all(one == other for one, other in told)
    assert {one for one, _ in told} == {False, True}


@pytest.mark.parametrize(
    ("share", "n_images", "half"),
    [
        (1.0, 360, 1.959964**2 / (360 + 1.959964**2)),  # of Wilson's interval
        (0.0, 88, 1.959964**2 / (88 + 1.959964**2)),
        (0.5, 100, 1.959964 * 0.05),  # the binomial one is wider than Wilson's
    ],
)
def test_equal_seeds_are_as_uncertain_as_their_test_images_make_them(share, n_images, half):
    mean, found = shares_interval([share, math.nan, share, share], n_images=n_images)
    assert (mean, found) == (share, pytest.approx(half, rel=1e-6))
    assert math.isnan(seeds_interval([share, share], n_images=None)[1])
    assert worded_interval([share, share], scale=100, digits=1) == f"{100 * share:.1f}, all equal"
    assert math.isnan(seeds_interval([share], n_images=n_images)[1])  # one seed has no interval as before


def test_equal_means_equal_but_for_rounding():
    assert all_equal([0.1 + 0.2, 0.3])
    assert not all_equal([0.3, 0.3 + 1e-6])
    assert not all_equal([0.3, math.nan])
    values = [0.60, 0.64, 0.62]
    assert shares_interval(values, n_images=10) == mean_interval(values)  # Student's, however few images


def test_intervals_of_ties_cover_the_true_accuracy():
    rights = np.random.default_rng(0).binomial(40, 0.9, size=6000)  # three seeds whose networks err on the same images
    covered = 0
    for right, times in zip(*np.unique(rights, return_counts=True), strict=True):
        _, low, high = seeds_interval([right / 40] * 3, n_images=40)
        covered += times * (low <= 0.9 <= high)
    assert covered / 6000 >= 0.94


def test_equal_differences_are_as_uncertain_as_two_shares_of_their_images():
    first, second = [0.9, 0.8, math.nan], [0.8, 0.7, 0.1]
    mean, low, high = difference_interval(first, second, n_images=100)
    half = math.hypot(*(shares_interval([share, share], n_images=100)[1] for share in (0.85, 0.75)))
    assert (mean, low, high) == pytest.approx((0.1, 0.1 - half, 0.1 + half))
    assert math.isnan(difference_interval(first, second, n_images=None)[1])
    mean, half = mean_interval([0.1, 0.05])
    assert difference_interval([0.9, 0.8], [0.8, 0.75], n_images=100) == pytest.approx((mean, mean - half, mean + half))


@pytest.mark.parametrize(("freedom", "tests"), [(2, 1), (4, 3), (30, 1)])
def test_the_detectable_difference_is_found_as_often_as_it_says(freedom, tests):
    steps, edge = detectable_difference(1.0, freedom, tests=tests), t.ppf(1 - 0.025 / tests, freedom)
    assert nct.sf(edge, freedom, steps) == pytest.approx(0.8, abs=1e-3)
    assert detectable_difference(0.3, freedom, tests=tests) == pytest.approx(0.3 * steps)


def test_with_a_known_error_the_detectable_difference_is_the_normal_one():
    assert detectable_difference(1.0, math.inf) == pytest.approx(1.95996 + 0.84162, abs=1e-4)
    assert 30 < detectable_difference(1.0, 2, tests=50) < 50  # where scipy's own distribution gives up


def test_as_many_seeds_tell_a_difference_as_the_tables_say():
    assert seeds_to_tell(1.0, 1.0) == 10
    assert seeds_to_tell(-0.5, 1.0) == 34
    assert seeds_to_tell(1.0, 1.0, tests=5) > 10
    assert seeds_to_tell(0.0, 1.0) is None
    assert seeds_to_tell(0.01, 1.0) is None


def test_power_is_told_only_where_a_difference_can_be_that_large() -> None:
    shares = np.array([[0.9, 0.92], [math.nan, math.nan]])
    assert worded_power(0.9, shares) == (
        "A true difference of 90.0 points would have been found with a probability of 80 %"
    )
    nothing = "Seeds so few, which scatter so much, cannot be relied on to show any difference"
    assert worded_power(0.92, shares) == worded_power(1.2, shares) == nothing
