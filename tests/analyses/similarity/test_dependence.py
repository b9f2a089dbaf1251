"""Distance correlation and linear predictivity against the originals' values."""

import numpy as np
import pytest
import torch

from analyses.similarity import distance_correlation, linear_predictivity
from analyses.similarity.dependence import DistanceCorrelation
from analyses.similarity.measure import FeatureSet
from analyses.similarity.predictivity import PredictsStudent, PredictsTeacher
from kdprobe.errors import AnalysisError, Undefined
from tests.goldens import cases

pytestmark = pytest.mark.filterwarnings("ignore:of only .* samples")  # as the originals' values are
EXACT = {torch.float64: 1e-9, torch.float32: 2e-5}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("case", cases("dcor"))
def test_distance_correlation_is_the_originals(case):
    x, y, given = case["x"], case["y"], {"exponent": case["exponent"]}
    if case.description["input"] == "constant":
        with pytest.raises(Undefined, match="the same for all samples"):
            distance_correlation(x, y, **given)
        return
    assert distance_correlation(x, y, **given) == pytest.approx(case["u_dcor2"], abs=EXACT[case.dtype])
    biased = distance_correlation(x, y, **given, unbiased=False)
    assert biased == pytest.approx(case["dcor"], abs=EXACT[case.dtype])


def test_independent_wide_features_have_no_unbiased_distance_correlation():
    x, y = normal(60, 400), normal(60, 400, seed=1)
    assert distance_correlation(x, y, unbiased=False) > 0.9
    assert abs(distance_correlation(x, y)) < 0.1


def test_distance_correlation_that_is_not_defined():
    with pytest.raises(AnalysisError, match="exponent of distances must lie between 0 and 2, but is 2"):
        distance_correlation(normal(5, 2), normal(5, 2), exponent=2)
    with pytest.raises(Undefined, match="its variance is 0 but for rounding, as where all samples are equally far ap"):
        distance_correlation(0.1 * torch.eye(12), normal(12, 4))


@pytest.mark.parametrize("case", cases("predictivity"))
def test_linear_predictivity_is_the_originals(case):
    penalties = case["alphas"].tolist() if "alphas" in case else case["alpha"]
    found = linear_predictivity(case["x"], case["y"], case["fold"], penalties=penalties)
    for name in ("predictions", "r", "r2", "brain_score", "brain_score_error", "r2_pooled"):
        expected = torch.as_tensor(case[name], dtype=torch.float64)
        value = torch.as_tensor(getattr(found, name), dtype=torch.float64)
        near = EXACT[case.dtype]
        torch.testing.assert_close(value, expected, rtol=near, atol=near, equal_nan=True)
    if "alpha_chosen" in case:
        torch.testing.assert_close(found.penalties, case["alpha_chosen"].double(), rtol=1e-6, atol=0)


def test_what_cannot_be_predicted_from():
    x, y, folds = normal(12, 3), normal(12, 2, seed=1), torch.arange(12) % 3
    with pytest.raises(AnalysisError, match="need the same samples, but have 12 and 11 rows and 12 folds"):
        linear_predictivity(x, y[1:], folds)
    with pytest.raises(AnalysisError, match="linear predictivity needs finite features"):
        linear_predictivity(x / 0, y, folds)
    with pytest.raises(AnalysisError, match=r"penalties must be above 0, but are \[0.0\]"):
        linear_predictivity(x, y, folds, penalties=0)
    with pytest.raises(AnalysisError, match=r"folds must leave 2 samples or more to fit, but of 12 they hold \[12\]"):
        linear_predictivity(x, y, folds * 0)
    with pytest.raises(AnalysisError, match="linear predictivity needs at least 10 samples, but got 6"):
        PredictsStudent().between(x[:6], y[:6])


def test_each_direction_has_its_own_r2():
    x = normal(200, 8)
    y = x[:, :2] + 0.1 * normal(200, 2, seed=1)
    assert PredictsStudent().between(x, y) > 0.98
    assert PredictsTeacher().between(x, y) == pytest.approx(0.25, abs=0.1)
    assert PredictsTeacher().between(x, y) == PredictsStudent().between(y, x)
    assert PredictsStudent().between(x, 100 * y + 7) == pytest.approx(PredictsStudent().between(x, y))


@pytest.mark.parametrize("measure", [DistanceCorrelation(), PredictsStudent(), PredictsTeacher()])
def test_permuting_one_side_is_permuting_the_other_back(measure):
    x, y = FeatureSet(normal(40, 4)), FeatureSet(normal(40, 4) + normal(40, 4, seed=1))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    one, other = measure.prepare(x), measure.prepare(y)
    assert measure.compare(measure.reordered(one, order), measure.reordered(other, order)) == pytest.approx(
        measure.compare(one, other)
    )
    anew = measure.prepare(FeatureSet(y.rows[order]))
    near = 1e-9 if isinstance(measure, DistanceCorrelation | PredictsStudent) else 0.2  # other folds
    assert measure.compare(one, measure.reordered(other, order)) == pytest.approx(measure.compare(one, anew), abs=near)
    assert np.isfinite(measure.compare(one, anew))


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 + 0.1])
def test_targets_that_are_the_same_for_all_samples_are_not_predicted(constant):
    generator = torch.Generator().manual_seed(1)
    x, live = (torch.randn(60, width, generator=generator, dtype=torch.float64) for width in (12, 7))
    folds = torch.arange(60) % 7
    still = torch.full((60, 9), constant, dtype=torch.float64)
    found, alone = linear_predictivity(x, torch.cat([live, still], 1), folds), linear_predictivity(x, live, folds)
    assert torch.isnan(found.r[:, 7:]).all()
    assert torch.isnan(found.r2[:, 7:]).all()
    assert found.brain_score == pytest.approx(alone.brain_score)
