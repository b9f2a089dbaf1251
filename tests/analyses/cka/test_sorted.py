"""Images that are sorted by class: minibatches of few classes do not say what networks have in common."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from analyses.cka.minibatch_classes import warn_of_few_classes
from analyses.cka.networks import cka, minibatch_cka, views_cka
from analyses.cka.stored import files_cka
from analyses.paired_features import loader_features
from analyses.similarity.result import files_similarity, layers_similarity
from kdprobe.data import Split
from kdprobe.errors import Undefined
from kdprobe.features import Dump, FeatureStore, write_dump
from kdprobe.features.shared_images import Views
from kdprobe.models.creation import create

N_CLASSES, EACH = 8, 64
GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(N_CLASSES).repeat_interleave(EACH)
#: two networks' features share their classes, and nothing else
SEEN = [
    torch.randn(N_CLASSES, 6, generator=GENERATOR)[LABELS] * 3 + torch.randn(len(LABELS), 6, generator=GENERATOR)
    for _ in range(2)
]
IMAGES = torch.cat(SEEN, 1)[:, :, None, None]  # as channels
LAYERS = {"teacher_layers": ["0"], "student_layers": ["0"]}


class _Part(nn.Sequential):
    """A network that sees its own half of the channels."""

    def __init__(self, first: int) -> None:
        super().__init__(nn.Identity())
        self.first = first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self[0](x[:, self.first : self.first + 6].flatten(1))


NETWORKS = _Part(0), _Part(6)
TRUTH = float(minibatch_cka(SEEN[0].double()[None], SEEN[1].double()[None]))


def test_a_data_set_that_is_sorted_by_class_is_shown_in_random_order():
    within = [float(minibatch_cka(*(one.double().split(EACH)[k][None] for one in SEEN))) for k in range(N_CLASSES)]
    assert abs(np.mean(within)) < 0.1
    assert TRUTH > 0.3  # so the order decides
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = cka(*NETWORKS, TensorDataset(IMAGES, LABELS), **LAYERS)
    assert result.low[0, 0] < TRUTH < result.high[0, 0]
    assert result.matrix[0, 0] == pytest.approx(TRUTH, abs=0.05)


def test_a_loader_that_is_sorted_by_class_warns(tmp_path):
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=64)
    said = "minibatches hold few classes: two samples of one share a class in 100% of cases, two of all samples in 12%"
    with pytest.warns(UserWarning, match=said):
        cka(*NETWORKS, loader, **LAYERS)
    dump = Dump.over({"teacher": NETWORKS[0], "student": NETWORKS[1]}, loader, layers=["0"])
    write_dump(dump, tmp_path / "f.h5")
    with pytest.warns(UserWarning, match=said):
        files_cka(tmp_path / "f.h5")
    for measure in (
        lambda: files_similarity([tmp_path / "f.h5"], "feature-cka", reduce="gap"),
        lambda: shown_similarity(loader),
    ):
        with pytest.warns(UserWarning, match=said), pytest.raises(Undefined, match="units that are uncorrelated"):
            measure()  # within classes they are
    files_similarity([tmp_path / "f.h5"], "rsa")  # which has no minibatches


def shown_similarity(loader):
    features = loader_features(*NETWORKS, loader, **LAYERS, reduce="flatten")
    features.facts["reduce"] = "gap"  # these features are units
    return layers_similarity(features, "feature-cka")


def test_a_dump_of_a_data_set_knows_the_places_of_its_samples(tmp_path):
    dump = Dump.over({"student": NETWORKS[0]}, TensorDataset(IMAGES, LABELS), layers=["0"])
    write_dump(dump, tmp_path / "f.h5")
    with FeatureStore.open(tmp_path / "f.h5") as store:
        assert torch.equal(store.read("student", "0"), SEEN[0][store.index])
        assert torch.equal(store.labels, LABELS[store.index])
        assert store.index.sort().values.tolist() == list(range(len(LABELS)))


def test_test_images_come_in_one_random_order_whatever_the_batch_size():
    images = torch.randint(256, (96, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(3).repeat_interleave(32)
    nets = {who: create("resnet8", n_classes=3, image_size=16) for who in ("teacher", "student")}
    views = Views("folder:x", nets, dict.fromkeys(nets, Split(images, labels, 16)))
    orders = []
    for size in (8, 32):
        batches = [batch["student"] for batch in views.minibatches(batch_size=size)]
        for batch in batches:
            assert torch.equal(batch.labels, labels[batch.index])
            torch.testing.assert_close(batch.images, images[batch.index].float() / 255)
        orders.append(torch.cat([batch.index for batch in batches]).tolist())
    assert orders[0] == orders[1] != list(range(96))
    assert sorted(orders[0]) == list(range(96))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        views_cka(views, batch_size=16)


@pytest.mark.parametrize("n_classes", [2, 10, 100])
def test_random_minibatches_never_warn(n_classes):
    generator = torch.Generator().manual_seed(n_classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for count in (1, 2, 5, 40):
            for _ in range(20):
                labels = torch.randint(n_classes, (count * 16,), generator=generator)
                warn_of_few_classes(labels.split(16), stacklevel=1)
        warn_of_few_classes([torch.zeros(8), torch.zeros(8)], stacklevel=1)
        warn_of_few_classes([], stacklevel=1)
