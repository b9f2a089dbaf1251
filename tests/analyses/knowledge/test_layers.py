import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from analyses.knowledge.decomposition import decompose
from analyses.knowledge.dropkd import load_dropkd
from analyses.knowledge.examples import examples_result
from analyses.knowledge.groups import groups_of_images
from analyses.knowledge.layers import decompose_layers, features_and_pairs
from analyses.knowledge.pair import measure_pair
from analyses.knowledge.result import compare, comparison_table, knowledge_result, knowledge_summary, knowledge_table
from analyses.layer_pairs import match_layers
from analyses.paired_features import LayerFeatures, shown_features, shown_maps, stored_features
from kdprobe.distillers.dropkd import DropKD, DropKDOptions
from kdprobe.errors import AnalysisError, ConfigError, StoreError
from kdprobe.features.gram import centred_gram
from kdprobe.features.shared_images import open_views
from kdprobe.features.store import FeatureStore, Network
from kdprobe.models import create
from kdprobe.models.checkpoint import save
from kdprobe.models.layout import Layout
from kdprobe.models.stages import measure
from kdprobe.results import load_result, save_result
from kdprobe.training.saving import save_auxiliary
from tests.planted import planted


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A teacher, a student, and a DropKD run of both."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    teacher, student = (
        create("resnet8", n_classes=10, image_size=size, data="tests.tiny:digits").eval() for size in (40, 32)
    )
    (folder / "run").mkdir()
    save(teacher, folder / "teacher.safetensors")
    save(student, folder / "student.safetensors")
    save(student, folder / "run" / "last.safetensors")
    method = DropKD(DropKDOptions(dim=4), measure(student), measure(teacher))
    save_auxiliary(method, {"name": "dropkd", "dim": 4}, folder / "run" / "auxiliary.safetensors")
    return folder


@pytest.fixture(scope="module")
def features():
    teacher, student = planted(80, 12, 10, shared=0.5, noise=0.1)
    labels = torch.arange(80) % 3
    return LayerFeatures(
        {"a": teacher, "b": teacher @ torch.ones(12, 3, dtype=torch.float64)},
        {"c": student},
        labels,
        torch.arange(80) + 5,
        {"teacher": "one", "student": "other", "data": "digits"},
    )


def run(*arguments):
    from analyses.commands.decompose import decompose as command

    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(command, words, catch_exceptions=False, standalone_mode=False)


def write(path, values, *, role="teacher", start=0, content="features", n_classes=2):
    with FeatureStore.create(path, {role: Network("net")}, data="digits", batch_size=20, content=content) as writer:
        for first in range(0, len(values), 20):
            batch = values[first : first + 20]
            batch = centred_gram(batch) if content == "grams" else batch
            index = torch.arange(first, first + len(batch))
            layouts = {role: {"layer": Layout("NCHW")}}
            writer.append(
                index + start, index % n_classes, {role: {"layer": batch}}, layouts=layouts, stages={role: ["layer"]}
            )


def test_layers_go_together_by_relative_depth():
    assert match_layers(list("abcd"), ["x", "y"]) == [("b", "x"), ("d", "y")]
    assert match_layers(["a", "b"], list("wxyz")) == [("a", "w"), ("a", "x"), ("b", "y"), ("b", "z")]
    assert match_layers(["a", "b"], ["x"], ["a=x", "b=x"]) == [("a", "x"), ("b", "x")]


@pytest.mark.parametrize("pair", ["a", "a=z", "z=x", "x=a"])
def test_a_pair_names_two_layers(pair):
    with pytest.raises(AnalysisError, match=f"'{pair}' is not TEACHER=STUDENT of the teacher's layers a, b and"):
        match_layers(["a", "b"], ["x"], [pair])


