"""What networks make of single images: answers as `kdprobe evaluate` has them, and pictures of the right ones."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from analyses.commands.images import images
from analyses.evaluation.accuracy import evaluate
from analyses.evaluation.predictions import judge
from analyses.images import images_result
from kdprobe.errors import AnalysisError, ConfigError
from kdprobe.models import create, save
from kdprobe.results import load_result
from tests import tiny


@pytest.fixture
def networks(tmp_path, monkeypatch):
    data = tiny.digits(8)
    monkeypatch.setattr("analyses.evaluation.predictions.load_judged", lambda *_, **__: data)
    monkeypatch.setattr("kdprobe.cli.saving.run", lambda *_: None)
    for seed, name in enumerate(("teacher", "student")):
        torch.manual_seed(seed)
        save(create("resnet8", n_classes=10, image_size=8, data="digits"), tmp_path / f"{name}.safetensors")
    return tmp_path


def paths(networks):
    return str(networks / "teacher.safetensors"), [str(networks / "student.safetensors")]


def test_answers_are_those_of_an_evaluation_and_margins_say_whether_they_are_right(networks):
    teacher, students = paths(networks)
    found, judged = images_result(teacher, students), evaluate(judge([teacher, *students]))
    for key in ("predictions", "targets"):
        np.testing.assert_array_equal(found.arrays[key], judged.arrays[key])
    np.testing.assert_allclose(found.arrays["confidences"], judged.arrays["confidences"], rtol=1e-5)
    right = found.arrays["predictions"] == found.arrays["targets"]
    np.testing.assert_array_equal(found.arrays["margins"] > 0, right)
    np.testing.assert_array_equal(found.arrays["margins"] <= found.arrays["confidences"], True)
    assert found.facts["roles"] == ["teacher", "student"]


def test_thumbnails_are_the_images_that_they_say_drawn_by_the_seed(networks):
    teacher, students = paths(networks)
    pictures = tiny.digits(8).test.images.permute(0, 2, 3, 1).numpy()
    one, same, other = (images_result(teacher, students, thumbnails=5, seed=seed) for seed in (0, 0, 1))
    assert one.arrays["thumbnails"].shape == (5, 8, 8, 3)
    np.testing.assert_array_equal(one.arrays["thumbnails"], pictures[one.arrays["shown"]])
    np.testing.assert_array_equal(one.arrays["shown"], same.arrays["shown"])
    assert set(one.arrays["shown"]) != set(other.arrays["shown"])
    assert images_result(teacher, students, side=4).arrays["thumbnails"].shape == (tiny.N_TEST, 4, 4, 3)


def test_the_command_writes_a_row_for_each_image(networks):
    teacher, students = paths(networks)
    words = ["--teacher", teacher, "--student", *students, "--out", str(networks / "out"), "--device", "cpu", "--quiet"]
    run = CliRunner().invoke(images, [*words, "--thumbnails", "7"], catch_exceptions=False, standalone_mode=False)
    assert f"{tiny.N_TEST} images of digits, 7 of them with a picture" in run.output
    result, table = (
        load_result(networks / "out" / "images.npz", kind="images"),
        pd.read_csv(networks / "out" / "images.csv"),
    )
    np.testing.assert_allclose(table["x: student"], result.arrays["coordinates"][1, :, 0])
    assert table["label"].tolist() == result.arrays["targets"].tolist()


def test_what_is_missing_is_said(networks, monkeypatch):
    with pytest.raises(ConfigError, match="images needs a teacher; give it with --teacher"):
        words = ["--student", str(networks / "student.safetensors")]
        CliRunner().invoke(images, words, catch_exceptions=False, standalone_mode=False)
    teacher, students = paths(networks)
    broken = SimpleNamespace(pooled=torch.full((1, 2), torch.nan), logits=torch.zeros(1, 10))
    monkeypatch.setattr("analyses.images.gathering.Stages", lambda *_, **__: lambda images: broken)
    with pytest.raises(AnalysisError, match=r"the features of .* are NaN or infinite for images of digits"):
        images_result(teacher, students)
