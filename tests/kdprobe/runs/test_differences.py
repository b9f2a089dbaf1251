"""Differences of methods: paired by seed, and found by chance as rarely as their p values say."""

import math

import numpy as np
import pytest
from scipy import stats

from kdprobe.errors import RunError
from kdprobe.mean_interval import difference_interval, difference_p_value, holm
from kdprobe.runs.differences import against, differences, lines, told, worded_difference

METHODS = {"at": "at", "kd": "kd", "plain": "plain"}


def compared(accuracy, methods=METHODS, n_images=100, **options):
    values = {"accuracy": np.array(accuracy)}
    return differences(values, methods, [n_images] * len(methods), **options)


def test_the_test_is_students_paired_by_seed():
    first, second = [0.92, 0.95, 0.93, math.nan], [0.91, 0.92, 0.93, 0.5]
    expected = stats.ttest_rel(first[:3], second[:3])
    assert difference_p_value(first, second, n_images=100) == pytest.approx(expected.pvalue)
    (entry,) = compared([first, second], {"kd": "kd", "plain": "plain"})
    ends = expected.confidence_interval(0.95)
    assert [entry[key] for key in ("difference", "low", "high")] == pytest.approx([0.04 / 3, *ends])
    assert entry["p_value"] == entry["adjusted_p_value"] == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("n_images", [20, 100, 1000])
def test_equal_differences_are_tested_by_the_test_images(n_images):
    """The p value is below 0.05 just where the interval leaves out 0."""
    for second in (0.88, 0.85, 0.7):
        _, low, high = difference_interval([0.9] * 3, [second] * 3, n_images=n_images)
        p_value = difference_p_value([0.9] * 3, [second] * 3, n_images=n_images)
        assert 0 < p_value < 1
        assert (p_value < 0.05) == (low > 0)
        assert -1 <= low < high <= 1
    assert difference_p_value([0.9] * 3, [0.9] * 3, n_images=n_images) == 1
    assert math.isnan(difference_p_value([0.9] * 3, [0.8] * 3, n_images=None))


def test_holm_by_hand():
    found = holm(np.array([0.01, math.nan, 0.04, 0.03, 0.9]))
    np.testing.assert_allclose(found, [0.04, math.nan, 0.09, 0.09, 0.9])
    assert holm(np.array([[0.6, 0.6]])).tolist() == [[1, 1]]
    assert holm(np.array([])).size == 0


def test_false_alarms_of_a_whole_table_are_one_in_twenty():
    """Ten pairs of five methods that are alike, judged on 60 images: any finding is a false one."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(100):
        networks = rng.binomial(60, np.clip(rng.normal(0.9, 0.03, (5, 4)), 0, 1)) / 60
        found = compared(networks, {name: name for name in "abcde"}, n_images=60)
        alarms += any(told(entry) != "cannot be told" for entry in found)
    assert len(found) == 10
    assert alarms <= 11  # of 100 at 0.05, more are one in 200


def test_with_plain_training_each_is_compared_and_otherwise_all_pairs():
    accuracy = np.array([[0.9, 0.91], [0.8, 0.83], [0.7, 0.7]])
    pairs = [(entry["method"], entry["other"]) for entry in compared(accuracy)]
    assert pairs == [("at", "plain"), ("kd", "plain")]
    pairs = [(entry["method"], entry["other"]) for entry in compared(accuracy, baseline="at")]
    assert pairs == [("kd", "at"), ("plain", "at")]
    for methods in ({"at": "at", "dkd": "dkd", "kd": "kd"}, {"at": "at", "plain, a": "plain", "plain, b": "plain"}):
        assert len(compared(accuracy, methods)) == 3
    with pytest.raises(RunError, match="no row is named 'a' to compare the others with; did you mean 'at'"):
        compared(accuracy, baseline="a")


def test_several_baselines_are_one_table():
    pairs = against(["plain", "at", "kd"], ["kd", "plain", "rkd"])
    assert pairs == [("plain", "kd"), ("at", "kd"), ("at", "plain")]
    accuracy = [[0.9, 0.91, 0.93], [0.85, 0.84, 0.86], [0.7, 0.72, 0.7]]
    found = compared(accuracy, pairs=pairs)
    assert [(entry["method"], entry["other"]) for entry in found] == pairs
    p_values = [stats.ttest_rel(*(accuracy[list(METHODS).index(name)] for name in pair)).pvalue for pair in pairs]
    np.testing.assert_allclose([entry["adjusted_p_value"] for entry in found], holm(np.array(p_values)))


def test_what_is_not_tested_says_why():
    accuracy = [[0.9, math.nan, math.nan], [math.nan, 0.8, 0.81], [0.7, 0.7, 0.7]]
    one, two = compared(accuracy)
    assert (one["p_value"], one["low"], one["adjusted_p_value"]) == (None, None, None)
    assert worded_difference(one, scale=100) == "+20.00 (not tested: they have one seed in common)"
    assert two["p_value"] == two["adjusted_p_value"]  # what is not tested does not count
    first, _ = compared(accuracy, baseline="at")
    assert worded_difference(first) == "not compared: they have no seed in common"
    assert told(first) == "cannot be told"
    (tie,) = compared([[0.9, 0.9], [0.8, 0.8]], {"kd": "kd", "plain": "plain"}, n_images=None)
    assert worded_difference(tie, digits=1) == (
        "+0.1 (not tested: all seeds differ alike, and nothing else says by how much they might)"
    )


def test_lines_say_difference_interval_and_p_value():
    text = lines(compared([[0.9, 0.91, 0.92], [0.8, 0.79, 0.78], [0.7, 0.71, 0.7]]))
    assert text.splitlines() == [
        "difference",
        "at - plain  +20.67 ± 2.87 points (p = 0.0021)",
        "kd - plain   +8.67 ± 2.87 points (p = 0.0059)",
    ]


def test_each_quantity_is_a_table_of_its_own_and_one_without_values_is_none():
    shares = np.array([[0.9, 0.91], [0.8, 0.83], [0.7, 0.7]])
    values = {"accuracy": shares, "uar": np.full((3, 2), math.nan), "cka": shares}
    found = differences(values, METHODS, [100] * 3)
    assert [entry["quantity"] for entry in found] == ["accuracy"] * 2 + ["cka"] * 2
    assert found[0]["adjusted_p_value"] == found[2]["adjusted_p_value"]
