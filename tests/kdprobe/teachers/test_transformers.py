"""Networks of transformers teach: what methods read of them is what they give, described by their image size alone."""

import os

import pytest
import torch

import kdprobe
from analyses.cka.networks import cka
from kdprobe.distillers.rkd import angle_loss, distance_loss
from kdprobe.features import FeatureStore
from kdprobe.models import create, save
from kdprobe.models.creation import described
from kdprobe.models.stages import Stages
from tests import transformers_networks as hf

IMAGES = torch.rand(8, 3, hf.SIZE, hf.SIZE, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(8) % 5


def teacher_of(name):
    return kdprobe.describe(hf.made(name), image_size=hf.SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def student_of(image_size=hf.SIZE):
    torch.manual_seed(1)
    return create("resnet8", n_classes=5, image_size=image_size)


def looked_at(teacher, images):
    """What transformers itself says that the network gives."""
    with torch.no_grad():
        return teacher(pixel_values=described(teacher).prepare(images), output_hidden_states=True)


@pytest.mark.parametrize("name", hf.STAGES)
def test_maps_and_pooled_features_are_those_of_transformers(name):
    teacher = teacher_of(name)
    own = looked_at(teacher, IMAGES)
    with torch.no_grad():
        found = Stages(teacher, needs=["maps", "pooled"])(described(teacher).prepare(IMAGES))
    hidden = own.hidden_states[1:]
    assert len(found.maps) == len(hidden)
    for stage, other in zip(found.maps, hidden, strict=True):
        in_rows = other[:, hf.N_PREFIX[name] :].mT.unflatten(2, (4, 4)) if name in hf.N_PREFIX else other
        assert torch.equal(stage, in_rows)
    if name.endswith("ImageClassification"):
        assert torch.equal(found.logits, own.logits)
        torch.testing.assert_close(teacher.classifier(found.pooled), own.logits)
    else:
        assert found.logits.shape == (8, 0)
        assert torch.equal(found.pooled, own.pooler_output)


@pytest.mark.slow
@pytest.mark.parametrize("size", [hf.SIZE, 24])
@pytest.mark.parametrize("name", hf.STAGES)
def test_rkd_learns_from_their_pooled_features(name, size):
    teacher, student = teacher_of(name), student_of(size)
    images = torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(2))
    distillation = kdprobe.Distillation(student, teacher, "rkd", images=images)
    out = distillation(images, CLASSES, epoch=0)
    with torch.no_grad():
        theirs = Stages(teacher, needs=["pooled"])(described(teacher).prepare(images)).pooled
        ours = Stages(student, needs=["pooled"])(described(student).prepare(images)).pooled
    torch.testing.assert_close(out.terms["distance"].detach(), 25 * distance_loss(ours, theirs))
    torch.testing.assert_close(out.terms["angle"].detach(), 50 * angle_loss(ours, theirs))
    out.loss.backward()
    assert student.conv1.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("name", hf.STAGES)
def test_dropkd_learns_from_their_maps(name):
    teacher, student = teacher_of(name), student_of()
    torch.manual_seed(0)
    distillation = kdprobe.Distillation(student, teacher, "dropkd", images=IMAGES, dim=16)
    before = [parameter.clone() for parameter in teacher.parameters()]
    optimizer = torch.optim.Adam(distillation.parameters(), lr=0.01)
    told = []
    for step in range(12):
        out = distillation(IMAGES, CLASSES, epoch=step / 12)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        told.append({name: float(term.detach()) for name, term in out.terms.items()})
    assert {"feature", "reconstruction_teacher", "reconstruction_student"} <= told[0].keys()
    assert told[-1]["classifier_teacher"] < 0.9 * told[0]["classifier_teacher"]
    assert told[-1]["feature"] > 0
    assert all(map(torch.equal, before, teacher.parameters()))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rkd", "dropkd"])
def test_a_headless_network_from_a_checkpoint_teaches_in_a_training_and_is_looked_into(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(create("tests.transformers_networks:clip_vision", n_classes=0, image_size=hf.SIZE), tmp_path / "t.safetensors")
    here = ["--trust", "tests.transformers_networks", "--device", "cpu", "--quiet"]
    short = ["--set", "training.epochs=1", "--set", "data.per_class=20"]
    words = ["digits/resnet8-dropkd" if method == "dropkd" else "digits/resnet8-kd", "--method", method, *short, *here]
    assert kdprobe.main(["train", *words, "--teacher", "t.safetensors", "--out", "run"]) == 0
    pair = ["--teacher", "t.safetensors", "--student", "run", *here]
    assert kdprobe.main(["cka", *pair, "--reduce", "gap"]) == 0
    assert kdprobe.main(["decompose", *pair, *(["--method", "dropkd"] if method == "dropkd" else [])]) == 0
    assert kdprobe.main(["dump", *pair, "--reduce", "gap", "--out", "f.h5"]) == 0
    assert kdprobe.main(["cka", "--features", "f.h5", "--out", "stored", "--quiet"]) == 0
    with FeatureStore.open("f.h5") as store:
        assert store.stages("teacher") == hf.STAGES["CLIPVisionModel"]
    assert {"cka", "knowledge", "stored", "run"} <= set(os.listdir())


def test_a_pair_of_two_image_sizes_is_compared_on_one_split():
    from kdprobe.data import Split

    split = Split((torch.rand(12, 3, 24, 24) * 255).byte(), torch.arange(12) % 5, 24)
    teacher, student = teacher_of("Dinov2Model"), student_of(24)
    found = cka(teacher, student, split, reduce="gap")
    assert found.matrix.shape == (3, 4)
    assert found.facts["n_samples"] == 12
