"""CKA, decomposition, similarity, dumps and predictions of networks of one's own, on loaders of one's own."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from analyses.cka.networks import cka
from analyses.cka.stored import files_cka
from analyses.evaluation.predictions import predict
from analyses.knowledge.layers import decompose_layers
from analyses.paired_features import loader_features, stored_features
from analyses.similarity.result import files_similarity, layers_similarity
from kdprobe.errors import AnalysisError, ModelError, Undefined
from kdprobe.features import Dump, FeatureStore, write_dump
from kdprobe.models.creation import create, model_info
from kdprobe.models.identity import weights_sha256
from tests import transformers_networks as hf

N = 40
IMAGES = torch.rand(N, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(N) % 5
PROCESSED = [
    {"pixel_values": images, "labels": classes}
    for images, classes in zip(IMAGES.split(10), CLASSES.split(10), strict=True)
]


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(1)
    return create("resnet8", n_classes=5, image_size=32)


@pytest.mark.slow
@pytest.mark.parametrize("name", hf.STAGES)
def test_cka_of_transformers_networks(name, student):
    teacher = hf.made(name)
    found = cka(teacher, student, PROCESSED, reduce="gap")
    assert found.teacher_layers == hf.STAGES[name]
    assert found.facts["teacher"] == name
    same = cka(teacher, student, [batch["pixel_values"] for batch in PROCESSED], reduce="gap")
    np.testing.assert_array_equal(found.matrix, same.matrix)
    own = cka(teacher, teacher, PROCESSED, reduce="gap")
    assert np.allclose(np.diag(own.matrix), 1)


@pytest.mark.parametrize("name", hf.STAGES)
def test_decomposition_and_similarity_of_transformers_networks(name, student):
    teacher = hf.made(name)
    features = loader_features(teacher, student, PROCESSED, data="images")
    assert list(features.teacher) == hf.STAGES[name]
    assert torch.equal(features.labels, CLASSES)
    knowledge, _ = decompose_layers(features, probes=False)
    assert knowledge.facts["teacher"] == name
    assert knowledge.facts["n_samples"] == N
    assert np.isfinite(knowledge.arrays["teacher_general"]).all()
    found = layers_similarity(features, "rsa")
    assert found.arrays["matrix"].shape == (len(hf.STAGES[name]), 4)
    assert found.facts["reduce"] == "gap"


@pytest.mark.filterwarnings("ignore:an older kdprobe")
def test_a_dump_of_a_loader_holds_what_the_networks_give(student, tmp_path):
    teacher = hf.made("CLIPVisionModel")
    dump = Dump.over({"teacher": teacher, "student": student}, PROCESSED, reduce="gap", data="images")
    write_dump(dump, tmp_path / "both.h5")
    taken = loader_features(teacher, student, PROCESSED)
    with FeatureStore.open(tmp_path / "both.h5") as store:
        assert (store.n_samples, store.batch_size, store.data, store.reduce) == (N, 10, "images", "gap")
        assert torch.equal(store.labels, CLASSES)
        assert store.stages("teacher") == hf.STAGES["CLIPVisionModel"]
        assert store.network("teacher").sha256 == weights_sha256(teacher)
        assert store.network("teacher").preprocessing == {}
        for role in ("teacher", "student"):
            for layer, feature in getattr(taken, role).items():
                assert torch.equal(store.read(role, layer), feature)
    direct = cka(teacher, student, PROCESSED, reduce="gap")
    np.testing.assert_allclose(files_cka([tmp_path / "both.h5"]).matrix, direct.matrix, rtol=1e-10)
    one, other = files_similarity([tmp_path / "both.h5"], "svcca"), layers_similarity(taken, "svcca")
    np.testing.assert_allclose(one.arrays["matrix"], other.arrays["matrix"])
    for role, model in {"teacher": teacher, "student": student}.items():
        write_dump(Dump.over({role: model}, PROCESSED, reduce="gap"), tmp_path / f"{role}.h5")
    paths = [tmp_path / "teacher.h5", tmp_path / "student.h5"]
    stored = stored_features(paths)
    assert torch.equal(stored.teacher["encoder.layers.0"], taken.teacher["encoder.layers.0"])


def test_a_dump_of_a_loader_is_continued_after_its_last_minibatch(student, tmp_path):
    stopped = {"at": 2}

    class Stopping(list):
        def __iter__(self):
            for number, batch in enumerate(super().__iter__()):
                if number == stopped["at"]:
                    raise ZeroDivisionError
                yield batch

    dump = Dump.over({"student": student}, PROCESSED, reduce="gap")
    broken = Dump.over({"student": student}, Stopping(PROCESSED[:0]) or PROCESSED, reduce="gap")
    object.__setattr__(broken.minibatches, "loader", Stopping(PROCESSED))
    with pytest.raises(ZeroDivisionError):
        write_dump(broken, tmp_path / "f.h5")
    told = []
    write_dump(dump, tmp_path / "f.h5", resume=True, say=told.append)
    assert told[0] == "continues after 20 samples"
    write_dump(dump, tmp_path / "whole.h5", part_size=10)
    with FeatureStore.open(tmp_path / "f.h5") as store, FeatureStore.open(tmp_path / "whole.h5") as whole:
        assert torch.equal(store.index, whole.index)
        assert torch.equal(store.read("student", "layer3"), whole.read("student", "layer3"))
        assert store.stages("student") == whole.stages("student") == ["act1", "layer1", "layer2", "layer3"]


class Clips(nn.Module):
    """Two inputs: frames, and how bright each clip is."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 6, 3, 2)
        self.head = nn.Linear(6, 5)

    def forward(self, frames, brightness):
        return {"scores": self.head(self.conv(frames * brightness[:, None, None, None]).relu().mean((2, 3)))}


