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
from kdprobe.errors import OutputError, ResultError
from kdprobe.results import save_result
from tests.saved_results import (
    cka_result,
    evaluation_result,
    examples_result,
    fidelity_result,
    images_result,
    of_the_same_images,
)


def test_results_of_the_same_images_stand_side_by_side():
    images = images_result()
    images.facts["paths"] = [f"{place}.png" for place in range(60)]
    evaluation = of_the_same_images(evaluation_result(("at",), 3, 60), images)
    fidelity = of_the_same_images(fidelity_result(), images)
    specific = examples_result(4)
    specific.arrays["index"] = np.array([[3, 1, 4, 15], [9, 2, 6, 5]])
    made = image_table([specific, images, evaluation, fidelity, cka_result()])
    assert list(made.columns[:3]) == ["index", "path", "label"]
    assert {"prediction: vit", "margin: kd", "x: plain", "confidence: at", "prediction: dropkd-seed0"} <= set(made)
    classes = np.array(images.facts["classes"])
    assert made["prediction: kd"].tolist() == classes[images.arrays["predictions"][2]].tolist()
    assert made["prediction: at"].tolist() == classes[evaluation.arrays["predictions"][0]].tolist()
    column = made["specific to blocks.3 of vit_tiny"]
    assert column[[3, 1, 4, 15]].tolist() == specific.arrays["specific"][0].tolist()
    assert column[[9, 2, 6, 5]].tolist() == specific.arrays["other"][1].tolist()
    assert column.notna().sum() == 8


def test_what_is_not_of_the_same_images_is_refused():
    with pytest.raises(ResultError, match="none of these results tells of single images; give one of kdprobe images"):
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
    save_result(images, tmp_path / "results" / "images.npz", table="")
    made = image_table([images])
    assert "60 images, 17 columns" in run(tmp_path / "results", "--out", tmp_path / "i.parquet").output
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "i.parquet"), made)
    arrow = pyarrow.parquet.read_table(tmp_path / "i.parquet")
    assert arrow.column_names == list(made)
    assert arrow["label"].to_pylist() == made["label"].tolist()
    run(tmp_path / "results" / "images.npz", "--out", tmp_path / "i.csv", "--quiet")
    read = pd.read_csv(tmp_path / "i.csv")
    assert set(read["label"]) == {"cat", "'=1+1", "näh, maschine"}
    np.testing.assert_array_equal(read["margin: kd"], made["margin: kd"])


def test_tables_are_refused_in_one_line(tmp_path, monkeypatch):
    save_result(images_result(), tmp_path / "images.npz", table="")
    with pytest.raises(OutputError, match=r"a table's name must end in \.parquet or \.csv, but .*i\.xlsx does not"):
        run(tmp_path, "--out", tmp_path / "i.xlsx")
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