def test_a_result_holds_every_number_of_its_pairs(features, tmp_path):
    result, examples = decompose_layers(features, [("a", "c"), ("b", "c")], n_images=3)
    assert examples.arrays["images"].shape[:2] == (2, 3)
    found = decompose(features.teacher["a"], features.student["c"])
    for name, fraction in found.fractions.items():
        np.testing.assert_array_equal(result.arrays[name][0], fraction.ends)
    assert result.arrays["cka"].shape == result.arrays["teacher_probe"].shape == (2, 3, 3)
    assert result.arrays["dimension"][0] == found.dimension
    assert result.facts["teacher_layers"] == ["a", "b"]
    table = knowledge_table(result)
    shares = table[(table.quantity == "share") & (table.teacher_layer == "a")]
    assert dict(zip(shares.network + "_" + shares.part, shares.value, strict=True)) == {
        name: fraction.value for name, fraction in found.fractions.items()
    }
    assert set(table.quantity) == {
        *("share", "dimension", "rank", "components used", "variance of these", "degrees of freedom"),
        *("cka", "probe accuracy"),
    }
    freedom = table[(table.quantity == "degrees of freedom") & (table.teacher_layer == "b")]
    assert freedom.value.tolist() == [
        80 - 10 - 1,
        80 - 1 - 1,
    ]  # of the student's directions, and of b, which has but one
    assert "one and other by adjusted, 80 samples of digits" in knowledge_summary(result)


def test_cka_of_whole_general_and_specific_parts():
    teacher, student = planted(400, 64, 64, shared=0.5, noise=0.05)
    cka = measure_pair("a", "c", decompose(teacher, student)).numbers["cka"][:, 0]
    assert cka[1] > cka[0] > 0.2
    assert abs(cka[2]) < cka[0] / 2


@pytest.mark.parametrize("n", [355, 359, 1100])
def test_minibatches_of_the_parts_are_of_nearly_equal_size(n, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        "analyses.knowledge.pair.centred_gram", lambda part: sizes.append(len(part)) or centred_gram(part)
    )
    measure_pair("a", "c", decompose(*planted(n, 6, 6, shared=0.5, noise=0.1)))
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == 6 * n
    assert max(sizes) <= 256
    assert len(sizes) // 6 >= 5


def test_what_is_undefined_says_why():
    generator = torch.Generator().manual_seed(0)
    found = decompose(*(torch.randn(60, 5, generator=generator) for _ in range(2)), method="ridge")
    nothing = [replace(side, general=side.means) for side in (found.teacher, found.student)]
    found = replace(found, teacher=nothing[0], student=nothing[1])
    pair = measure_pair("a", "c", found, torch.arange(60) % 3)
    result = knowledge_result([pair], {"data": "digits"})
    assert np.isnan(pair.numbers["cka"][1]).all()
    assert np.isnan(pair.numbers["teacher_probe"][1]).all()
    told = {(cell["pair"], cell["quantity"]) for cell in result.facts["undefined"]}
    assert told == {(0, "cka, general"), (0, "teacher probe, general"), (0, "student probe, general")}
    assert all("zero for all samples" in cell["reason"] for cell in result.facts["undefined"])
    table = knowledge_table(result)
    missing = table[table.value.isna()]
    assert len(missing) == 3
    assert missing.note.str.contains("zero for all samples|does not vary|same for all").all()
    assert not table.note[table.value.notna()].any()


def test_a_dimension_that_is_a_lower_bound_says_so(monkeypatch):
    monkeypatch.setattr("analyses.knowledge.canonical.FULL_RANK", 10)
    monkeypatch.setattr("analyses.knowledge.canonical.N_LEADING", 4)
    found = decompose(*planted(300, 20, 30, shared=0.5, noise=0.05))
    pair = measure_pair("a", "b", found)
    assert found.dimension == 4
    facts = {
        "teacher": "one",
        "student": "other",
        "method": "ridge",
        "data": "digits",
        "n_samples": 300,
        "n_independent": 300,
    }
    text = knowledge_summary(knowledge_result([pair], facts))
    assert text.endswith(
        "\na and b, dimension: all 4 leading pairs of directions are shared and no more are looked at; there are at "
        "least this many"
    )


