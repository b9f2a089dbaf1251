"""Mutual k-NN, cycle k-NN and CKNNA against the originals' values, ties against all ways to break them."""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from analyses.cka import minibatch_cka
from analyses.similarity import cknna, clamp_outliers, cycle_knn, mutual_knn
from analyses.similarity.measure import FeatureSet
from analyses.similarity.neighbours import CKNNA, CycleKNN, MutualKNN, nearest
from kdprobe.errors import AnalysisError, Undefined
from tests.goldens import cases

EXACT = {torch.float64: 1e-9, torch.float32: 2e-5}
TIED = (
    torch.tensor([[1.0, 0], [1, 0], [0, 1], [1, 1], [0, 1]]),
    torch.tensor([[0.0, 1], [1, 0], [0, 1], [1, 0], [1, 1]]),
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("case", cases("knn", only="plain"))
def test_values_are_the_originals(case):
    if case.dtype == torch.float32 and case.description["normalised"]:
        return  # rounding of normalised rows may order neighbours differently
    x, y = (case[f"{name}_used"] if f"{name}_used" in case else case[name] for name in "xy")
    k, close = case["k"], {"abs": EXACT[case.dtype]}
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


@pytest.mark.parametrize("measure", [MutualKNN(4), CycleKNN(4), CKNNA(4)], ids=lambda one: one.title)
def test_permuted_neighbours_are_those_of_permuted_samples(measure):
    x, y = FeatureSet(normal(30, 6)), FeatureSet(normal(30, 6) + normal(30, 6, seed=1))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    cheap = measure.reordered(measure.prepare(y), order)
    anew = measure.prepare(FeatureSet(y.rows[order]))
    assert measure.compare(measure.prepare(x), cheap) == pytest.approx(measure.compare(measure.prepare(x), anew))


def test_neighbours_that_there_are_not():
    x = normal(8, 3)
    for k in (0, 8):
        with pytest.raises(AnalysisError, match=f"k must be from 1 to 7, one less than the samples, but is {k}"):
            mutual_knn(x, x, k=k)
    with pytest.raises(AnalysisError, match="needs at least 4 samples and a k of at least 2, but got 8 and 1"):
        cknna(x, x, k=1)
    with pytest.raises(Undefined, match="the same for all samples but for rounding"):
        mutual_knn(torch.ones(8, 3), x, k=2)
    with pytest.raises(Undefined, match="alignment with itself over its neighbours is not positive"):
        cknna(torch.eye(8), x, k=7)
