"""Loaders as their users have them: samplers of every kind, classes of every form, networks that overwrite images."""

from collections import UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from analyses.cka import cka, minibatch_cka
from analyses.evaluation import predict
from analyses.paired_features import loader_features
from kdprobe import capture
from kdprobe.errors import AnalysisError, CaptureError, StoreError
from kdprobe.features import Dump, FeatureStore, write_dump
from kdprobe.features.numbered import SampleOrder, known_labels

CLASSES = torch.arange(40) % 5
IMAGES = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(IMAGES, CLASSES)
LAYERS = {"teacher_layers": ["act"], "student_layers": ["act"], "reduce": "gap"}


class Net(nn.Module):
    """A network that standardises its images in place, as some do; one of a fixed batch size if told so."""

    def __init__(self, seed=0, fixed=None):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.act, self.fixed = nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), fixed

    def forward(self, x):
        x.sub_(0.5).div_(0.3)
        if self.fixed:
            x = x.view(self.fixed, *x.shape[1:])
        return self.act(self.conv(x)).mean((2, 3))

    def right(self, images):
        with torch.no_grad():
            return self.act(self.conv((images - 0.5) / 0.3)).mean((2, 3))


def loader(**options):
    return DataLoader(DATA, batch_size=8, **options)


class InTurn:
    """A sampler of one's own, always in the same order."""

    def __iter__(self):
        return iter(range(39, -1, -1))

    def __len__(self):
        return 40


@pytest.mark.parametrize(
    ("given", "shuffled", "repeated"),
    [
        (loader(), False, False),
        (loader(shuffle=True), True, False),
        (loader(shuffle=True, generator=torch.Generator().manual_seed(3)), True, False),
        (loader(sampler=SubsetRandomSampler(range(40))), True, False),
        (loader(sampler=WeightedRandomSampler(torch.ones(40), 40)), True, True),
        (loader(sampler=RandomSampler(DATA, replacement=True)), True, True),
        (loader(sampler=InTurn()), False, False),
        (DataLoader(DATA, batch_sampler=[[1, 2], [3, 4]]), False, False),
        (DataLoader(DATA, batch_sampler=BatchSampler(SubsetRandomSampler(range(40)), 8, False)), True, False),
        (DataLoader(DATA, batch_sampler=BatchSampler(SequentialSampler(DATA), 8, False)), False, False),
        ([IMAGES], False, False),
    ],
)
def test_how_a_loader_draws_is_found_without_disturbing_it(given, shuffled, repeated):
    before = torch.get_rng_state()
    assert SampleOrder.of(given) == SampleOrder(shuffled, repeated)
    assert torch.equal(before, torch.get_rng_state())


