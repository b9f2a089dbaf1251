import re

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from analyses.commands.similarity import similarity
from analyses.paired_features import _Stored, shown_features
from analyses.similarity.corrected_cka import FeatureCorrectedCKA
from analyses.similarity.intervals import PreparedLayer
from analyses.similarity.measure import FeatureSet
from analyses.similarity.measures import MEASURES, find_measure
from analyses.similarity.null import random_orders
from analyses.similarity.permuted import permutation_null
from analyses.similarity.predictivity import LinearPredictivity
from analyses.similarity.result import files_similarity, layers_similarity
from figures.pictures.cka import colour_label, draw_cka
from figures.report.cka import similarity_panels
from figures.words import neighbours
from kdprobe.cli import main
from kdprobe.errors import AnalysisError, CaptureError, ConfigError, StoreError, Undefined
from kdprobe.features.shared_images import open_views
from kdprobe.features.store import FeatureStore, Network
from kdprobe.models import create, save
from kdprobe.models.layout import Layout
from kdprobe.results import load_result


@pytest.fixture
def dump(tmp_path):
    index, generator = torch.arange(24), torch.Generator().manual_seed(0)
    maps = torch.randn(24, 5, 2, 2, generator=generator)
    layers = {"teacher": {"a": maps, "b": maps.square()}, "student": {"c": maps.flip(1), "d": maps.cos()}}
    layouts = {role: dict.fromkeys(named, Layout("NCHW")) for role, named in layers.items()}
    with FeatureStore.create(
        tmp_path / "f.h5", {role: Network(role[0]) for role in layers}, batch_size=24, data="digits"
    ) as writer:
        writer.append(index, index, layers, layouts=layouts)
    return tmp_path / "f.h5"


def run(*arguments):
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(similarity, words, catch_exceptions=False, standalone_mode=False)


