"""Feature-corrected CKA against the authors' values, and as a measure of layers."""

import pytest
import torch

from analyses.cka import feature_corrected_cka, minibatch_cka
from analyses.similarity.corrected_cka import FeatureCorrectedCKA
from analyses.similarity.measure import FeatureSet
from kdprobe.errors import AnalysisError, Undefined
from tests.goldens import cases

EXACT = {torch.float64: 1e-9, torch.float32: 2e-5}

pytestmark = pytest.mark.filterwarnings("ignore:of only .* samples")  # as the authors' values are


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("case", cases("feature_cka"))
def test_values_are_the_authors(case):
    given = case["x"], case["y"]
    if case["cka_feature"] != case["cka_feature"]:
        with pytest.raises(Undefined, match="squared covariance of different units is estimated as"):
            feature_corrected_cka(*given)
        return
    value = feature_corrected_cka(*given, same_units=case.description["shared"])
    assert value == pytest.approx(case["cka_feature"], rel=EXACT[case.dtype])
    if not case.description["shared"]:
        assert FeatureCorrectedCKA().between(*given) == pytest.approx(value, rel=1e-6)


def test_few_units_do_not_lower_it():
    shared, weights = normal(20, 64, 5), normal(5, 12, seed=1)
    one, other = shared @ weights[:, :6], shared @ weights[:, 6:]
    one, other = (side + normal(*side.shape, seed=seed) for seed, side in ((2, one), (3, other)))
    corrected, plain = feature_corrected_cka(one, other), minibatch_cka(one, other)
    assert plain < corrected - 0.1
    assert feature_corrected_cka(1e8 * one + 1e9, other) == pytest.approx(corrected, rel=1e-4)
    measure = FeatureCorrectedCKA(batch_size=64)
    flat = [FeatureSet(side.flatten(0, 1)) for side in (one, other)]
    made = [measure.prepare(side) for side in flat]
    assert measure.compare(*made) == pytest.approx(corrected)
    found, weights = measure.left_out([(flat[0], made[0])], [(flat[1], made[1])], torch.zeros(1280).long().numpy())
    assert weights.tolist() == [64.0] * 20
    assert found[3, 0, 0] == pytest.approx(
        feature_corrected_cka(*(torch.cat([side[:3], side[4:]]) for side in (one, other)))
    )


def test_what_is_no_sample_of_units():
    assert FeatureCorrectedCKA().refused("gap and cls") == ""
    assert "not flatten, whose values are not a sample of units" in FeatureCorrectedCKA().refused("flatten")
    x = normal(30, 6)
    rotated = (x - x.mean(0)) @ torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh.T
    with pytest.raises(Undefined, match="which is not positive, as of units that are uncorrelated"):
        feature_corrected_cka(rotated, x)
    with pytest.raises(AnalysisError, match="must be of at least 4 samples and 2 units"):
        feature_corrected_cka(x[:3], x[:3])
    with pytest.raises(AnalysisError, match="need the same minibatches and samples, but have the shapes"):
        feature_corrected_cka(x, x[1:])
    with pytest.raises(AnalysisError, match="the same units need equal widths, but x has 6 and y 5"):
        feature_corrected_cka(x, x[:, 1:], same_units=True)
    with pytest.raises(AnalysisError, match="CKA needs at least 2 units, but got 1"):
        FeatureCorrectedCKA().between(x[:, :1], x)
