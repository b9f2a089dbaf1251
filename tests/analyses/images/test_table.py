"""`kdprobe table`: a row for each image, which other tools open as it is."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from analyses.commands.images import table as command
from analyses.images import image_table
from kdprobe.errors import ConfigError, OutputError, ResultError
from kdprobe.results import save_result
from tests.saved_results import (
    cka_result,
    evaluation_result,
    examples_result,
    fidelity_result,
    images_result,
    knowledge_result,
    of_the_same_images,
)


def test_results_of_the_same_images_stand_side_by_side():
    images = images_result()
    images.facts["paths"] = [f"{place}.png" for place in range(60)]
    evaluation = of_the_same_images(evaluation_result(("at",), 3, 60), images)
    fidelity = of_the_same_images(fidelity_result(), images)
    made = image_table([examples_result(4), images, evaluation, fidelity, cka_result()])
    assert list(made.columns[:3]) == ["index", "path", "label"]
    assert {"prediction: vit", "margin: kd", "x: plain", "confidence: at", "prediction: dropkd-seed0"} <= set(made)
    classes = np.array(images.facts["classes"])
    assert made["prediction: kd"].tolist() == classes[images.arrays["predictions"][2]].tolist()
    assert made["prediction: at"].tolist() == classes[evaluation.arrays["predictions"][0]].tolist()


def knowledge_of(images, *, samples=60, **options):
    """A decomposition of some of the images."""
    found = knowledge_result(samples=samples, **options)
    return replace(found, arrays=found.arrays | {"labels": images.arrays["targets"][found.arrays["index"]]})


def test_each_image_has_its_general_and_its_specific_share():
    images = images_result()
    images.provenance["models"][2]["sha256"] = "2" * 64  # kd
    found = knowledge_of(images, samples=40, name="resnet8")
    index = np.repeat([50, *range(19)], 2)  # two views of each of 20 images
    labels = images.arrays["targets"][index]
    origin = found.provenance | {"student": {"sha256": "2" * 64}}
    found = replace(found, arrays=found.arrays | {"index": index, "labels": labels}, provenance=origin)
    made = image_table([found, images])
    names = "blocks.1 of vit_tiny", "layer2 of kd"
    for who, (own, other) in {"teacher": names, "student": names[::-1]}.items():
        for part in ("general", "specific"):
            column = made[f"{part} share of {own}, beside {other}"]
            views = found.arrays[f"{who}_{part}_by_sample"][1].astype(np.float64).reshape(20, 2)
            np.testing.assert_allclose(column[[50, *range(19)]], views.mean(1), rtol=1e-12)
            assert column.notna().sum() == 20
    assert len([name for name in made if " share of " in name]) == 3 * 4
    pd.testing.assert_frame_equal(image_table([found, found, images]), made)
    assert set(image_table([images, knowledge_result()])) == set(image_table([images]))  # says nothing of images
    elsewhere = replace(found, facts=found.facts | {"data": "cifar10:x"})
    assert set(image_table([images, elsewhere])) == set(image_table([images]))


def test_decompositions_of_other_images_or_of_networks_of_one_name_are_refused():
    images = images_result()
    other = knowledge_result(samples=60)
    with pytest.raises(ResultError, match="the decomposition of vit_tiny and resnet8 is of other images of digits, or"):
        image_table([images, other])
    more = knowledge_result(samples=61)
    with pytest.raises(ResultError, match="is of other images of digits, or of the same in another order; give that"):
        image_table([images, more])
    one, second = knowledge_of(images), knowledge_of(images)
    second.arrays["student_specific_by_sample"] = second.arrays["student_specific_by_sample"] + 1
    column = "'specific share of layer1 of resnet8, beside blocks.0 of vit_tiny'; give one of them"
    with pytest.raises(ResultError, match=f"two results say different things in the column {column}"):
        image_table([images, one, second])


def test_one_name_of_two_networks_is_refused():
    images = images_result()
    evaluation = of_the_same_images(evaluation_result(("kd",), 3, 60), images)
    assert not np.array_equal(evaluation.arrays["predictions"][0], images.arrays["predictions"][2])
    with pytest.raises(ResultError, match=r"two results call different networks 'kd'; give results of one command"):
        image_table([images, evaluation])
    images.provenance["models"][2]["sha256"], evaluation.provenance["models"][0]["sha256"] = "2" * 64, "3" * 64
    evaluation.arrays["predictions"][0] = images.arrays["predictions"][2]
    with pytest.raises(ResultError, match=r"two results call different networks 'kd'"):
        image_table([images, evaluation])
    evaluation.provenance["models"][0]["sha256"] = "2" * 64
    assert "prediction: kd" in image_table([images, evaluation])


def test_what_is_not_of_the_same_images_is_refused():
    with pytest.raises(ResultError, match="none of these results tells the answers for each image; give one"):
        image_table([cka_result(), examples_result()])
    one, other = images_result(), images_result(n_images=61)
    with pytest.raises(ResultError, match=r"the results are of different images: digits \(60\) and digits \(61\)"):
        image_table([one, other])
    with pytest.raises(ResultError, match=r"the results are of different images: digits .* and cifar10:x"):
        image_table([one, replace(one, facts=one.facts | {"data": "cifar10:x"})])


def run(*words):
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)


def test_parquet_and_csv_open_as_they_are(tmp_path):
    images = images_result()
    images.facts["classes"] = ["cat", "=1+1", "näh, maschine"]
    knowledge = knowledge_of(images)
    save_result(images, tmp_path / "results" / "images.npz", table="")
    save_result(knowledge, tmp_path / "results" / "knowledge.npz", table="")
    made = image_table([images, knowledge])
    assert "60 images, 29 columns" in run(tmp_path / "results", "--out", tmp_path / "i.parquet").output
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "i.parquet"), made)
    arrow = pyarrow.parquet.read_table(tmp_path / "i.parquet")
    assert arrow.column_names == list(made)
    assert arrow["label"].to_pylist() == made["label"].tolist()
    run(tmp_path / "results", "--out", tmp_path / "i.csv", "--quiet")
    read = pd.read_csv(tmp_path / "i.csv")
    assert set(read["label"]) == {"cat", "'=1+1", "näh, maschine"}
    np.testing.assert_array_equal(read["margin: kd"], made["margin: kd"])
    share = "general share of blocks.0 of vit_tiny, beside layer1 of resnet8"
    assert arrow[share].to_pylist() == made[share].tolist() == knowledge.arrays["teacher_general_by_sample"][0].tolist()


def test_tables_are_refused_in_one_line(tmp_path, monkeypatch):
    save_result(images_result(), tmp_path / "images.npz", table="")
    with pytest.raises(OutputError, match=r"a table's name must end in \.parquet or \.csv, but .*i\.xlsx does not"):
        run(tmp_path, "--out", tmp_path / "i.xlsx")
    with pytest.raises(ConfigError, match=r"a \.TEX table is made of one comparison of methods, but images is given"):
        run(tmp_path, "--out", tmp_path / "i.TEX")
    monkeypatch.setattr("analyses.images.writing.find_spec", lambda name: None)
    with pytest.raises(
        OutputError, match=r"needs the package pyarrow; install it with pip install 'kdprobe\[parquet\]'"
    ):
        run(tmp_path, "--out", tmp_path / "i.parquet")
    assert not (tmp_path / "i.parquet").exists()
    (tmp_path / "i.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"i\.csv already exists"):
        run(tmp_path, "--out", tmp_path / "i.csv")
    assert (tmp_path / "i.csv").read_text() == "mine"
    run(tmp_path, "--out", tmp_path / "i.csv", "--overwrite")
    assert "umap" not in sys.modules
