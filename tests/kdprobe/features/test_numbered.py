import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from kdprobe.data import Batch, Split
from kdprobe.errors import AnalysisError
from kdprobe.features.numbered import InOrder, labels_of, numbered_minibatches

IMAGES = torch.rand(20, 3, 8, 8)
CLASSES = torch.arange(20) % 3
DATA = TensorDataset(IMAGES, CLASSES)
PARTS = list(IMAGES.split(8))


def places(batches):
    return [batch["teacher"].index.tolist() for batch in batches]


@pytest.mark.parametrize(
    ("loader", "labelled"),
    [
        (DataLoader(DATA, batch_size=8), True),
        ([{"pixel_values": images, "labels": classes} for images, classes in DataLoader(DATA, batch_size=8)], True),
        ([(images, classes.float()) for images, classes in DataLoader(DATA, batch_size=8)], False),
        (PARTS, False),
        ([{"image": images, "label": "a"} for images in PARTS], False),
    ],
)
def test_samples_are_counted_and_classes_found(loader, labelled):
    found = list(numbered_minibatches(loader))
    assert places(found) == [list(range(8)), list(range(8, 16)), list(range(16, 20))]
    labels = torch.cat([batches["student"].labels for batches in found])
    assert torch.equal(labels, CLASSES if labelled else torch.zeros(20, dtype=torch.int64))
    assert labels.dtype == torch.int64


def test_images_of_a_split_keep_their_places():
    batch = Batch(IMAGES[:4], torch.tensor([3, 1, 2, 0]), torch.tensor([9, 4, 7, 5]))
    (found,) = numbered_minibatches([batch])
    assert found["teacher"].index.tolist() == [9, 4, 7, 5]
    assert found["teacher"].labels.tolist() == [3, 1, 2, 0]
    assert labels_of((IMAGES, torch.arange(7)), 20).tolist() == [0] * 20


def test_a_minibatch_without_tensors_has_no_number_of_samples():
    with pytest.raises(AnalysisError, match="must hold tensors with a row per sample, but is list without any"):
        list(numbered_minibatches([["a", "b"]], forward=lambda model, batch: None))


@pytest.mark.parametrize(
    "loader",
    [PARTS, DataLoader(DATA, batch_size=8), torch.rand(2, 10, 3, 8, 8), Split((IMAGES * 255).byte(), CLASSES, 8)],
)
def test_minibatches_from_any_one_on(loader):
    source = InOrder.of(["student"], loader)
    size = source.batch_size
    assert source.n_samples == 20
    assert [batches["student"].index.tolist() for batches in source(size, 20)] == [
        list(range(start, min(start + size, 20))) for start in range(size, 20, size)
    ]
    assert [list(batches) for batches in source(0, min(size, 20))] == [["student"]]


def test_loaders_that_a_dump_cannot_read_twice_in_order():
    dropping = InOrder.of(["teacher"], DataLoader(DATA, batch_size=8, drop_last=True))
    assert dropping.n_samples == 16
    with pytest.raises(AnalysisError, match="samples in a fixed order, but the loader shuffles; give shuffle=False"):
        InOrder.of(["teacher"], DataLoader(DATA, batch_size=8, shuffle=True))
    for loader in (iter(PARTS), [], DataLoader(DATA, batch_size=None)):
        with pytest.raises(AnalysisError, match=r"needs to know its number of samples, which a .* does not tell; give"):
            InOrder.of(["teacher"], loader)
    with pytest.raises(AnalysisError, match="minibatch 0 has 4 samples, but all must have 8, except the last of 20"):
        list(InOrder(["teacher"], PARTS[::-1], None, None, 20, 8)(0, 20))
    with pytest.raises(AnalysisError, match="the loader gave 16 samples, but 24 before"):
        list(InOrder(["teacher"], PARTS[:2], None, None, 24, 8)(0, 24))