CLIPS = [{"clip": images, "gain": torch.rand(10), "label": torch.arange(10) % 5} for images in IMAGES.split(10)]


def shown(model, batch):
    return model(batch["clip"], batch["gain"])["scores"]


@pytest.mark.slow
def test_a_function_feeds_networks_of_several_inputs_in_every_analysis(tmp_path):
    nets = Clips(0), Clips(1)
    chosen = {"teacher_layers": "conv", "student_layers": "conv", "forward": shown}
    matrix = cka(*nets, CLIPS, reduce="gap", **chosen).matrix
    features = loader_features(*nets, CLIPS, **chosen)
    expected = torch.cat([shown(nets[0], batch) for batch in CLIPS]).detach()
    np.testing.assert_allclose(predict(nets[0], CLIPS, forward=shown), expected, rtol=1e-6)
    assert features.labels.tolist() == (torch.arange(10) % 5).tolist() * 4
    assert decompose_layers(features)[0].facts["teacher"] == "Clips"
    models, layers = {"teacher": nets[0], "student": nets[1]}, {"teacher": "conv", "student": "conv"}
    write_dump(Dump.over(models, CLIPS, forward=shown, layers=layers, reduce="gap"), tmp_path / "f.h5")
    np.testing.assert_allclose(files_cka([tmp_path / "f.h5"]).matrix, matrix, rtol=1e-10)
    assert torch.equal(stored_features([tmp_path / "f.h5"]).student["conv"], features.student["conv"])


def test_predictions_of_any_network_on_any_loader(student):
    loader = DataLoader(TensorDataset(IMAGES, CLASSES), batch_size=16)
    with torch.no_grad():
        expected = torch.cat([student.eval()(images) for images in IMAGES.split(16)])
    student.train()
    torch.testing.assert_close(predict(student, loader), expected)
    assert student.training
    vit = hf.made("ViTForImageClassification")
    with torch.no_grad():
        logits = torch.cat([vit(pixel_values=batch["pixel_values"]).logits for batch in PROCESSED])
    torch.testing.assert_close(predict(vit, PROCESSED), logits)
    with pytest.raises(AnalysisError, match="the loader gave no minibatches"):
        predict(vit, [])
    with pytest.raises(ModelError, match="network 'Clips' gives a dict of 'scores'"):
        predict(Clips(0), [IMAGES], forward=lambda model, images: {"scores": None, "pair": (images, images)})


def test_loaders_without_classes_or_minibatches(student):
    teacher = Clips(0)
    features = loader_features(
        teacher,
        student,
        list(IMAGES.split(10)),
        teacher_layers="conv",
        student_layers="layer3",
        forward=lambda model, batch: model(batch, batch[:, 0, 0, 0]) if model is teacher else model(batch),
    )
    assert features.labels.tolist() == [0] * N
    result = decompose_layers(features)[0]
    assert any("a classifier needs two classes" in entry["reason"] for entry in result.facts["undefined"])
    with pytest.raises(AnalysisError, match="the loader gave no minibatches"):
        loader_features(student, student, [])
    with pytest.raises(AnalysisError, match="no measure 'rsb'; did you mean 'rsa'"):
        layers_similarity(features, "rsb")


def test_no_pair_that_varies_has_no_similarity(student):
    features = loader_features(student, student, [torch.zeros(8, 3, 32, 32)])
    with pytest.raises(Undefined, match="no pair of layers has a value"):
        layers_similarity(features, "procrustes")


def test_a_kdprobe_split_is_normalised_for_each_network(student):
    from kdprobe.data import Split

    split = Split((IMAGES * 255).byte(), CLASSES, 32)
    features = loader_features(student, student, split)
    images = model_info(student).normalise((IMAGES * 255).byte().float() / 255)
    given = loader_features(student, student, [images])
    torch.testing.assert_close(features.teacher["layer3"], given.teacher["layer3"][features.index])
    assert features.index.sort().values.tolist() == list(range(len(IMAGES)))
    assert torch.equal(features.labels, CLASSES[features.index])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_page_on_own_loaders_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    page = Path(__file__).parents[2] / "docs" / "howto" / "own-loaders.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    out = capsys.readouterr().out
    assert "{'encoder.layers.0': [10, 24]" in out
    assert re.search(r"60 samples of 6 layers: 0\.0 MB before compression, .* are free", out)
    assert names["logits"].shape == (60, 5)
    assert torch.isfinite(names["out"].loss)
