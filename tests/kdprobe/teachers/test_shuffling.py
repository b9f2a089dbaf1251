"""A teacher whose answers are those of other images."""

import json
from dataclasses import fields

import pytest
import torch

from kdprobe import main
from kdprobe.models import create, save
from kdprobe.models.stages import Features
from kdprobe.runs import RunFolder
from kdprobe.runs.compare import gather, group
from kdprobe.teachers.shuffling import answers_of_others, next_on_circle


@pytest.mark.parametrize("n_images", [2, 3, 64])
def test_each_image_gets_anothers_and_each_is_given_once(n_images):
    found = next_on_circle(n_images, 0, 3, 1)
    assert sorted(found.tolist()) == list(range(n_images))
    assert not (found == torch.arange(n_images)).any()
    place, seen = 0, set()
    while place not in seen:
        seen.add(place)
        place = int(found[place])
    assert len(seen) == n_images  # one circle
    assert found.equal(next_on_circle(n_images, 0, 3, 1))
    assert n_images < 9 or not found.equal(next_on_circle(n_images, 0, 3, 2))
    assert next_on_circle(1, 0).tolist() == [0]


def test_all_that_a_method_may_read_moves_together():
    others, views = torch.tensor([2, 0, 1]), 2
    number = torch.arange(6.0)
    features = Features(
        logits=number[:, None] + torch.zeros(6, 4),
        pooled=number[:, None],
        maps=(number.view(6, 1, 1, 1), 10 * number.view(6, 1, 1, 1)),
        preacts=(number.view(6, 1, 1, 1),),
        tokens=number.view(6, 1, 1),
        qkv=number.view(1, 6, 1, 1, 1).repeat(3, 1, 1, 1, 1),
        n_prefix=1,
    )
    found = answers_of_others(features, others, n_views=views)
    expected = [2.0, 0, 1, 5, 3, 4]  # each view of an image gets the same view of the other
    assert found.logits[:, 0].tolist() == expected
    for field in fields(Features):
        before, after = getattr(features, field.name), getattr(found, field.name)
        for one, other in zip(
            *((part if isinstance(part, tuple) else (part,)) for part in (before, after)), strict=True
        ):
            if isinstance(one, torch.Tensor):
                moved = other[0] if field.name == "qkv" else other
                scale = 10 if float(one.max()) == 50 else 1
                assert moved.reshape(6, -1)[:, 0].tolist() == [scale * value for value in expected], field.name
    bare = answers_of_others(Features(torch.zeros(3, 2)), others)
    assert bare.pooled is bare.tokens is bare.qkv is None


SMALL = [
    "training.epochs=1",
    "data.image_size=8",
    "data.per_class=4",
    "training.batch_size=8",
    "training.precision=fp32",
]


def train(out, *given):
    sets = [word for value in SMALL for word in ("--set", value)]
    assert main(["train", "digits/resnet8", *sets, *given, "--out", str(out), "--device", "cpu", "--quiet"]) == 0
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_training_sees_the_answers_of_others(tmp_path):
    train(tmp_path / "teacher")
    taught = ["--method", "kd", "--teacher", str(tmp_path / "teacher")]
    as_it_is = train(tmp_path / "kd", *taught)
    shuffled = train(tmp_path / "shuffled", *taught, "--set", "teacher.shuffle=true")
    again = train(tmp_path / "again", *taught, "--set", "teacher.shuffle=true")
    assert shuffled[0]["terms"]["kd"] > as_it_is[0]["terms"]["kd"]
    assert shuffled[0]["loss"] == again[0]["loss"]
    assert RunFolder(tmp_path / "shuffled").values()["teacher_facts"]["shuffle"] is True
    groups = group(gather([tmp_path / "kd", tmp_path / "shuffled"]))
    assert [one.name for one in groups] == ["kd", "kd (shuffled)"]


def test_an_image_alone_in_its_batch_has_no_other_one(tmp_path, capsys):
    save(create("resnet8", n_classes=10, image_size=8), tmp_path / "t.safetensors")
    given = ["--method", "kd", "--teacher", str(tmp_path / "t.safetensors"), "--out", str(tmp_path / "run")]
    sets = [word for value in (*SMALL, "training.batch_size=1", "teacher.shuffle=true") for word in ("--set", value)]
    assert main(["train", "digits/resnet8", *given, *sets, "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "batches have 1 images per process; set training.batch_size to 2 or more" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_it_needs_a_teacher(capsys):
    assert main(["train", "digits/resnet8", "--set", "teacher.shuffle=true"]) == 2
    assert "has no use for a teacher, but facts of one (teacher.…) was given" in capsys.readouterr().err
