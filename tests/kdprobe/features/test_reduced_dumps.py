"""Dumps that keep less of each layer than its whole output, and what analyses make of them."""

import h5py
import numpy as np
import pytest
import torch

from analyses.cka.networks import views_cka
from analyses.cka.stored import files_cka
from analyses.paired_features import shown_features, stored_features
from analyses.similarity.result import files_similarity
from kdprobe.cli.group import run
from kdprobe.data import Split
from kdprobe.errors import CaptureError, StoreError
from kdprobe.features.dump import Dump, write_dump
from kdprobe.features.shared_images import Views
from kdprobe.features.store import FeatureStore
from kdprobe.models.checkpoint import save
from kdprobe.models.creation import create
from kdprobe.models.layout import Layout


@pytest.fixture(scope="module")
def views():
    torch.manual_seed(0)
    nets = {
        "teacher": create("vit_tiny_patch16_224", n_classes=3, image_size=16, args={"patch_size": 4, "depth": 2}),
        "student": create("resnet8", n_classes=5, image_size=16),
    }
    images = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
    return Views("digits", nets, dict.fromkeys(nets, Split(images, torch.arange(20) % 3, 16)))


def dumped(views, path, roles=("teacher", "student"), **options):
    chosen = Views("digits", {role: views.models[role] for role in roles}, {role: views.splits[role] for role in roles})
    told = []
    write_dump(Dump.of(chosen, batch_size=10, **options), path, say=told.append)
    return told


SHAPES = {
    "flatten": ((17 * 192,), (16 * 16 * 16,), Layout("vector")),
    "gap": ((192,), (16,), Layout("vector")),
    "tokens": ((16, 192), (256, 16), Layout("tokens")),
    "spatial:2": ((192, 2, 2), (16, 2, 2), Layout("NCHW")),
}


@pytest.mark.parametrize("reduce", SHAPES)
def test_what_is_stored_is_what_capture_gives(views, tmp_path, reduce):
    path = tmp_path / "f.h5"
    told = dumped(
        views,
        path,
        reduce=reduce,
        layers={"teacher": ["blocks.1"], "student": ["layer1"]},
    )
    one, other, layout = SHAPES[reduce]
    n_bytes = 20 * 4 * (np.prod(one) + np.prod(other))
    assert told[0].startswith(f"20 samples of 2 layers: {n_bytes / 1e6:.1f} MB before compression, ")
    shown = shown_features(views, reduce=reduce, teacher_layers=["blocks.1"], student_layers=["layer1"], batch_size=10)
    with FeatureStore.open(path) as store:
        assert store.reduce == reduce
        for role, layer, shape in (("teacher", "blocks.1", one), ("student", "layer1", other)):
            assert store.layout(role, layer) == layout
            assert store.read(role, layer).shape == (20, *shape)
            assert torch.equal(store.read(role, layer), getattr(shown, role)[layer])


def test_a_reduction_that_a_layer_does_not_have_leaves_no_file(views, tmp_path):
    with pytest.raises(CaptureError, match=r"layer 'act1': there is no class token in NCHW"):
        dumped(views, tmp_path / "f.h5", roles=["student"], reduce="cls")
    with pytest.raises(CaptureError, match="no reducer 'gapp'; did you mean 'gap'"):
        dumped(views, tmp_path / "f.h5", reduce="gapp")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("content", ["features", "grams"])
@pytest.mark.filterwarnings("ignore:an older kdprobe")
def test_cka_of_reduced_dumps_is_that_of_the_networks(views, tmp_path, content):
    dumped(views, tmp_path / "f.h5", reduce="gap", content=content)
    direct = views_cka(views, reduce="gap", batch_size=10)
    stored = files_cka([tmp_path / "f.h5"], teacher_layers="stages")
    np.testing.assert_allclose(stored.matrix, direct.matrix, rtol=1e-10)
    assert stored.facts["reduce"] == direct.facts["reduce"] == "gap"
    dumped(views, tmp_path / "t.h5", roles=["teacher"], reduce="cls", content=content)
    dumped(views, tmp_path / "s.h5", roles=["student"], content=content)
    assert files_cka([tmp_path / "t.h5", tmp_path / "s.h5"]).facts["reduce"] == "cls and flatten"


@pytest.mark.slow
def test_what_is_compared_is_what_the_dump_still_holds(views, tmp_path):
    paths = {reduce: tmp_path / f"{reduce[:3]}.h5" for reduce in ("whole", "gap", "tokens", "flatten", "spatial:2")}
    for reduce, path in paths.items():
        dumped(views, path, reduce=reduce)
    means = {reduce: stored_features([path]) for reduce, path in paths.items()}
    taken = {reduce: found.facts["reduce"] for reduce, found in means.items()}
    assert taken == {"whole": "gap", "gap": "gap", "tokens": "gap", "flatten": "flatten", "spatial:2": "spatial:2"}
    for reduce in ("gap", "tokens"):
        torch.testing.assert_close(means[reduce].teacher["blocks.1"], means["whole"].teacher["blocks.1"])
    assert means["spatial:2"].student["layer3"].shape == (20, 64, 2, 2)
    assert stored_features([paths["gap"]], reduce="mean").facts["reduce"] == "mean"
    message = "tok.h5 holds tokens of each layer, of which flatten cannot be taken; give --reduce gap, or dump again"
    with pytest.raises(StoreError, match=message):
        stored_features([paths["tokens"]], reduce="flatten")
    with pytest.raises(
        StoreError, match=r"holds spatial:2 of each layer, of which gap cannot be taken; give --reduce sp"
    ):
        files_similarity([paths["spatial:2"]], "rsa", reduce="gap")
    one = files_similarity([paths["spatial:2"]], "rsa")
    other = files_similarity([paths["whole"]], "rsa", reduce="spatial:2")
    np.testing.assert_allclose(one.arrays["matrix"], other.arrays["matrix"], rtol=1e-6)
    assert one.facts["reduce"] == other.facts["reduce"] == "spatial:2"


def test_a_dump_of_another_reduction_is_not_continued(views, tmp_path):
    dumped(views, tmp_path / "f.h5", reduce="gap")
    chosen = Dump.of(views, batch_size=10, reduce="flatten")
    with pytest.raises(StoreError, match="beginning of another dump: reduce was gap, but now is flatten; resume with"):
        write_dump(chosen, tmp_path / "f.h5", resume=True)


def test_an_older_dump_is_whole_and_a_reduction_that_is_none_is_damage(views, tmp_path):
    dumped(views, tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        assert file.attrs["reduce"] == "whole"
        del file.attrs["reduce"]
    with FeatureStore.open(tmp_path / "f.h5") as store:
        assert store.reduce == "whole"
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file.attrs["reduce"] = "most"
    with pytest.raises(StoreError, match=r"cannot be read as part of a feature file \(ValueError: no reducer 'most'"):
        FeatureStore.open(tmp_path / "f.h5")


def test_the_command_stores_means_over_any_number_of_areas(views, tmp_path):
    save(views.models["student"], tmp_path / "s.safetensors")
    words = ["--checkpoint", tmp_path / "s.safetensors", "--data", "digits", "--out", tmp_path / "f.h5", "--quiet"]
    run("dump", *words, "--reduce", "spatial:4", "--dtype", "float16", "--layers", "layer3", "--device", "cpu")
    with FeatureStore.open(tmp_path / "f.h5") as store:
        assert (store.reduce, store.dtype) == ("spatial:4", "float16")
        assert store.read("student", "layer3").shape == (359, 64, 4, 4)
