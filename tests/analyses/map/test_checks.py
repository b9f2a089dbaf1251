"""What cannot be compared is refused in one line that names it, and nothing is left behind."""

import pytest
import torch
from click.testing import CliRunner

from analyses.map.members import find_members
from analyses.map.showing import prepare_network
from analyses.map.study import measure_map
from analyses.map.tiles import measure_tile
from analyses.map.work import MapSettings, network_cells, tile_cells
from kdprobe.cli.group import cli
from kdprobe.errors import AnalysisError, StoreError
from kdprobe.models import create
from kdprobe.models.checkpoint import save
from tests.analyses.map.networks import BATCH, features, write_dump


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "resnet8.safetensors"
    save(create("resnet8", n_classes=10, image_size=32, data="digits").eval(), path)
    return str(path)


def refused(words, out):
    done = CliRunner().invoke(cli, ["map", *words, "--out", str(out)])
    assert not out.exists()
    return str(done.exception)


def test_a_dump_of_other_images_than_a_network_is_shown_is_refused(network, tmp_path):
    other = write_dump(tmp_path / "b.h5", {"s": features(0)})
    said = "(359 samples) and {} (48 samples) hold different samples or a different order"
    assert said.format(other) in refused([network, other], tmp_path / "m")
    with_data = refused([other, network, "--data", "nowhere"], tmp_path / "m")
    assert "nowhere" in with_data


def test_a_network_goes_beside_a_dump_of_the_same_images(network, tmp_path):
    other, dump = tmp_path / "other.safetensors", str(tmp_path / "other.h5")
    save(create("resnet8", n_classes=10, image_size=32, data="digits").eval(), other)
    cli.main(["dump", "--checkpoint", str(other), "--reduce", "gap", "--out", dump, "--quiet"], standalone_mode=False)
    mixed, alone = (
        measure_map(find_members([network, one]), tmp_path / f"map of {number}", slots=1).arrays["similarity"]
        for number, one in enumerate((dump, str(other)))
    )
    assert mixed[0, 1] == pytest.approx(alone[0, 1], rel=1e-6)


def test_a_dump_of_whole_features_does_not_go_beside_means_over_positions(network, tmp_path, monkeypatch):
    whole = write_dump(tmp_path / "b.h5", {"s": features(0)}, reduce="whole")
    monkeypatch.setattr("analyses.map.checks.require_same", lambda *_: None)
    with pytest.raises(AnalysisError, match=r"holds flatten of each layer; dump with --reduce gap"):
        measure_map(find_members([network, whole]), tmp_path / "m", batch_size=BATCH)


def test_dumps_that_are_sorted_by_class_are_told_once(tmp_path):
    labels = torch.arange(48) // 16
    files = [write_dump(tmp_path / f"{seed}.h5", {"s": features(seed)}, labels=labels) for seed in (0, 1, 2)]
    with pytest.warns(UserWarning, match="minibatches hold few classes") as told:
        measure_map(find_members(files), tmp_path / "cka", batch_size=BATCH)
    assert len(told) == 1
    measure_map(find_members(files), tmp_path / "all at once", measure="procrustes", batch_size=BATCH)


def test_three_images_are_too_few(tmp_path):
    files = [write_dump(tmp_path / f"{seed}.h5", {"s": features(seed)[:3]}) for seed in (0, 1)]
    for measure, title in (("cka", "CKA"), ("procrustes", "Procrustes similarity")):
        said = refused([*map(str, files), "--measure", measure], tmp_path / "m")
        assert f"{title} needs at least 4 images, but {files[0]} is of 3; give more" in said


def test_one_network_named_twice_is_no_map_and_a_file_that_is_not_there_is_told(network, tmp_path):
    assert "names 1, as a network counts once" in refused([network, network], tmp_path / "m")
    missing = str(tmp_path / "none.safetensors")
    assert f"there is no {missing}; give a run, a checkpoint or a dump" in refused([network, missing], tmp_path / "m")


def test_a_pair_that_cannot_be_compared_is_named(tmp_path):
    dumps = [write_dump(tmp_path / f"{name}.h5", {"s": features(seed)}) for seed, name in enumerate("ab")]
    settings = MapSettings("cka", "last", "", BATCH, {}, [{}] * 2)
    networks = network_cells(find_members(dumps), settings)
    for cell in networks:
        prepare_network(cell.config, tmp_path / "cells" / cell.id, "cpu")
    (tile,) = tile_cells(networks, settings)
    write_dump(tmp_path / "b.h5", {"s": features(0)}, index=torch.arange(len(features(0))) + 1)  # after it was checked
    with pytest.raises(StoreError, match=r"^a and b: .* hold different samples") as raised:
        measure_tile(tile.config, tmp_path / "cells" / tile.id)
    assert tile.blamed(str(raised.value)) == str(raised.value)
    assert tile.label == "cka, networks 1 to 2"
    assert tile.blamed("its process was killed by signal 9") == f"{tile.label}: its process was killed by signal 9"
