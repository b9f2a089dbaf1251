import math
from itertools import chain, permutations, product

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import f_oneway, kstest

from analyses.map import permanova
from kdprobe.errors import AnalysisError, Undefined

METHODS, SEEDS = [*"aaabbbccc"], [0, 1, 2] * 3


def spread(n=9, d=1, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def distances(points):
    return squareform(pdist(points))


def test_of_one_dimension_it_is_the_classical_analysis_of_variance():
    points = spread() + np.repeat([0, 1, 2], 3)[:, None]
    found = permanova(distances(points), METHODS, permutations=99)
    assert found.f == pytest.approx(f_oneway(*points.reshape(3, 3)).statistic)
    assert (found.groupings, found.permutations) == (math.factorial(9) // 6**4, 99)


def test_two_groupings_are_the_additive_analysis_of_two_factors():
    points = spread(d=4) + np.repeat([0, 1, 3], 3)[:, None] + np.tile([0, 2, 5], 3)[:, None]
    cells = points.reshape(3, 3, 4) - points.mean(0)
    methods, seeds = 3 * (cells.mean(1) ** 2).sum(), 3 * (cells.mean(0) ** 2).sum()
    total = (cells**2).sum()
    for groups, within, own in ((METHODS, SEEDS, methods), (SEEDS, METHODS, seeds)):
        found = permanova(distances(points), groups, within, permutations=99)
        assert found.share == pytest.approx(own / total)
        assert found.f == pytest.approx((own / 2) / ((total - methods - seeds) / 4))
        assert (found.groupings, found.permutations) == (6**2, 0)


def test_a_small_p_value_where_methods_lie_apart_and_seeds_do_not():
    points = spread(d=4) + 9 * np.repeat([0, 1, 3], 3)[:, None]
    assert permanova(distances(points), METHODS, SEEDS, permutations=999).p_value < 0.05
    assert permanova(distances(points), SEEDS, METHODS, permutations=999).p_value > 0.2


def test_without_an_effect_p_values_are_spread_evenly_even_beside_a_strong_other_one():
    shift = 5 * np.tile([0, 1, 2], 3)[:, None]
    found = [
        permanova(distances(spread(d=2, seed=draw) + shift), METHODS, SEEDS, permutations=59, seed=draw).p_value
        for draw in range(300)
    ]
    assert kstest(found, "uniform").statistic < 1 / 60 + 0.08


def test_false_alarms_are_as_rare_as_they_say_with_groups_of_unequal_size() -> None:
    groups = [*"aabbbbbcccccccccc"]
    found = [
        permanova(distances(spread(17, 3, draw)), groups, permutations=39, seed=draw).p_value for draw in range(600)
    ]
    assert 0.03 < np.mean(np.array(found) <= 0.05) < 0.07


def test_groups_of_unequal_size_and_missing_cells_are_taken_as_they_are():
    points = spread(n=7, d=2) + np.array([0, 0, 0, 0, 9, 9, 9])[:, None]
    found = permanova(distances(points), [*"aaaabbb"], [0, 1, 2, 2, 0, 1, 3])
    assert found.groupings == 2  # seeds 0 and 1 have both methods
    assert found.p_value == found.smallest_p == 0.5
    assert 0.5 < found.share < 1


def every_label(groups, within):
    """All ways to give out the labels inside the groups of the other grouping."""
    strata = [[place for place in range(len(groups)) if within[place] == one] for one in dict.fromkeys(within)]
    for parts in product(*({*permutations([groups[place] for place in places])} for places in strata)):
        labels = dict(zip([place for places in strata for place in places], chain(*parts), strict=True))
        yield [labels[place] for place in range(len(groups))]


@pytest.mark.parametrize(
    ("groups", "within", "groupings", "smallest"),
    [
        ("aabbcc", "010101", 6, 1 / 6),
        ("aabbcc", "000000", 15, 1 / 15),
        ("aabbc", "00000", 15, 1 / 15),
        ("aabbccc", "0101012", 6, 1 / 6),
        ("abababc", "0011222", 12, 1 / 12),
        ("aabbbab", "0101022", 12, 1 / 12),
        ("abacabd", "0011220", 24, 1 / 6),  # other labels can be the same grouping even where none changes its name
    ],
)
def test_few_groupings_are_all_counted_whatever_the_groups_are_called(groups, within, groupings, smallest):
    points = spread(n=len(groups), d=2)
    found = permanova(distances(points), groups, within)
    shares = [share(distances(points), labels, within) for labels in every_label(groups, within)]
    assert (found.groupings, found.permutations) == (groupings, 0)
    assert found.p_value == pytest.approx(np.mean(np.array(shares) >= found.share - 1e-9))
    assert found.smallest_p == pytest.approx(smallest)
    assert found.smallest_p == pytest.approx(np.mean(abs(np.array(shares) - found.share) < 1e-9))


def share(of, labels, within):
    return permanova(of, labels, within, permutations=1).share


def test_the_smallest_p_value_comes_where_methods_lie_furthest_apart():
    points = spread(n=6) + 99 * np.repeat([0, 1, 3], 2)[:, None]
    found = permanova(distances(points), [*"aabbcc"], [0, 1] * 3)
    assert found.p_value == found.smallest_p == pytest.approx(1 / 6)
    assert permanova(distances(points), [0, 1] * 3, [*"aabbcc"]).smallest_p == 1 / 4
    assert permanova(distances(spread()), METHODS, permutations=99).smallest_p == 0.01


def test_equal_networks_inside_each_group_give_an_infinite_f():
    points = np.repeat([0.0, 1, 5], 3)[:, None]
    found = permanova(distances(points), METHODS, SEEDS, permutations=199)
    assert found.f == math.inf
    assert found.share == pytest.approx(1)
    assert found.p_value < 0.1


@pytest.mark.parametrize(
    ("groups", "within", "said"),
    [
        (["a"] * 9, SEEDS, "all networks are of one group"),
        (METHODS, METHODS, "no two networks differ in this grouping alone"),
        ([*"abcdefghi"], None, "nothing is left to compare the groups with"),
        ([*"abacddddd"], [*"001122222"], "however the networks are dealt out, the grouping is the same"),
    ],
)
def test_what_cannot_be_tested_is_told(groups, within, said):
    with pytest.raises(Undefined, match=said):
        permanova(distances(spread()), groups, within, permutations=9)


def test_equal_networks_and_wrong_numbers_of_groups_are_refused():
    with pytest.raises(Undefined, match="all networks are equal, so that there are no distances"):
        permanova(np.zeros((9, 9)), METHODS, permutations=9)
    with pytest.raises(AnalysisError, match="each of the 9 networks needs one group, but there are 2 and 9"):
        permanova(distances(spread()), ["a", "b"])
