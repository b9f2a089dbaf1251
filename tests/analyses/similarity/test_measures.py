import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import pdist
from sklearn.cross_decomposition import CCA

from analyses.similarity import canonical_correlations, files_similarity, procrustes, pwcca, rsa, svcca
from analyses.similarity.measures import MEASURES as TABLE
from analyses.similarity.measures import find_measure
from analyses.stored_pair import StoredNetwork
from kdprobe.errors import AnalysisError, StoreError
from kdprobe.features.store import FeatureStore, Network
from kdprobe.models.layout import Layout

MEASURES = {
    "svcca": svcca,
    "pwcca": pwcca,
    "procrustes": procrustes,
    "rsa": rsa,
    "rsa-spearman": lambda x, y: rsa(x, y, ranks=True),
}
ALL = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def pair():
    x = normal(60, 6)
    return x, torch.cat([x[:, :3] + 0.5 * normal(60, 3, seed=1), normal(60, 2, seed=2)], 1)


@ALL
def test_equal_up_to_rotation_scale_and_shift(measure, pair):
    rotation = torch.linalg.qr(normal(6, 6, seed=3)).Q
    assert measure(pair[0], 3 * pair[0] @ rotation + 7) == pytest.approx(1)
    assert measure(pair[0], 3 * pair[1] + 7) == pytest.approx(measure(*pair))
    assert measure(*pair) < 0.99


@ALL
def test_more_alike_with_less_noise(measure):
    x, noise = normal(200, 5), normal(200, 5, seed=1)
    values = [measure(x, x + scale * noise) for scale in (0.1, 0.5, 2)]
    assert values == sorted(values, reverse=True)


@ALL
def test_different_samples_and_features_that_do_not_vary(measure, pair):
    with pytest.raises(AnalysisError, match="features of the same samples, but have 60 and 59 rows"):
        measure(pair[0], pair[1][1:])
    with pytest.raises(AnalysisError, match="is undefined"):
        measure(pair[0], torch.ones(60, 4, dtype=torch.float64))


def test_linear_maps_leave_cca_alone(pair):
    x, y = pair
    mixed = y @ normal(5, 5, seed=4)
    assert torch.allclose(canonical_correlations(x, mixed), canonical_correlations(x, y))
    assert pwcca(x, mixed) == pytest.approx(pwcca(x, y))
    assert procrustes(x, mixed) != pytest.approx(procrustes(x, y), rel=1e-2)


def test_correlations_equal_scikit_learns(pair):
    x, y = (features.numpy() for features in pair)
    variables = CCA(n_components=2, max_iter=10000, tol=1e-12).fit_transform(x, y)
    expected = [np.corrcoef(variables[0][:, i], variables[1][:, i])[0, 1] for i in range(2)]
    np.testing.assert_allclose(canonical_correlations(*pair)[:2], expected, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in TABLE if not name.startswith("predicts")])
def test_few_samples_are_refused_or_come_with_a_remark(name):
    measure = find_measure(name, neighbours=2) if name in ("mutual-knn", "cycle-knn", "cknna") else TABLE[name]
    with pytest.raises(AnalysisError, match="at least 4 samples, but got 3, of which no value can be told from chance"):
        measure.between(normal(3, 2), normal(3, 2, seed=1))
    x, y = (normal(20, 1) + 0.5 * normal(20, 2, seed=seed) for seed in (1, 2))
    with pytest.warns(UserWarning, match="of only 19 samples, unrelated layers often come out alike; take 20 or more"):
        measure.between(x[:19], y[:19])
    measure.between(x, y)


def test_svcca_keeps_the_leading_components():
    strong, weak = normal(80, 2) * 100, normal(80, 3, seed=1)
    assert svcca(torch.cat([strong, weak], 1), strong) == pytest.approx(1, abs=1e-3)
    assert len(canonical_correlations(torch.cat([strong, weak], 1), strong)) == 2


def test_pwcca_equals_its_definition(pair):
    x, y = (features.numpy() - features.numpy().mean(0) for features in pair)
    qx, qy = np.linalg.qr(x)[0], np.linalg.qr(y)[0]
    u, rho, _ = np.linalg.svd(qx.T @ qy, full_matrices=False)
    weights = np.abs((qx @ u).T @ x).sum(1)
    assert pwcca(*pair) == pytest.approx(float(weights @ rho / weights.sum()))


def test_procrustes_equals_scipys(pair):
    x, y = (features - features.mean(0) for features in pair)
    x, y = torch.nn.functional.pad(x / x.norm(), (0, 0)), torch.nn.functional.pad(y / y.norm(), (0, 1))
    assert procrustes(*pair) == pytest.approx(orthogonal_procrustes(x.numpy(), y.numpy())[1])


def test_rsa_equals_scipys(pair):
    distances = [pdist(features.numpy()) for features in pair]
    assert rsa(*pair) == pytest.approx(stats.pearsonr(*distances).statistic)
    assert rsa(*pair, ranks=True) == pytest.approx(stats.spearmanr(*distances).statistic)


@pytest.fixture
def store(tmp_path):
    networks = {"teacher": Network("t"), "student": Network("s")}
    layouts = {"student": {"map": Layout("NCHW")}}
    with FeatureStore.create(tmp_path / "f.h5", networks, batch_size=20) as writer:
        for start in (0, 20):
            index = torch.arange(start, start + 20)
            x = normal(20, 4, seed=start).float()
            layers = {
                "teacher": {"a": x, "b": normal(20, 3, seed=9)},
                "student": {"map": x[..., None, None].expand(-1, -1, 2, 2)},
            }
            writer.append(index, index, layers, layouts=layouts)
    return tmp_path / "f.h5"


@pytest.mark.parametrize("name", TABLE)
def test_stored_layers(store, name):
    matrix = files_similarity([store], name).arrays["matrix"]
    assert matrix.shape == (2, 1)
    if name != "cycle-knn":  # 10 of 39 neighbours come back almost always
        assert matrix[1, 0] < min(0.95, matrix[0, 0])
        assert matrix[0, 0] > 0.9


def test_halves_are_averaged_in_float32(tmp_path):
    maps = 200 + 10 * torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    index = torch.arange(20)
    with FeatureStore.create(tmp_path / "h.h5", {"student": Network("s")}, batch_size=20, dtype="float16") as writer:
        writer.append(index, index, {"student": {"map": maps}}, layouts={"student": {"map": Layout("NCHW")}})
    with FeatureStore.open(tmp_path / "h.h5") as store:
        pooled = StoredNetwork(store, "student").reduced("map", "gap")
    torch.testing.assert_close(pooled, maps.half().float().mean((2, 3)), rtol=1e-6, atol=0)
    assert not torch.equal(pooled, pooled.half().float())


@pytest.mark.filterwarnings("ignore:an older kdprobe")
def test_stored_layers_that_cannot_be_compared(store, tmp_path):
    with pytest.raises(AnalysisError, match="no measure 'scca'; did you mean 'svcca'"):
        files_similarity([store], "scca")
    with pytest.raises(AnalysisError, match="CKA has a command of its own: give kdprobe cka, or in Python use an"):
        files_similarity([store], "cka")
    index, path = torch.arange(8), tmp_path / "g.h5"
    with FeatureStore.create(path, {"student": Network("s")}, batch_size=8, content="grams") as writer:
        writer.append(index, index, {"student": {"a": torch.eye(8)}})
    with pytest.raises(StoreError, match="hold different samples or a different order"):
        files_similarity([store, path], "rsa")
    with pytest.raises(StoreError, match="holds Gram matrices, but features are needed; dump without --grams"):
        files_similarity([path, path], "rsa")
