"""Differences of methods with one variance for all of them."""

import math

import numpy as np
import pytest
from scipy import stats

from kdprobe.mean_interval import detectable_difference, differs
from kdprobe.runs.pooled import pooled_differences, residual_variance

NAMES = ("kd", "plain", "at")


def test_two_methods_are_tested_as_a_pair():
    table = np.array([[0.92, 0.95, 0.93, 0.96], [0.91, 0.92, 0.93, 0.9]])
    expected = stats.ttest_rel(*table)
    found = pooled_differences(table, ["kd", "plain"], [("kd", "plain")])
    (entry,) = found.differences
    ends = expected.confidence_interval(0.95)
    assert [entry[key] for key in ("difference", "low", "high")] == pytest.approx([0.025, *ends])
    assert entry["p_value"] == entry["adjusted_p_value"] == pytest.approx(expected.pvalue)
    error = (table[0] - table[1]).std(ddof=1) / 2
    assert found.freedom == 3
    assert found.deviation == pytest.approx(error * math.sqrt(2))
    assert found.detectable == pytest.approx(detectable_difference(error, 3))


def test_the_variance_is_that_of_a_two_way_analysis():
    """Against least squares on methods and seeds as dummy variables."""
    table = np.random.default_rng(1).normal(0.9, 0.02, (5, 4))
    rows, columns = np.indices(table.shape).reshape(2, -1)
    design = np.hstack([np.eye(5)[rows], np.eye(4)[columns]])
    _, _, rank, _ = np.linalg.lstsq(design, table.ravel(), rcond=None)
    rest = table.ravel() - design @ np.linalg.pinv(design) @ table.ravel()
    variance, freedom = residual_variance(table)
    assert freedom == table.size - rank
    assert variance == pytest.approx(rest @ rest / freedom)


def test_the_variance_is_that_of_the_noise():
    generator = np.random.default_rng(0)
    effects, shifts = generator.normal(0, 3, (8, 1)), generator.normal(0, 3, (1, 5))
    found = [residual_variance(effects + shifts + generator.normal(0, 0.5, (8, 5))) for _ in range(400)]
    assert {freedom for _, freedom in found} == {28}
    assert np.mean([variance for variance, _ in found]) == pytest.approx(0.25, rel=0.05)


def test_what_seeds_do_to_all_methods_alike_does_not_matter():
    table = np.random.default_rng(2).normal(0.5, 0.01, (3, 4))
    pairs = [("kd", "plain"), ("at", "plain")]
    shifted = pooled_differences(table + np.array([0.1, -0.2, 0.05, 0.0]), NAMES, pairs)
    for one, other in zip(pooled_differences(table, NAMES, pairs).differences, shifted.differences, strict=True):
        assert [one[key] for key in ("method", "other")] == [other[key] for key in ("method", "other")]
        assert one["p_value"] == pytest.approx(other["p_value"])


@pytest.mark.parametrize(("ratio", "most"), [(1, 0.07), (2, 0.12)])
def test_false_alarms_of_a_whole_table(ratio, most):
    """Nine methods that are alike, three seeds; one in twenty tables, more if some methods scatter more than others."""
    generator, alarms = np.random.default_rng(3), 0
    names = [f"m{number}" for number in range(9)]
    pairs = [(name, "m0") for name in names[1:]]
    scales = np.where(np.arange(9) % 2, 1, ratio)[:, None]
    for _ in range(1000):
        found = pooled_differences(0.5 + 0.01 * scales * generator.normal(size=(9, 3)), names, pairs)
        alarms += any(differs(entry["adjusted_p_value"]) for entry in found.differences)
    assert 0.025 < alarms / 1000 < most


def test_what_lacks_a_seed_is_left_out():
    table = np.array([[0.9, 0.91, 0.93], [0.8, math.nan, 0.82], [0.85, 0.86, 0.84]])
    pairs = [("kd", "at"), ("plain", "at")]
    found = pooled_differences(table, NAMES, pairs)
    assert [(one["method"], one["other"]) for one in found.differences] == [("kd", "at")]
    assert found.freedom == 2


@pytest.mark.parametrize(
    "table",
    [
        [[0.9, 0.8], [0.7, math.nan], [math.nan, 0.3]],
        [[0.9], [0.8], [0.7]],
        [[0.9, 0.8], [0.7, 0.6], [0.5, 0.4]],
    ],
    ids=["one whole method", "one seed", "nothing scatters"],
)
def test_without_a_variance_there_is_no_test(table):
    assert pooled_differences(np.array(table), NAMES, [("plain", "kd"), ("at", "kd")]) is None