def test_every_measure_is_told_and_others_are_not_taken(dump, tmp_path):
    told = CliRunner().invoke(similarity, ["--help"]).output
    assert all(re.search(rf"^ +([\w-]+, )?{name}[, ]", told, re.MULTILINE) for name in MEASURES)
    with pytest.raises(AnalysisError, match=r"no measure '\.\./rsa'"):
        run("--features", dump, "--measure", "../rsa", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("measure", MEASURES)
def test_the_result_names_its_measure(dump, measure):
    result = files_similarity([dump], measure)
    assert result.arrays["matrix"].shape == (2, 2)
    assert (result.kind, result.facts["teacher"], result.facts["student_layers"]) == ("similarity", "t", ["c", "d"])
    assert colour_label(result.facts) == f"{MEASURES[measure].title}, gap features"


@pytest.mark.slow
def test_results_by_neighbours_say_how_many_there_are(dump, tmp_path):
    given = ("--features", dump, "--neighbours", 3, "--groups", 0, "--out", tmp_path, "--quiet")
    for name, chance in (("mutual-knn", 3 / 23), ("cknna", None)):
        said = run("--measure", name, *given).output
        result = load_result(tmp_path / f"{name}.npz", kind="similarity")
        assert (result.facts["neighbours"], result.facts["n_samples"]) == (3, 24)
        assert result.facts.get("chance") == (pytest.approx(chance) if chance else None)
        assert "3 neighbours of 23 other samples" in said
        assert neighbours(result.facts) in [text.get_text() for text in draw_cka(result).texts]
    assert ", 0.130 by chance" not in said
    panel = similarity_panels([("a", result), ("b", result)])[0]
    assert "3 neighbours of 23 others" in panel.charts[0].caption
    assert "not to be compared" not in panel.note
    fewer = files_similarity([dump], find_measure("cknna", neighbours=2), groups=0)
    note = similarity_panels([("a", result), ("b", fewer)])[0].note
    assert "2 neighbours of 23 others; 3 neighbours of 23 others" in note


def test_command_writes_result_table_and_picture(dump, tmp_path):
    said = run("--features", dump, "--measure", "procrustes", "--out", tmp_path / "out", "--quiet").output
    assert "Procrustes similarity" in said
    table = pd.read_csv(tmp_path / "out" / "procrustes.csv")
    matrix = load_result(tmp_path / "out" / "procrustes.npz", kind="similarity").arrays["matrix"]
    assert table["similarity"].to_numpy() == pytest.approx(matrix.ravel())
    assert (tmp_path / "out" / "procrustes.png").is_file()


def test_command_that_calibrates(dump, tmp_path):
    given = (
        "--features",
        dump,
        "--measure",
        "procrustes",
        "--out",
        tmp_path / "out",
        "--quiet",
        "--calibrate",
        "--reduce",
        "flatten",
    )
    with pytest.raises(AnalysisError, match="calibration needs at least 19 permutations, but got 7"):
        run(*given, "--permutations", 7)
    assert not list(tmp_path.glob("out/*"))
    said = run(*given, "--permutations", 39).output
    result = load_result(tmp_path / "out" / "procrustes.npz", kind="similarity")
    assert "2 of 4 pairs exceed their null of 39 random orders of the samples" in said
    assert result.facts["calibration"]["permutations"] == 39
    assert f"calibrated as best of 4 {result.facts['calibration']['best']['calibrated']:.3f}, p = 0.025" in said
    assert re.search("Procrustes similarity +calibrated as best of 2 +p\n", said)
    np.testing.assert_array_equal(result.arrays["p_adjusted"] <= 0.05, [[True, False], [False, True]])
    assert result.arrays["calibrated"][0, 0] == pytest.approx(1)  # the same channels in another order
    assert result.arrays["null_mean"].min() > 0.4  # so much is alike by chance, of 24 samples in 20 dimensions
    table = pd.read_csv(tmp_path / "out" / "procrustes.csv")
    assert table["calibrated"].to_numpy() == pytest.approx(result.arrays["calibrated"].ravel())
    assert colour_label(result.facts, calibrated=True) == "calibrated Procrustes similarity, flatten features"


@pytest.mark.parametrize("name", MEASURES)
def test_the_null_is_that_of_permuted_features(name):
    draw, mixing = torch.randn(3, 48, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64).split([2, 1])
    x, y = draw @ (torch.ones(6, 6) + mixing[0, :6])
    index, measure = torch.arange(48) // 2, MEASURES[name]  # two views of each of 24 images
    features = (FeatureSet(x), FeatureSet(y))
    row, column = (PreparedLayer(one, measure.prepare(one)) for one in features)
    failed = PreparedLayer(None, AnalysisError("constant"))
    null = permutation_null(measure, [row], [column, failed], index, 3, seed=4)
    assert np.isnan(null[:, 0, 1]).all()
    for value, order in zip(null[:, 0, 0], random_orders(48, 3, seed=4, groups=index), strict=True):
        pair = row.prepared, measure.prepare(FeatureSet(y[order]))
        if name == "predicts-teacher":  # folds stay with the samples of the predictor
            pair = measure.prepare(FeatureSet(x[torch.argsort(order)])), column.prepared
        assert value == pytest.approx(measure.compare(*pair), abs=1e-9)


def test_files_that_do_not_fit(dump):
    with pytest.raises(StoreError, match="give one feature file or two, not 3"):
        files_similarity([dump] * 3, "rsa")
    with FeatureStore.create(dump.with_name("g.h5"), {"student": Network("s")}, batch_size=8) as writer:
        writer.append(torch.arange(8), torch.arange(8), {"student": {"a": torch.eye(8)}})
    with pytest.raises(StoreError, match="holds only the student; give a second file"):
        files_similarity([dump.with_name("g.h5")], "rsa")


def test_a_layer_that_cannot_be_reduced_so_is_named(dump):
    with pytest.raises(CaptureError, match=r"layer 'a' of the teacher: there is no class token in NCHW"):
        files_similarity([dump], "rsa", reduce="cls")
    with pytest.raises(CaptureError, match=r"layer 'c' of the student: there is no class token in NCHW"):
        _Stored(dump, "student", ["c"], "cls")["c"]


def test_neighbours_are_for_measures_that_count_them(dump, tmp_path):
    out = ("--out", tmp_path / "out", "--quiet")
    with pytest.raises(AnalysisError, match="rsa counts no neighbours; mutual-knn, cycle-knn, cknna do"):
        run("--features", dump, "--measure", "rsa", "--neighbours", 3, *out)
    assert "mutual k-NN" in run("--features", dump, "--measure", "mutual-knn", "--neighbours", 22, *out).output
    with pytest.raises(Undefined, match="no pair of layers has a value; teacher layer 'a': the neighbours k of 24 sam"):
        run("--features", dump, "--measure", "mutual-knn", "--neighbours", 23, *out)
    with pytest.raises(AnalysisError, match="feature-corrected CKA needs units, such as channels averaged over posit"):
        run("--features", dump, "--measure", "feature-cka", "--reduce", "flatten", *out)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Two untrained networks for digits, and a dump of their stages."""
    place = tmp_path_factory.mktemp("networks")
    for name, role in (("resnet14", "teacher"), ("resnet8", "student")):
        save(create(name, n_classes=10, image_size=8, data="digits"), place / f"{role}.safetensors")
    both = [word for role in ("teacher", "student") for word in (f"--{role}", str(place / f"{role}.safetensors"))]
    main(["dump", *both, "--reduce", "gap", "--out", str(place / "f.h5"), "--quiet", "--device", "cpu"])
    return both, place / "f.h5"


@pytest.fixture(scope="module")
def shown(networks):
    _, teacher, _, student = networks[0]
    return shown_features(open_views({"teacher": teacher, "student": student}), quiet=True)


@pytest.mark.parametrize("name", MEASURES)
def test_networks_and_their_dump_have_the_same_similarity(shown, networks, name):
    cheap = not isinstance(MEASURES[name], FeatureCorrectedCKA | LinearPredictivity)
    found, stored = (
        similarity_of(what, name, groups=4, permutations=19 * cheap)
        for similarity_of, what in ((layers_similarity, shown), (files_similarity, [networks[1]]))
    )
    assert found.arrays["matrix"].shape == (4, 4)
    assert found.arrays.keys() == stored.arrays.keys()
    for key, values in found.arrays.items():
        np.testing.assert_allclose(values, stored.arrays[key], rtol=1e-5, atol=1e-5, err_msg=key)
    assert all(found.facts[key] == value for key, value in stored.facts.items() if key != "calibration")
    if not MEASURES[name].no_interval:
        assert (found.arrays["low"] < found.arrays["matrix"]).all()
        assert (found.arrays["matrix"] < found.arrays["high"]).all()
        assert found.facts["interval"] == f"95 %, by the jackknife over {MEASURES[name].grouping}"


@pytest.mark.slow
def test_command_of_networks(networks, tmp_path):
    said = run(*networks[0], "--measure", "rsa-spearman", "--quiet", "--out", tmp_path, "--device", "cpu").output
    assert "low" in said
    expected = files_similarity([networks[1]], "rsa-spearman").arrays["matrix"]
    np.testing.assert_allclose(load_result(tmp_path / "rsa-spearman.npz").arrays["matrix"], expected, atol=1e-5)
    with pytest.raises(ConfigError, match="give --teacher and --student, or --features"):
        run("--measure", "rsa")