def test_errors_name_the_pair(features):
    broken = LayerFeatures({"a": torch.ones(80, 3)}, features.student, features.labels, features.index, {})
    with pytest.raises(AnalysisError, match="teacher layer 'a' and student layer 'c': the teacher's feature is the"):
        decompose_layers(broken, [("a", "c")])


def test_students_are_compared_at_equal_layers(features):
    one, _ = decompose_layers(features, [("a", "c")], probes=False)
    other, _ = decompose_layers(features, [("a", "c")], probes=False, seed=1)
    result = compare(["x", "y"], [one, other])
    assert result.arrays["teacher_general"].shape == (2, 1, 3)
    assert comparison_table(result)["name"].tolist() == ["x", "x", "y", "y"]
    deeper, _ = decompose_layers(features, [("b", "c")], probes=False)
    message = "x and y cannot be compared: their teacher layers are ['a'] and ['b']"
    with pytest.raises(AnalysisError, match=re.escape(message)):
        compare(["x", "y"], [one, deeper])


def test_images_are_those_with_the_largest_specific_part(features):
    found = decompose(features.teacher["a"], features.student["c"])
    result = examples_result(found, features.index, dict(features.facts), n_images=4)
    for row, side in enumerate((found.teacher, found.student)):
        shares = side.by_sample[1]
        order = shares.argsort(descending=True)[:4]
        assert result.arrays["index"][row].tolist() == (order + 5).tolist()
        np.testing.assert_allclose(result.arrays["specific"][row], shares[order])
    with pytest.raises(AnalysisError, match="81 images cannot be picked from 80; give 1 to 80"):
        decompose_layers(features, [("a", "c")], n_images=81)