def test_an_own_generator_is_put_back():
    one, other = (loader(shuffle=True, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    SampleOrder.of(one)
    assert [batch[1].tolist() for batch in one] == [batch[1].tolist() for batch in other]


def test_samples_that_are_drawn_again_are_refused():
    drawn = loader(sampler=WeightedRandomSampler(torch.ones(40), 40))
    with pytest.raises(AnalysisError, match=r"WeightedRandomSampler may give a sample twice in one minibatch"):
        cka(Net(), Net(1), drawn, **LAYERS)


def test_a_shuffled_subset_is_neither_paired_nor_dumped(tmp_path):
    one, other = (loader(sampler=SubsetRandomSampler(range(40))) for _ in range(2))
    with pytest.raises(AnalysisError, match="two loaders that shuffle"):
        cka(Net(), Net(), one, student_loader=other, **LAYERS)
    with pytest.raises(AnalysisError, match="but the loader shuffles"):
        write_dump(Dump.over({"teacher": Net()}, one, layers=["act"]), tmp_path / "x.h5")


def test_two_loaders_with_other_classes_show_other_images():
    turned = DataLoader(TensorDataset(IMAGES, CLASSES.flip(0)), batch_size=8)
    with pytest.raises(AnalysisError, match="minibatch 0 holds different images"):
        cka(Net(), Net(), loader(), student_loader=turned, **LAYERS)
    targets = [(images, torch.rand(8)) for images in IMAGES.split(8)]  # of a regression
    assert cka(Net(), Net(), targets, student_loader=targets, **LAYERS).matrix[0, 0] == pytest.approx(1)


@pytest.mark.parametrize(
    "given",
    [
        CLASSES,
        CLASSES.int(),
        CLASSES.float(),
        CLASSES[:, None],
        one_hot(CLASSES),
        one_hot(CLASSES).double(),
        CLASSES.numpy(),
        CLASSES.tolist(),
    ],
)
def test_classes_may_have_many_forms(given):
    assert known_labels((IMAGES, given), 40).tolist() == CLASSES.tolist()
    assert known_labels({"image": IMAGES, "label": given}, 40).tolist() == CLASSES.tolist()


@pytest.mark.parametrize(
    "given", [None, "text", ["a"] * 40, IMAGES, [], [{}] * 40, np.array(["a"] * 40), CLASSES.cfloat()]
)
def test_what_is_no_number_a_sample_is_no_class(given):
    assert known_labels((IMAGES, given), 40) is None
    assert known_labels((IMAGES,), 40) is None


@pytest.mark.parametrize("given", [torch.rand(40), torch.rand(40, 5), torch.full((40,), -1), CLASSES - 100])
def test_numbers_that_are_no_classes_are_refused(given, tmp_path):
    with pytest.raises(AnalysisError, match=r"classes must be whole numbers from 0 on, one a sample, but .* in their"):
        write_dump(Dump.over({"teacher": Net()}, [(IMAGES, given)], layers=["act"]), tmp_path / "x.h5")
    assert not list(tmp_path.iterdir())


def test_places_of_samples_in_front_of_classes_are_no_classes(tmp_path):
    given = [(IMAGES[part], part, CLASSES[part]) for part in torch.randperm(40).split(8)]
    with pytest.raises(AnalysisError, match=r"where classes are expected, .* while part 3 has numbers that come again"):
        loader_features(Net(), Net(), given, **LAYERS)
    with pytest.raises(AnalysisError, match=r"give images and classes first, or a mapping with a label"):
        write_dump(Dump.over({"teacher": Net()}, given, layers=["act"]), tmp_path / "x.h5")
    for right in ([(x, classes, part) for x, part, classes in given], [(x, part) for x, part, _ in given]):
        found = loader_features(Net(), Net(), right, **LAYERS)
        assert found.labels.tolist() == torch.cat([one for _, one, *_ in right]).tolist()


def test_networks_that_overwrite_images_do_not_change_them_for_others(tmp_path):
    one, other = Net(), Net(1)
    batches = [(IMAGES[:20].clone(), CLASSES[:20]), (IMAGES[20:].clone(), CLASSES[20:])]
    found = loader_features(one, other, batches, **LAYERS)
    for features, net in ((found.teacher, one), (found.student, other)):
        torch.testing.assert_close(features["act"], net.right(IMAGES))
    for name in ("a.h5", "b.h5"):  # of the same minibatches once more
        write_dump(
            Dump.over({"teacher": one, "student": other}, batches, layers=["act"], reduce="gap"), tmp_path / name
        )
        with FeatureStore(tmp_path / name) as store:
            for role, net in (("teacher", one), ("student", other)):
                torch.testing.assert_close(store.minibatch(role, "act", 0, 40), net.right(IMAGES))
    torch.testing.assert_close(predict(one, batches), one.right(IMAGES))
    assert torch.equal(batches[0][0], IMAGES[:20])


@dataclass
class Pack:
    image: torch.Tensor
    label: torch.Tensor


@pytest.mark.parametrize("kind", ["tensor", "dataclass", "mapping", "fixed"])
def test_the_first_minibatch_is_not_changed_by_being_watched(kind):
    net = Net(fixed=40 if kind == "fixed" else None)
    given, forward = {
        "dataclass": (Pack(IMAGES.clone(), CLASSES), lambda model, batch: model(batch.image)),
        "mapping": (UserDict(pixel_values=IMAGES.clone()), lambda model, batch: model(batch["pixel_values"])),
    }.get(kind, (IMAGES.clone(), None))
    with capture(net, ["act"], reduce="gap", forward=forward) as features:
        features(given)
        found = features["act"]
    torch.testing.assert_close(found, net.right(IMAGES))


def test_cka_of_a_network_of_a_fixed_batch_size():
    one, other = Net(fixed=8), Net(1, fixed=8)
    parts = [image.clone() for image in IMAGES.split(8)]
    truth = minibatch_cka(*(torch.stack([net.right(part) for part in IMAGES.split(8)]) for net in (one, other)))
    assert cka(one, other, parts, **LAYERS).matrix[0, 0] == pytest.approx(float(truth), abs=1e-5)


def test_minibatches_without_tensors_are_counted_as_lists_or_refused():
    class Reader(nn.Module):
        def __init__(self, seed):
            super().__init__()
            torch.manual_seed(seed)
            self.act = nn.Linear(4, 3)

        def forward(self, texts):
            return self.act(torch.tensor([[len(text), text.count("a"), 1.0, text.count("b")] for text in texts]))

    texts = [["a" * (i + j) + "b" * (i * j % 3) for i in range(6)] for j in range(3)]
    found = cka(
        Reader(0), Reader(1), texts, forward=lambda model, batch: model(batch), **{**LAYERS, "reduce": "flatten"}
    )
    assert found.facts["n_samples"] == 18
    turned = {"forward": lambda model, batch: model([text for text in batch for _ in range(2)])}
    with pytest.raises(AnalysisError, match="layers give 12 rows for 6 samples, not one row per sample"):
        cka(Reader(0), Reader(1), texts, **turned, **LAYERS)
    with pytest.raises(AnalysisError, match="must hold tensors with a row per sample, or be a list, but is str"):
        cka(Reader(0), Reader(1), ["aab"], forward=lambda model, batch: model(batch), **LAYERS)


def test_predicting_leaves_each_module_in_its_mode():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.LazyLinear(2))
    net(IMAGES)
    net.train()
    net[0].eval()
    predict(net, [IMAGES])
    assert [module.training for module in net] == [False, True, True, True]


def test_images_of_two_sizes_in_one_dump_are_told_by_layer(tmp_path):
    class Maps(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.act(x).mean((2, 3))

    for last in (5, 3):  # maps of 3 x 3, and of 1 x 1, which HDF5 would stretch
        batches = [torch.rand(4, 3, 8, 8), torch.rand(4, 3, last, last)]
        with pytest.raises(
            StoreError, match=r"layer 'act' of the teacher gives \[4, \d, \d\] an image from sample 4 on"
        ):
            write_dump(Dump.over({"teacher": Maps()}, batches, layers=["act"], reduce="whole"), tmp_path / f"{last}.h5")
        with pytest.raises(
            AnalysisError, match=r"layer 'act' of the teacher gives \[\d+\] an image, but \[144\] before"
        ):
            loader_features(Maps(), Maps(), batches, teacher_layers=["act"], student_layers=["act"], reduce="flatten")


def test_networks_may_share_a_module():
    stem = nn.Conv2d(3, 8, 3)

    class Half(nn.Module):
        def __init__(self, seed):
            super().__init__()
            torch.manual_seed(seed)
            self.stem, self.act = stem, nn.Conv2d(8, 4, 3)

        def forward(self, x):
            return self.act(self.stem(x)).mean((2, 3))

    batches = list(IMAGES.split(8))
    found = cka(Half(0), Half(1), batches, teacher_layers=["stem", "act"], student_layers=["stem", "act"])
    assert found.matrix[0, 0] == pytest.approx(1)
    alone = cka(Half(0), Half(1), batches, teacher_layers=["act"], student_layers=["act"])
    assert found.matrix[1, 1] == pytest.approx(alone.matrix[0, 0])
    with pytest.raises(CaptureError, match="ran outside a call of the model"), capture(Half(0), ["stem"]):
        stem(IMAGES)
