"""Mutual k-NN, cycle k-NN and CKNNA against the originals' values, ties against all ways to break them."""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from analyses.cka import minibatch_cka
from analyses.similarity import cknna, clamp_outliers, cycle_knn, mutual_knn
from analyses.similarity.intervals import PreparedLayer, group_half_widths, group_samples, matrix_of
from analyses.similarity.measure import FeatureSet
from analyses.similarity.neighbours import CKNNA, CycleKNN, MutualKNN, nearest
from kdprobe.errors import AnalysisError, Undefined
from tests.goldens import cases

pytestmark = pytest.mark.filterwarnings("ignore:of only .* samples")  # as the originals' values are
EXACT = {torch.float64: 1e-9, torch.float32: 2e-5}
TIED = (
    torch.tensor([[1.0, 0], [1, 0], [0, 1], [1, 1], [0, 1]]),
    torch.tensor([[0.0, 1], [1, 0], [0, 1], [1, 0], [1, 1]]),
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(measure, features):
    made = FeatureSet(features)
    return PreparedLayer(made, measure.prepare(made))


@pytest.mark.parametrize("case", cases("knn", only="plain"))
def test_values_are_the_originals(case):
    if case.dtype == torch.float32 and case.description["normalised"]:
        return  # rounding of normalised rows may order neighbours differently
    x, y = (case[f"{name}_used"] if f"{name}_used" in case else case[name] for name in "xy")
    k, close = case["k"], {"abs": EXACT[case.dtype]}
    if k < len(x) - 1:
        assert mutual_knn(x, y, k=k) == pytest.approx(case["mutual_knn"], **close)
        assert cycle_knn(x, y, k=k) == pytest.approx(case["cycle_knn"], **close)
        assert cycle_knn(y, x, k=k) == pytest.approx(case["cycle_yx"], **close)
    if "cknna" in case:
        assert cknna(x, y, k=k, eps=1e-6) == pytest.approx(case["cknna"], **close)
        assert cknna(y, x, k=k, eps=1e-6) == pytest.approx(case["cknna_yx"], **close)
    if "cknna_no_eps" in case:
        assert cknna(x, y, k=k) == pytest.approx(case["cknna_no_eps"], **close)
    found = nearest(FeatureSet(x), k).product.toarray()
    ordered = np.argsort(np.where(found == 0, -np.inf, -found * -1), axis=1)[:, ::-1][:, :k]
    assert (ordered == case["knn_x"].numpy()).all()


@pytest.mark.parametrize("case", cases("knn", only="ties"))
def test_ties_count_in_part(case):
    value = mutual_knn(case["x"], case["y"], k=case["k"])
    assert value == pytest.approx(case["mutual_knn_fractional"], abs=1e-12)
    assert case["mutual_knn_least"] < value < case["mutual_knn_most"]
    order = torch.randperm(len(case["x"]), generator=torch.Generator().manual_seed(0))
    for measure in (mutual_knn, cycle_knn):
        value = measure(case["x"], case["y"], k=case["k"])
        assert measure(case["x"][order], case["y"][order], k=case["k"]) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("case", cases("knn", only="clamp"))
def test_clamping_is_the_originals(case):
    given = {"quantile": case["quantile"], "exact": case.description["exact"]}
    clamped = clamp_outliers(case["x"], **given)
    near = EXACT[case.dtype]
    torch.testing.assert_close(clamped, case["clamped"].to(clamped), rtol=near, atol=near)
    assert float(clamped.abs().max()) == pytest.approx(case["threshold"], rel=near)
    with pytest.raises(AnalysisError, match="quantile of sizes must lie between 0 and 1, but is 1"):
        clamp_outliers(case["x"], quantile=1)


def every_choice(x, k):
    """All ways to take k neighbours of each sample where some are equally near: sets, equally likely."""
    products = x @ x.T
    products.fill_diagonal_(-torch.inf)
    options = []
    for row in products:
        bound = row.topk(k).values[-1]
        sure, tied = (row > bound).nonzero()[:, 0].tolist(), (row == bound).nonzero()[:, 0].tolist()
        options.append([{*sure, *some} for some in combinations(tied, k - len(sure))])
    return list(product(*options))


def test_cycles_with_ties_are_the_mean_over_all_ways_to_break_them():
    ways = [every_choice(x.double(), 2) for x in TIED]
    hits = [
        np.mean([any(i in by_x[j] for j in by_y[i]) for i in range(len(by_y))]) for by_x in ways[0] for by_y in ways[1]
    ]
    assert len(hits) == 36
    assert cycle_knn(*TIED, k=2) == pytest.approx(float(np.mean(hits)), abs=1e-12)
    shared = [
        np.mean([len(a & b) / 2 for a, b in zip(one, other, strict=True)]) for one in ways[0] for other in ways[1]
    ]
    assert mutual_knn(*TIED, k=2) == pytest.approx(float(np.mean(shared)), abs=1e-12)


def test_of_all_others_cknna_is_unbiased_cka():
    x = normal(12, 5)
    y = x[:, :3] + normal(12, 3, seed=1)
    x, y = x - x.mean(0), y - y.mean(0)
    assert cknna(x, y, k=11) == pytest.approx(minibatch_cka(x[None], y[None]))


def test_blocks_and_precision_do_not_matter(monkeypatch):
    x, y = normal(40, 6), normal(40, 5, seed=1)
    whole = mutual_knn(x, y, k=4)
    monkeypatch.setattr("analyses.similarity.neighbours._BLOCK", 40 * 7)
    assert mutual_knn(x, y, k=4) == whole
    assert mutual_knn(x.float(), y.float(), k=4) == whole
    assert mutual_knn(1e-30 * x, 1e30 * y, k=4) == whole


@pytest.mark.parametrize("measure", [MutualKNN(3), CKNNA(3)], ids=lambda one: one.title)
def test_equal_layers_are_exactly_alike_ties_or_not(measure):
    tied = (2 * normal(40, 2)).round()
    layers = [layer(measure, one) for one in (tied, tied.clone(), normal(40, 5), normal(40, 3, seed=1))]
    for columns in (layers, layers[:2]):
        matrix = matrix_of(measure, layers, columns)
        assert (matrix == 1).tolist() == (np.equal.outer([0, 0, 1, 2], [0, 0, 1, 2]))[:, : len(columns)].tolist()
    half, _ = group_half_widths(measure, layers[:1], layers[1:2], group_samples(np.arange(40)))
    assert half < 1e-14
    assert (tied_share := layers[0].prepared.share.data).min() < 1  # of ties with themselves, products are less
    assert (tied_share**2).sum() < 40 * 3


def test_all_pairs_at_once_have_the_values_of_each(monkeypatch):
    layers = [layer(MutualKNN(3), (2 * normal(40, 3, seed=seed)).round() / 2**seed) for seed in range(9)]
    each = [[MutualKNN(3).compare(x.prepared, y.prepared) for y in layers[4:]] for x in layers[:4]]
    for room in (1, 40 * 7, 1 << 20):
        monkeypatch.setattr("analyses.similarity.neighbours._SPREAD_OUT", room)
        np.testing.assert_allclose(matrix_of(MutualKNN(3), layers[:4], layers[4:]), each, rtol=0, atol=1e-15)
    assert matrix_of(MutualKNN(3), [], layers).shape == (0, 9)


@pytest.mark.parametrize("measure", [MutualKNN(4), CycleKNN(4), CKNNA(4)], ids=lambda one: one.title)
def test_permuted_neighbours_are_those_of_permuted_samples(measure):
    x, y = FeatureSet(normal(30, 6)), FeatureSet(normal(30, 6) + normal(30, 6, seed=1))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    cheap = measure.reordered(measure.prepare(y), order)
    anew = measure.prepare(FeatureSet(y.rows[order]))
    assert measure.compare(measure.prepare(x), cheap) == pytest.approx(measure.compare(measure.prepare(x), anew))


def test_neighbours_that_there_are_not():
    x = normal(8, 3)
    for measure in (mutual_knn, cycle_knn):
        for k, why in ((0, "$"), (8, "$"), (7, ", as with all others as neighbours every value is 1")):
            with pytest.raises(AnalysisError, match=f"k of 8 samples must be from 1 to 6, but are {k}{why}"):
                measure(x, x, k=k)
    with pytest.raises(AnalysisError, match=r"k of 8 samples must be from 1 to 7, but are 8$"):
        cknna(x, x, k=8)
    with pytest.raises(AnalysisError, match="needs at least 4 samples and a k of at least 2, but got 8 and 1"):
        cknna(x, x, k=1)
    with pytest.raises(Undefined, match="the same for all samples but for rounding"):
        mutual_knn(torch.ones(8, 3), x, k=2)
    with pytest.raises(Undefined, match="alignment with itself over its neighbours is not positive"):
        cknna(torch.eye(8), x, k=7)
