import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from analyses.commands.similarity import similarity
from analyses.paired_features import _Stored
from analyses.similarity.measures import MEASURES
from analyses.similarity.result import files_similarity
from figures.pictures.cka import colour_label
from kdprobe.errors import CaptureError, StoreError
from kdprobe.features.store import FeatureStore, Network
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


def test_every_measure_is_offered():
    (option,) = [one for one in similarity.params if one.name == "measure"]
    assert set(option.type.choices) == set(MEASURES)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_result_names_its_measure(dump, measure):
    result = files_similarity([dump], measure)
    assert result.arrays["matrix"].shape == (2, 2)
    assert (result.kind, result.facts["teacher"], result.facts["student_layers"]) == ("similarity", "t", ["c", "d"])
    assert colour_label(result.facts) == f"{MEASURES[measure].title}, gap features"


def test_command_writes_result_table_and_picture(dump, tmp_path):
    said = run("--features", dump, "--measure", "procrustes", "--out", tmp_path / "out", "--quiet").output
    assert "Procrustes similarity" in said
    table = pd.read_csv(tmp_path / "out" / "procrustes.csv")
    matrix = load_result(tmp_path / "out" / "procrustes.npz", kind="similarity").arrays["matrix"]
    assert table["similarity"].to_numpy() == pytest.approx(matrix.ravel())
    assert (tmp_path / "out" / "procrustes.png").is_file()


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