def test_the_result_keeps_what_each_image_adds(features, tmp_path):
    seen = replace(features, index=torch.arange(80) // 2 + 5, labels=torch.arange(80) // 2 % 3)  # two views of each
    result, _ = decompose_layers(seen, [("a", "c"), ("b", "c")], probes=False, groups=range(80))
    save_result(result, tmp_path / "knowledge.npz", table="")
    arrays = load_result(tmp_path / "knowledge.npz").arrays
    assert arrays["index"].tolist() == seen.index.tolist()
    assert arrays["labels"].tolist() == seen.labels.tolist()
    found = decompose(features.teacher["b"], features.student["c"])
    for who, side in (("teacher", found.teacher), ("student", found.student)):
        both = np.stack([arrays[f"{who}_{part}_by_sample"][1] for part in ("general", "specific")])
        assert both.dtype == np.float32
        np.testing.assert_allclose(both, side.by_sample, rtol=1e-6, atol=1e-7)


def test_groups_of_images_stand_in_a_file_by_their_place_in_the_data_set(features, tmp_path):
    path = tmp_path / "patients.txt"
    names = ["unseen"] * 5 + [f"patient {place // 2}" for place in range(80)]
    path.write_text("\n".join(names))
    groups = groups_of_images(path, features.index)
    expected = decompose_layers(features, [("a", "c")], probes=False, groups=torch.arange(80) // 2)[0]
    found = decompose_layers(features, [("a", "c")], probes=False, groups=groups)[0]
    assert found.facts["n_independent"] == 40
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
    path.write_text("\n".join(names[:84]))
    with pytest.raises(AnalysisError, match="has 84 lines, but there are at least 85 images; give a line for each"):
        groups_of_images(path, features.index)
    assert groups_of_images(path, torch.arange(84)).tolist() == [0] * 5 + [1 + place // 2 for place in range(79)]
    path.write_text("\n".join(["patient", *names[:84]]) + "\n")
    with pytest.raises(AnalysisError, match=r"has 85 lines, but there are 84 images; .*, and none above them"):
        groups_of_images(path, torch.arange(84))
    path.write_text("\n".join([*names[:84], " "]))
    with pytest.raises(AnalysisError, match=r"line 85 of .*patients.txt is blank; give each image a group"):
        groups_of_images(path, features.index)
    with pytest.raises(AnalysisError, match=r"none.txt cannot be read as text: No such file or directory"):
        groups_of_images(tmp_path / "none.txt", features.index)


def test_a_run_by_another_method_has_nothing_that_dropkd_could_reconstruct_with(tmp_path):
    with pytest.raises(AnalysisError, match=r"has no auxiliary.safetensors, as a DropKD run has; give one, or another"):
        load_dropkd(tmp_path)


@pytest.mark.slow
def test_shown_and_stored_features_agree(checkpoints, tmp_path):
    views = open_views({"teacher": str(checkpoints / "teacher.safetensors"), "student": str(checkpoints / "run")})
    shown = shown_features(views, batch_size=100)
    assert shown.facts == {"teacher": "resnet8", "student": "resnet8", "data": "tests.tiny:digits", "reduce": "gap"}
    assert [tuple(x.shape) for x in shown.teacher.values()][-1] == (60, 64)
    from kdprobe.cli.group import run as run_command

    path = tmp_path / "features.h5"
    given = ("--teacher", checkpoints / "teacher.safetensors", "--student", checkpoints / "run")
    run_command("dump", *given, "--out", path, "--quiet", "--device", "cpu")
    stored = stored_features([path])
    assert torch.equal(stored.index, shown.index)
    for role in ("teacher", "student"):
        for layer, feature in getattr(shown, role).items():
            torch.testing.assert_close(getattr(stored, role)[layer].float(), feature, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:an older kdprobe")
def test_files_of_other_samples_or_contents_are_refused(tmp_path):
    values = torch.randn(40, 2, 3, 3)
    write(tmp_path / "one.h5", values)
    write(tmp_path / "moved.h5", values, role="student", start=1)
    write(tmp_path / "grams.h5", values, role="student", content="grams")
    with pytest.raises(StoreError, match="hold different samples or a different order"):
        stored_features([tmp_path / "one.h5", tmp_path / "moved.h5"])
    write(tmp_path / "relabelled.h5", values, role="student", n_classes=3)
    with pytest.raises(StoreError, match="hold samples of different classes"):
        stored_features([tmp_path / "one.h5", tmp_path / "relabelled.h5"])
    with pytest.raises(StoreError, match="holds Gram matrices, but features are needed; dump without --grams"):
        stored_features([tmp_path / "one.h5", tmp_path / "grams.h5"])
    with pytest.raises(StoreError, match="holds only the teacher; give a second file"):
        stored_features([tmp_path / "one.h5"])
    with pytest.raises(StoreError, match="give one feature file or two, not 3"):
        stored_features([tmp_path / "one.h5"] * 3)


def test_dropkd_takes_the_stages_of_its_run(checkpoints):
    method = load_dropkd(checkpoints / "run")
    views = open_views({"teacher": str(checkpoints / "teacher.safetensors"), "student": str(checkpoints / "run")})
    maps, pairs = shown_maps(views, method)
    assert pairs == [("layer3", "layer3")]
    assert maps.teacher["layer3"].shape == (60, 64, 10, 10)
    method.teacher_shapes = None
    with pytest.raises(AnalysisError, match="the run's teacher was None, but resnet8 is given"):
        shown_maps(views, method)
    with pytest.raises(AnalysisError, match="dropkd shows images to both networks and has its own pairs of stages"):
        features_and_pairs(None, None, None, [Path("a.h5")], method="dropkd")
    with pytest.raises(AnalysisError, match="dropkd shows images to both networks and has its own pairs of stages"):
        features_and_pairs("t", "s", None, [], method="dropkd", teacher_layers=("conv1",))


@pytest.mark.slow
def test_command(checkpoints, tmp_path):
    given = ("--teacher", checkpoints / "teacher.safetensors", "--student", checkpoints / "student.safetensors")
    both = (*given, "--student", checkpoints / "run")
    output = run(
        *both, "--images", 3, "--layers", "layer3=layer3", "--quiet", "--device", "cpu", "--out", tmp_path
    ).output
    assert output.count("resnet8 and resnet8 by adjusted, gap features of 60 samples of tests.tiny:digits") == 2
    for name in ("student", "run"):
        result = load_result(tmp_path / name / "knowledge.npz", kind="knowledge")
        assert result.provenance["teacher"]["image_size"] == 40
        assert {"knowledge.png", "knowledge.csv", "examples.png"} <= {p.name for p in (tmp_path / name).iterdir()}
    comparison = load_result(tmp_path / "knowledge-comparison.npz", kind="knowledge-comparison")
    assert comparison.facts["names"] == ["student", "run"]
    np.testing.assert_array_equal(comparison.arrays["teacher_general"][0], comparison.arrays["teacher_general"][1])
    assert (tmp_path / "knowledge-comparison.png").is_file()


@pytest.mark.slow
def test_students_that_cannot_be_compared_leave_nothing(checkpoints, tmp_path, monkeypatch):
    torch.manual_seed(1)
    save(
        create("resnet14", n_classes=10, image_size=32, data="tests.tiny:digits").eval(),
        tmp_path / "deeper.safetensors",
    )
    students = ("--student", checkpoints / "student.safetensors", "--student", tmp_path / "deeper.safetensors")
    monkeypatch.setattr("analyses.knowledge.result.compare", None)  # they are refused before
    with pytest.raises(
        AnalysisError,
        match=r"students are compared at equal layers, but .*deeper.safetensors and the one before it have different",
    ):
        run(
            *("--teacher", checkpoints / "teacher.safetensors", *students, "--student-layers", "layer3*"),
            *("--no-probes", "--quiet", "--device", "cpu", "--out", tmp_path / "out"),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:an older kdprobe")
def test_stored_layers_are_read_one_at_a_time_in_single_precision(tmp_path):
    values = torch.randn(70, 2, 3, 3) + 1000
    write(tmp_path / "one.h5", values)
    write(tmp_path / "other.h5", values, role="student")
    stored = stored_features([tmp_path / "one.h5", tmp_path / "other.h5"], reduce="gap")
    assert list(stored.teacher) == ["layer"]
    assert len(stored.student) == 1
    with pytest.raises(KeyError, match="lair"):
        stored.teacher["lair"]
    with FeatureStore.open(tmp_path / "one.h5") as store:
        expected = store.read("teacher", "layer").float().mean((2, 3))
    assert stored.teacher["layer"].dtype is torch.float32
    torch.testing.assert_close(stored.teacher["layer"], expected, rtol=1e-6, atol=0)
    (tmp_path / "one.h5").unlink()
    with pytest.raises(StoreError, match="there is no feature file"):
        stored.teacher["layer"]


@pytest.mark.slow
def test_command_with_dropkd(checkpoints, tmp_path):
    given = ("--teacher", checkpoints / "teacher.safetensors", "--student", checkpoints / "run")
    run(*given, "--method", "dropkd", "--quiet", "--device", "cpu", "--out", tmp_path, "--no-probes")
    result = load_result(tmp_path / "knowledge.npz", kind="knowledge")
    assert result.arrays["teacher_by_rate"].shape == (1, len(result.arrays["rates"]), 3)
    assert np.isnan(result.arrays["dimension"]).all()
    assert (pd.read_csv(tmp_path / "knowledge.csv").quantity == "share at rate 0.5").sum() == 2


@pytest.mark.parametrize(
    "arguments",
    [(), ("--teacher", "a"), ("--features", "a.h5", "--student", "b"), ("--features", "a.h5", "--data", "d")],
)
def test_command_needs_networks_or_dumps(arguments):
    with pytest.raises(ConfigError, match=r"give --teacher and --student, or --features|--features takes no --"):
        run(*arguments)
