import numpy as np
import pytest
import torch

from analyses.similarity.null import calibrate, calibrate_pairs, least_permutations, random_order, random_orders
from kdprobe.errors import AnalysisError
from tests.goldens import cases


def double(kind):
    return [case for case in cases("null_calibration", only=kind) if case.values[0].dtype == torch.float64]


def close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", double("pair"))
def test_pair_equals_the_original(case):
    largest = None if np.isnan(case["smax"]) else case["smax"]
    found = calibrate(case["observed"], case["null"].numpy(), alpha=case["alpha"], largest=largest)
    close(found.threshold, case["tau"])
    close(found.p_value, case["p"])
    close(found.p_adjusted, case["p"])
    close(found.score, case["score"])
    close((found.observed - found.null_mean) / (found.null_deviation + 1e-8), case["z"])
    room = (largest or 1) - found.null_mean
    close(np.clip((found.observed - found.null_mean) / room, -1, 1), case["adjusted"])


@pytest.mark.parametrize("case", double("layers"))
def test_layers_equal_the_original(case):
    matrix, null = case["matrix"].numpy(), case["null_matrices"].numpy()
    found = calibrate_pairs(matrix, null, alpha=case["alpha"], studentised=False)
    best = found.best
    if case.description["aggregate"] == "mean":
        best = calibrate(matrix.mean(), null.mean((1, 2)), alpha=case["alpha"])
    for name, key in (("observed", "observed"), ("threshold", "tau"), ("p_value", "p"), ("score", "score")):
        close(getattr(best, name), case[key])
    close(found.pairs.p_value, case["p_pair"])
    close(found.pairs.p_adjusted, case["p_pair_max"])


@pytest.mark.parametrize("case", double("index"))
def test_rank_of_the_threshold_equals_the_original(case):
    for alpha, permutations, rank in zip(case["alpha"], case["permutations"], case["rank"], strict=True):
        null = np.arange(int(permutations)) + 1.0
        assert calibrate(0.0, null, alpha=float(alpha)).threshold == int(rank) - 1


def test_one_in_twenty_analyses_of_unrelated_layers_finds_any_alike():
    rng, means, spread = np.random.default_rng(0), np.array([[0.0], [0.6]]), np.array([[0.1], [0.02]])
    shape = (400, 40, 2, 1)
    draws = means + spread * (rng.standard_normal((*shape[:3], 3)) + rng.standard_normal(shape))
    found = [calibrate_pairs(values[0], values[1:]) for values in draws]
    p_values, alone = (np.array([getattr(one.pairs, name) for one in found]) for name in ("p_adjusted", "p_value"))
    assert 0.03 <= (p_values.min((1, 2)) <= 0.05).mean() <= 0.07
    assert 0.03 <= np.mean([one.best.p_value <= 0.05 for one in found]) <= 0.07
    assert (alone <= 0.05).any((1, 2)).mean() > 0.1  # what the correction is for
    assert (p_values[:, 0].min(1) <= 0.3).mean() > 0.1
    plain = [calibrate_pairs(values[0], values[1:], studentised=False).pairs.p_adjusted[0] for values in draws[:50]]
    assert np.min(plain) > 0.9  # the high null hides the low one


def test_scores_are_above_zero_exactly_where_p_is_small():
    rng = np.random.default_rng(1)
    found = calibrate(rng.normal(0.3, 0.3, (20, 30)), rng.normal(0, 0.3, (59, 20, 30)))
    np.testing.assert_array_equal(found.score > 0, found.p_value <= 0.05)
    assert (found.p_adjusted >= found.p_value).all()
    assert not calibrate(1.0, np.zeros(18)).score
    assert calibrate(1.0, np.zeros(19)).score == 1
    assert [least_permutations(alpha) for alpha in (0.05, 0.01, 0.1, 0.3)] == [19, 99, 9, 3]


def test_ties_within_rounding_are_ties():
    third = np.full(39, 1 / 3)
    found = calibrate(1 / 3 + 1e-15, third)
    assert (found.p_value, found.p_adjusted, found.score) == (1, 1, 0)


def test_undefined_pairs_stay_so_and_are_passed_over():
    rng = np.random.default_rng(2)
    matrix, null = np.full((2, 2), 0.9), rng.normal(0, 0.05, (99, 2, 2))
    matrix[:, 1] = null[:, :, 1] = np.nan
    found = calibrate_pairs(matrix, null)
    assert np.isnan(found.pairs.score[:, 1]).all()
    assert np.isnan(found.pairs.null_mean[:, 1]).all()
    np.testing.assert_array_equal(np.isnan(found.by_student.score), [False, True])
    assert found.best.p_value == 0.01
    assert (found.pairs.p_adjusted[:, 0] == 0.01).all()


@pytest.mark.parametrize(
    ("observed", "null", "alpha", "text"),
    [
        (0.5, [0.1] * 19, 1.0, "alpha must lie between 0 and 1, but is 1.0"),
        (0.5, [], 0.05, r"must be \['K'\] with K permutations, but has the shape \[0\]"),
        ([0.5, 0.4], [[0.1]] * 19, 0.05, r"shape \[2\] must be \['K', 2\] with K permutations"),
        (0.5, [0.1, np.nan], 0.05, "the null is NaN where a value is defined"),
    ],
)
def test_what_does_not_fit_is_refused(observed, null, alpha, text):
    with pytest.raises(AnalysisError, match=text):
        calibrate(np.array(observed), np.array(null), alpha=alpha)
    with pytest.raises(AnalysisError, match=r"pairs of layers are a matrix, but the values have the shape \[2\]"):
        calibrate_pairs(np.zeros(2), np.zeros((19, 2)))


def test_orders_keep_groups_together():
    groups = torch.tensor([4, 4, 0, 7, 7, 9, 0, 5])  # three groups of two samples, two of one
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(50):
        order = random_order(8, generator, groups)
        assert sorted(order.tolist()) == list(range(8))
        moved = groups[order]
        for group in groups.unique():
            assert len(moved[groups == group].unique()) == 1
        seen.add(tuple(order.tolist()))
    assert len(seen) == 12  # 3! orders of the pairs times 2! of the others
    alone, plain = (list(random_orders(9, 3, seed=5, groups=one)) for one in (torch.arange(9), None))
    assert all(map(torch.equal, alone, plain))
