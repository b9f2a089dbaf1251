"""Places of images in a plane."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from analyses.images.projecting import facing, project
from kdprobe.errors import AnalysisError


def test_pca_finds_the_plane_that_the_features_lie_in():
    rng = np.random.default_rng(0)
    plane = rng.standard_normal((40, 2)) * [3.0, 1.0]
    axes, _ = np.linalg.qr(rng.standard_normal((7, 2)))
    places, shares = project((plane @ axes.T + 5).astype(np.float32))
    assert shares.sum() == pytest.approx(1)
    assert shares[0] > shares[1] > 0
    gaps = [np.linalg.norm(points[:, None] - points, axis=2) for points in (places, plane)]
    np.testing.assert_allclose(*gaps, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 1), (1, 4), (3, 2)])
def test_what_has_no_second_axis_lies_on_the_first(shape):
    places, shares = project(np.arange(np.prod(shape), dtype=np.float64).reshape(shape))
    assert not project(np.ones(shape))[0].any()
    assert places.shape == (shape[0], 2)
    assert np.isfinite(places).all()
    assert np.isfinite(shares).all()


def test_axes_are_turned_to_face_those_of_the_teacher():
    places = np.random.default_rng(0).standard_normal((9, 2))
    np.testing.assert_array_equal(facing(places * [-1.0, 2.0], places), places * [1.0, 2.0])


def test_umap_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(AnalysisError, match="needs the package umap-learn; install it, or take pca"):
        project(np.zeros((3, 2)), method="umap")
    made = SimpleNamespace(fit_transform=lambda features: features[:, :2].astype(np.float32))
    fake = SimpleNamespace(UMAP=lambda **options: made if options == {"n_components": 2, "random_state": 3} else None)
    monkeypatch.setitem(sys.modules, "umap", fake)
    features = np.arange(12.0).reshape(4, 3)
    places, shares = project(features, method="umap", seed=3)
    np.testing.assert_array_equal(places, features[:, :2])
    assert np.isnan(shares).all()
