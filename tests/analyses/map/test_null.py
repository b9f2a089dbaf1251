"""The null of a map: all networks' images in random orders, one for each network."""

import numpy as np
import pytest
import torch

from analyses.map import study, tiles
from analyses.map.members import find_members
from analyses.map.pairs import comparison
from analyses.map.result import map_summary, map_table
from analyses.map.study import measure_map
from analyses.map.tiles import relative_orders
from analyses.map.work import MapSettings, network_cells, tile_cells
from analyses.stored_pair import StoredNetwork
from kdprobe.errors import AnalysisError
from kdprobe.features.store import FeatureStore
from kdprobe.kinds import find_kind
from tests.analyses.map.networks import BATCH, Here, N, features, write_dump

K = 39


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(study, "make_engine", lambda _name, order, **_: Here(order))


@pytest.fixture(scope="module")
def dumps(tmp_path_factory):
    """Three networks, of which the first two have something in common."""
    folder = tmp_path_factory.mktemp("dumps")
    alike = [write_dump(folder / f"n{n}.h5", {f"stage{i}": features(10 * n + i) for i in range(n)}) for n in (1, 2)]
    return [
        *alike,
        write_dump(folder / "own.h5", {"stage0": torch.randn(N, 6, generator=torch.Generator().manual_seed(9))}),
    ]


def calibrated(dumps, out, **options):
    return measure_map(find_members(dumps), out, batch_size=BATCH, permutations=K, **options)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("measure", ["cka", "procrustes"])
def test_what_has_nothing_in_common_does_not_exceed_its_null(dumps, tmp_path, measure):
    result = calibrated(dumps, tmp_path, measure=measure)
    p_values = result.arrays["p_adjusted"]
    assert np.isnan(p_values.diagonal()).all()
    assert (p_values == p_values.T)[0, 1]
    assert p_values[0, 1] == pytest.approx(1 / (K + 1))
    assert p_values[0, 2] > 0.05
    assert result.arrays["calibrated"][0, 2] == 0 < result.arrays["calibrated"][0, 1] < 1
    assert result.arrays["null_mean"][0, 1] < result.arrays["threshold"][0, 1] < result.arrays["similarity"][0, 1]
    assert result.facts["calibration"]["permutations"] == K
    assert f"1 of 3 pairs of networks exceed their null of {K} random orders of the images" in map_summary(result)
    assert {"p_adjusted", "threshold"} < set(map_table(result).columns)
    find_kind("map").check(result.arrays, result.facts, result.provenance)


@pytest.mark.parametrize("measure", ["cka", "rsa"])
def test_both_networks_in_their_own_orders_are_one_in_an_order_relative_to_the_other(tmp_path, measure):
    compared_by, sides = comparison(measure), [features(1), features(2, 7)]

    def prepared(values):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.h5"
        with FeatureStore.open(write_dump(path, {"s": values})) as store:
            return compared_by.prepare(StoredNetwork(store, "student"), ["s"], BATCH)

    own = [compared_by.orders(torch.arange(N), BATCH, 3, seed) for seed in (1, 2)]
    found = compared_by.null(*map(prepared, sides), relative_orders(*own))
    turned = [[prepared(side[orders[draw]]) for side, orders in zip(sides, own, strict=True)] for draw in range(3)]
    assert found == pytest.approx([compared_by.compare(*pair).value for pair in turned], abs=1e-6)
    assert len(set(found)) == 3
    places = own[0].reshape(3, -1, BATCH).div(BATCH, rounding_mode="floor")
    within = (places == torch.arange(N // BATCH)[:, None]).all()
    assert bool(within) == (measure == "cka")  # which is of minibatches


def test_views_of_one_image_stay_together():
    index = torch.arange(N) // 2
    for measure in ("cka", "rsa"):
        (order,) = comparison(measure).orders(index, BATCH, 1, 0)
        assert (order[1::2] == order[::2] + 1).all()


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_the_null_goes_on_behind_a_kill_to_the_same_bytes_and_a_plain_map_is_calibrated_later(dumps, tmp_path):
    plain = measure_map(find_members(dumps), tmp_path / "m", batch_size=BATCH)
    later, whole = calibrated(dumps, tmp_path / "m"), calibrated(dumps, tmp_path / "w")
    assert "calibration" not in plain.facts
    assert (plain.arrays["similarity"] == later.arrays["similarity"]).all()
    assert np.array_equal(later.arrays["p_adjusted"], whole.arrays["p_adjusted"], equal_nan=True)
    members = find_members(dumps)
    settings = MapSettings("cka", "last", "", BATCH, {}, [{}] * 3, permutations=K)
    networks = network_cells(members, settings)
    (null,) = tile_cells(networks, settings, null=True)
    path = tmp_path / "w" / "cells" / null.id / tiles.PAIRS
    text = path.read_bytes()
    assert len(list(tiles.read_nulls(path))) == 3
    killed = tmp_path / "w" / "cells" / f"{null.id}.9" / tiles.PAIRS
    killed.parent.mkdir()
    for length in (0, len(text) // 2, len(text) - 5):
        killed.write_bytes(text[:length])
        tiles.measure_tile(null.config, killed.parent)
        assert killed.read_bytes() == text


@pytest.mark.usefixtures("here")
def test_the_null_of_a_pair_does_not_depend_on_the_other_networks(dumps, tmp_path):
    all_three, two = calibrated(dumps, tmp_path / "m"), calibrated(dumps[1:], tmp_path / "n")
    for name in ("null_mean", "null_deviation", "p_values"):
        assert two.arrays[name][0, 1] == all_three.arrays[name][1, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_an_undefined_pair_has_no_null_and_too_few_permutations_are_refused(dumps, tmp_path):
    constant = write_dump(tmp_path / "c.h5", {"stage0": torch.ones(N, 3)})
    for measure in ("cka", "rsa"):
        result = calibrated([*dumps, constant], tmp_path / "m", measure=measure)
        assert np.isnan(result.arrays["p_adjusted"][3]).all()
        assert result.arrays["p_adjusted"][0, 1] == pytest.approx(1 / (K + 1))
    with pytest.raises(AnalysisError, match="calibration needs at least 19 permutations, but got 18"):
        measure_map(find_members(dumps), tmp_path / "n", permutations=18)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_of_a_measure_with_a_direction_both_have_a_null(dumps, tmp_path):
    result = calibrated(dumps, tmp_path, measure="predicts-student")
    assert result.arrays["null_mean"][0, 1] != result.arrays["null_mean"][1, 0]
