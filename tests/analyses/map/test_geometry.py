import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform

from analyses.cka import minibatch_cka
from analyses.map import average_linkage, chord_distances, principal_coordinates
from kdprobe.errors import AnalysisError

POINTS = np.random.default_rng(0).normal(size=(7, 3)) * [3, 2, 0.5]


def test_a_map_of_distances_between_points_is_their_principal_component_analysis():
    found = principal_coordinates(squareform(pdist(POINTS)), axes=3)
    centred = POINTS - POINTS.mean(0)
    sizes = np.linalg.svd(centred, compute_uv=False) ** 2
    assert found.shares == pytest.approx(sizes / sizes.sum())
    assert np.allclose(pdist(found.points), pdist(POINTS))
    assert found.negative == pytest.approx(0, abs=1e-12)
    assert (found.points.max(0) == np.abs(found.points).max(0)).all()


def test_a_map_of_two_networks_has_one_axis_and_one_of_equal_networks_none():
    two = principal_coordinates(np.array([[0, 3.0], [3, 0]]))
    assert np.allclose(np.abs(two.points), [[1.5, 0], [1.5, 0]], atol=1e-7)
    assert two.shares == pytest.approx([1, 0])
    assert principal_coordinates(np.zeros((3, 3))).points.tolist() == [[0, 0]] * 3
    assert principal_coordinates(np.zeros((1, 1))).points.tolist() == [[0, 0]]


def test_what_is_not_euclidean_is_told():
    distances = np.array([[0, 1, 1, 1], [1, 0, 2, 2], [1, 2, 0, 2], [1, 2, 2, 0]], float)  # a star
    assert principal_coordinates(distances).negative > 0.05


def test_distances_of_cka_are_euclidean():
    rows = torch.randn(5, 3, 16, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows += 2 * rows[:1]
    similarity = np.array([[minibatch_cka(one, other) for other in rows] for one in rows])
    distances = chord_distances(similarity)
    assert principal_coordinates(distances).negative == pytest.approx(0, abs=1e-9)
    assert distances[1, 2] == pytest.approx(np.sqrt(2 - 2 * similarity[1, 2]))


def test_both_directions_count_and_rounding_above_one_is_no_distance():
    similarity = np.array([[0.3, 0.2, 1 + 1e-12], [0.4, np.nan, np.nan], [1 + 1e-12, 0.5, 1]])
    distances = chord_distances(similarity)
    assert distances[0, 1] == distances[1, 0] == pytest.approx(np.sqrt(2 - 0.6))
    assert distances[0, 2] == 0
    assert np.isnan(distances[1, 2])
    assert (distances.diagonal() == 0).all()


def test_the_tree_joins_the_nearest_first():
    joins = average_linkage(squareform(pdist(np.array([[0.0], [1], [10], [12]]))))
    assert joins[:, 2].tolist() == [1, 2, 10.5]
    assert joins[-1, 3] == 4
    assert average_linkage(np.zeros((1, 1))).shape == (0, 4)


def test_unknown_distances_are_refused():
    distances = np.array([[0, np.nan], [np.nan, 0]])
    for use in (average_linkage, principal_coordinates):
        with pytest.raises(AnalysisError, match="2 distances are NaN; leave out the networks"):
            use(distances)
