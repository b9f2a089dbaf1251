"""Intervals of similarity: groups, the jackknife from what was prepared, and coverage in a small simulation."""

import numpy as np
import pytest
import torch

from analyses.similarity.dependence import DistanceCorrelation
from analyses.similarity.distances import RankRSA
from analyses.similarity.intervals import PreparedLayer, group_half_widths, group_samples
from analyses.similarity.measure import FeatureSet, Measure
from analyses.similarity.measures import MEASURES
from analyses.similarity.neighbours import CKNNA, MutualKNN
from kdprobe.errors import AnalysisError


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(measure, features):
    made = FeatureSet(features)
    return PreparedLayer(made, measure.prepare(made))


def test_samples_of_one_image_are_in_one_group():
    groups = group_samples(torch.arange(100) // 10, 5)
    assert sorted(np.bincount(groups)) == [20] * 5
    assert all(len(set(groups[start : start + 10])) == 1 for start in range(0, 100, 10))
    assert len(set(group_samples(torch.arange(7)))) == 7


@pytest.mark.parametrize("measure", [RankRSA(), MutualKNN(4), CKNNA(4)], ids=lambda one: one.title)
def test_what_was_prepared_of_some_samples_is_that_of_all_without_the_others(measure):
    x, y = (FeatureSet((2 * one).round()) for one in (normal(40, 3), normal(40, 3) + normal(40, 3, seed=1)))
    for groups in (torch.arange(40) % 4, torch.arange(40) // 30, torch.arange(40) // 5):  # of which few leave 10
        kept = (groups != 0).nonzero()[:, 0]
        anew = [measure.prepare(FeatureSet(one.rows[kept])) for one in (x, y)]
        cheap = [measure.without(one, measure.prepare(one), kept) for one in (x, y)]
        assert measure.compare(*cheap) == pytest.approx(measure.compare(*anew), abs=1e-12)


def test_neighbours_among_the_samples_that_are_left_need_a_reserve_or_all_samples():
    x = torch.cat([normal(50, 3), normal(1, 3).expand(60, 3)])  # 60 that are equally near
    for kept in (torch.arange(105), torch.arange(45, 110)):
        cheap = MutualKNN(5).without(FeatureSet(x), found := MutualKNN(5).prepare(FeatureSet(x)), kept)
        anew = MutualKNN(5).prepare(FeatureSet(x[kept]))
        np.testing.assert_allclose(cheap.share.toarray(), anew.share.toarray())
        again = MutualKNN(5).without(FeatureSet(x), found.reordered(torch.arange(110)), kept)
        np.testing.assert_array_equal(again.share.toarray(), anew.share.toarray())
    with pytest.raises(AnalysisError, match="k of 4 samples must be from 1 to 2, but are 5"):
        MutualKNN(5).without(FeatureSet(x), found, torch.arange(4))


@pytest.mark.parametrize("measure", [DistanceCorrelation(), DistanceCorrelation(1.5, unbiased=False)])
def test_sums_of_products_give_the_values_of_the_distances_that_are_left(measure):
    groups = group_samples(np.arange(41), 7)
    layers = [(one, measure.prepare(one)) for one in (FeatureSet(normal(41, 5, seed=seed)) for seed in range(5))]
    found, counts = measure.left_out(layers[:2], layers[2:], groups)
    anew, _ = Measure.left_out(measure, layers[:2], layers[2:], groups)
    np.testing.assert_allclose(found, anew, atol=1e-13)
    assert counts.sum() == 41


def test_distances_that_are_the_same_without_a_group_have_no_correlation_there():
    one, measure = torch.eye(8, dtype=torch.float64), DistanceCorrelation()
    one[0, 0], one[1, 1] = 3.0, 2.0
    layer = (features := FeatureSet(one)), measure.prepare(features)
    found, _ = measure.left_out([layer], [layer], np.arange(8) // 2)
    assert np.isnan(found[:, 0, 0]).tolist() == [True, False, False, False]


@pytest.mark.parametrize("name", MEASURES)
def test_intervals_are_there_or_say_why_not(name):
    measure, x = MEASURES[name], normal(200, 3) @ normal(3, 6, seed=2) + 0.5 * normal(200, 6, seed=3)
    rows = [layer(measure, x), PreparedLayer(None, AnalysisError("dead"))]
    columns = [layer(measure, x[:, :4] + normal(200, 4, seed=1))]
    half, reason = group_half_widths(measure, rows, columns, group_samples(np.arange(200)))
    assert half.shape == (2, 1)
    assert np.isnan(half[1, 0])
    if measure.no_interval:
        assert np.isnan(half[0, 0])
        assert "miss the value of the population" in reason
    else:
        assert 0 < half[0, 0] < 0.3
        assert not reason
    for n_groups in (1, 2):
        _, reason = group_half_widths(measure, rows, columns, group_samples(np.arange(200) // (200 // n_groups)))
        if not measure.no_interval and name != "feature-cka":
            assert reason == f"intervals need at least 3 groups of samples, but there were {n_groups}"


def test_intervals_stay_in_the_range_of_the_measure():
    values, half = np.array([0.98, 0.5, -0.99, np.nan, 1 + 1e-16]), np.array([0.05, 0.1, 0.05, 0.1, np.nan])
    for measure, least in ((MutualKNN(4), 0.0), (RankRSA(), -1.0), (DistanceCorrelation(), -1.0)):
        low, high = measure.ends(values, half)
        np.testing.assert_allclose(low, [0.93, 0.4, min(least, -0.99), np.nan, np.nan])
        np.testing.assert_allclose(high, [1, 0.6, -0.94, np.nan, np.nan])
    np.testing.assert_allclose(MEASURES["feature-cka"].ends(0.98, 0.05), (0.93, 1.03))  # which has no largest value


def test_intervals_of_distance_correlation_cover():
    measure, covered = DistanceCorrelation(), 0
    weights = normal(3, 6, seed=9)
    for draw in range(25):
        x = normal(80, 3, seed=draw)
        y = x @ weights + 2 * normal(80, 6, seed=1000 + draw)
        sides = layer(measure, x), layer(measure, y)
        half, _ = group_half_widths(measure, [sides[0]], [sides[1]], group_samples(np.arange(80)))
        covered += abs(measure.compare(sides[0].prepared, sides[1].prepared) - 0.465) <= half[0, 0]
    assert 21 <= covered <= 25
