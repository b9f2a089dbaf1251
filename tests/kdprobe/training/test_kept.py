"""A frozen backbone's features are computed once where that changes nothing, and each time where it would."""

import pytest
import torch
from torch import nn

from kdprobe.data import training_batches
from kdprobe.data.loaders import STILL
from kdprobe.models.checkpoint import read_tensors
from kdprobe.models.stages import Stages
from kdprobe.runs.folder import RunFolder
from kdprobe.training import loop, train
from tests.kdprobe.training.test_loop import Stopped, config, outcome, stop_after
from tests.tiny import digits

STANDING = ("data.augment.crop=none", "data.augment.flip=false", "training.precision=fp32", "training.epochs=3")
HEAD_ALONE = (*STANDING, "training.freeze=['*', '!fc']")
VIT = ("model.args={patch_size: 8, embed_dim: 24, depth: 2, num_heads: 2}", *STANDING, "training.freeze=['*', '!head']")


@pytest.fixture
def passes(monkeypatch):
    """The number of images that each pass through a whole network takes, in training and in evaluation."""
    seen = []
    forward = Stages.forward
    monkeypatch.setattr(Stages, "forward", lambda self, images: (seen.append(len(images)), forward(self, images))[1])
    return seen


def run(recipe, assignments, out, *, kept=True, **options):
    with pytest.MonkeyPatch.context() as patch:
        if not kept:
            patch.setattr(loop, "keep", lambda *_: None)
        return train(config(recipe, *assignments), out, device="cpu", quiet=True, **options)


@pytest.mark.parametrize(
    ("recipe", "assignments"),
    [
        ("digits/resnet8", HEAD_ALONE),
        ("digits/resnet8", (*HEAD_ALONE, "training.ema_decay=0.9", "training.accumulate=2", "data.augment.repeats=2")),
        ("digits/vit-teacher", VIT),
        pytest.param("digits/vit-teacher", (*VIT, "training.precision=bf16"), marks=pytest.mark.slow),
    ],
)
def test_a_head_on_kept_features_is_trained_as_on_images(recipe, assignments, tmp_path, passes):
    run(recipe, assignments, tmp_path / "kept")
    n_kept = sum(passes)
    passes.clear()
    run(recipe, assignments, tmp_path / "each", kept=False)
    assert n_kept < 200  # 96 and 60 images once, and a rehearsal; else 288 and 180
    assert sum(passes) > 288
    one, other = (read_tensors(tmp_path / name / "last.safetensors")[1] for name in ("kept", "each"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-5, atol=1e-6)
    lines = [RunFolder(tmp_path / name).metrics() for name in ("kept", "each")]
    for mine, theirs in zip(*lines, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert (mine["accuracy"], mine["images"]) == (theirs["accuracy"], theirs["images"])
    assert lines[0][-1]["loss"] != lines[0][0]["loss"]


def test_it_is_resumed_to_the_bit_and_says_so(tmp_path, monkeypatch, capsys):
    train(config("digits/resnet8", *HEAD_ALONE), tmp_path / "whole", device="cpu")
    assert "what enters fc is computed once, as everything before it is frozen" in capsys.readouterr().err
    whole = RunFolder(tmp_path / "whole")
    assert whole.result()["seconds"] > sum(line["seconds"] for line in whole.metrics()), "computing it took time too"
    stop_after(8, monkeypatch)
    with pytest.raises(Stopped):
        run("digits/resnet8", HEAD_ALONE, tmp_path / "run")
    monkeypatch.undo()
    run("digits/resnet8", HEAD_ALONE, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


class Dropping(nn.Module):
    """A dropout that freezing cannot stop, as it is none of the network's modules."""

    def __init__(self, *, num_classes, image_size):
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, num_classes)

    def forward(self, images):
        pooled = self.body(images).relu().mean((2, 3))
        return self.fc(nn.functional.dropout(pooled, 0.5, training=self.training))


class Scaling(Dropping):
    """The logits are not what the classifier gives."""

    def forward(self, images):
        return 2 * self.fc(self.body(images).relu().mean((2, 3)))


OWN = (*STANDING, "model.args={}", "training.epochs=1", "training.freeze=['body']")


@pytest.mark.parametrize(
    ("assignments", "why"),
    [
        ((*HEAD_ALONE, "data.augment.flip=true"), "images vary"),
        ((*HEAD_ALONE, "training.mixing.mixup=0.2"), "images are mixed"),
        ((*HEAD_ALONE, "training.freeze=['*', '!layer3*', '!fc']"), "more is trained"),
        ((*OWN, f"model.name={__name__}:Dropping"), "a dropout before the classifier"),
        ((*OWN, f"model.name={__name__}:Scaling"), "something after the classifier"),
    ],
)
def test_features_that_are_not_the_same_are_computed_each_time(assignments, why, tmp_path, passes):
    run("digits/resnet8", (*assignments, "training.epochs=2"), tmp_path / "run")
    assert sum(passes) > 192, why


@pytest.mark.slow
def test_with_a_teacher_only_the_teacher_sees_images(tmp_path, passes):
    run("digits/resnet8", ("training.epochs=1",), tmp_path / "teacher")
    passes.clear()
    method = (f"teacher={tmp_path / 'teacher'}", "method={name: kd}")
    run("digits/resnet8", (*HEAD_ALONE, *method), tmp_path / "kept")
    assert 288 < sum(passes) < 2 * 288, "besides, made-up images show what the networks are"
    run("digits/resnet8", (*HEAD_ALONE, *method), tmp_path / "each", kept=False)
    one, other = (RunFolder(tmp_path / name).metrics()[-1] for name in ("kept", "each"))
    assert one["terms"] == pytest.approx(other["terms"], rel=1e-5)


def test_batches_without_pixels_are_the_same_batches():
    split = digits().train
    options = {"batch_size": 50, "augment": STILL, "seed": 3, "epoch": 2, "start": 1}
    with_, without = (list(training_batches(split, **options, pixels=pixels)) for pixels in (True, False))
    assert [batch.images.shape[1:] for batch in without] == [(3, 0, 0)] * len(with_)
    for one, other in zip(with_, without, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.labels, other.labels)
