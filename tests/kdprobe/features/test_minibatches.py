"""What people pass where minibatches, features and devices are expected: taken as meant, or refused by name."""

from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from analyses.arrays import as_tensor
from analyses.cka.networks import cka, minibatch_cka
from kdprobe.data import Batch, Split, load_data
from kdprobe.devices import pick_device
from kdprobe.errors import AnalysisError, DeviceError, KdprobeError
from kdprobe.features.minibatches import as_minibatches, fixed_order, images_of, n_samples

LAYERS = {"teacher_layers": ["0", "2"], "student_layers": ["0", "2"]}
Pair = namedtuple("Pair", "images labels")


def network(seed: int, width: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(width, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3))


NETS = network(1), network(2)
IMAGES = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
BATCHES = list(IMAGES.split(20))
EXPECTED = cka(*NETS, BATCHES, **LAYERS).matrix


@dataclass
class Own:
    frames: Tensor
    name: str


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(IMAGES)


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(TensorDataset(IMAGES, torch.zeros(40)), batch_size=20),
        torch.stack(BATCHES),
        [(batch, 0) for batch in BATCHES],
        [Pair(batch, 0) for batch in BATCHES],
        [{"labels": torch.zeros(20), "pixel_values": batch} for batch in BATCHES],
        [({"img": batch}, 0) for batch in BATCHES],
        (batch for batch in BATCHES),
    ],
)
def test_minibatches_in_every_usual_form(loader: Any) -> None:
    assert np.allclose(cka(*NETS, loader, **LAYERS).matrix, EXPECTED)


def test_a_dataset_becomes_minibatches() -> None:
    data: Dataset[Any] = TensorDataset(torch.cat([IMAGES, IMAGES]), torch.zeros(80))
    found = cka(*NETS, data, **LAYERS)
    expected = cka(*NETS, list(torch.cat([IMAGES, IMAGES])[fixed_order(80)].split(64)), **LAYERS)
    assert found.facts["n_samples"] == 80
    assert np.allclose(found.matrix, expected.matrix)
    split = Split((IMAGES * 255).byte(), torch.zeros(40, dtype=torch.int64), 8)
    assert cka(*NETS, data, student_loader=data, **LAYERS).facts["n_samples"] == 80
    with pytest.raises(KdprobeError, match="nothing is known about the input of this Sequential"):
        cka(*NETS, split, **LAYERS)  # whose batches are to be normalised


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        (IMAGES, r"one Tensor of shape \[40, 3, 8, 8\]; give a DataLoader or a list of tensors"),
        (IMAGES.numpy(), r"one ndarray of shape \[40, 3, 8, 8\]"),
        (Stream(), r"loader must give minibatches of images, as a DataLoader does, but is of type Stream"),
        ({"images": IMAGES}, r"is of type dict"),
        ("folder:images", r"is of type str"),
        (Path("images"), r"is of type PosixPath"),
        (NETS[0], r"is of type Sequential"),
        (None, r"is of type NoneType"),
        (load_data("digits", image_size=8), r"is a DataSet; give its \.test or its \.train"),
        ([7, 8], r"a minibatch must be a tensor or begin with one, but is int; give forward="),
        ([torch.tensor(1.0)], r"a minibatch must be a tensor of images, but is a single number"),
        (
            [(torch.zeros(40, dtype=torch.int64), IMAGES)],
            r"begin with its images, but has torch.int64 of shape \[40\] before torch.float32 of shape \[40, 3, 8, 8\]",
        ),
        (
            [{"a": IMAGES, "b": 1}],
            r"but is dict of 'a', 'b', without a tensor under a known name .* give forward=",
        ),
    ],
)
def test_what_gives_no_minibatches_is_refused_by_name(loader: Any, said: str) -> None:
    with pytest.raises(AnalysisError, match=said):
        for batch in as_minibatches(loader):
            images_of(batch)


@pytest.mark.parametrize(
    "loader",
    [
        [{"frames": batch, "name": "a", "scale": torch.tensor(1)} for batch in BATCHES],
        [[{"x": 1}, (batch,)] for batch in BATCHES],
        [Pair("a", batch) for batch in BATCHES],
        [Own(batch, "a") for batch in BATCHES],
    ],
)
def test_a_function_feeds_what_has_another_form(loader: Any) -> None:
    def forward(model: nn.Module, batch: Any) -> Any:
        if isinstance(batch, dict):
            return model(batch["frames"])
        return model(batch.frames if isinstance(batch, Own) else batch[1][0] if isinstance(batch, list) else batch[1])

    assert np.allclose(cka(*NETS, loader, forward=forward, **LAYERS).matrix, EXPECTED)
    assert n_samples(loader[0], forward) == 20
    assert n_samples(object(), forward) is None


def test_images_of_uint8_count_as_0_to_1() -> None:
    batches = [(batch * 255).byte() for batch in BATCHES]
    expected = cka(*NETS, [batch.float() / 255 for batch in batches], **LAYERS)
    assert np.allclose(cka(*NETS, batches, **LAYERS).matrix, expected.matrix)
    assert images_of(Batch(IMAGES, torch.zeros(40, dtype=torch.int64), torch.arange(40))) is IMAGES


def test_features_as_arrays_and_as_something_else() -> None:
    x, y = torch.randn(3, 8, 5), torch.randn(3, 8, 4)
    assert minibatch_cka(x, x) == pytest.approx(1)
    assert torch.equal(as_tensor(y.numpy()[:, ::-1].copy(), name="y", least=3), y.flip(1))
    with pytest.raises(AnalysisError, match="x must be a tensor or an array of numbers, but is of type list"):
        as_tensor([x], name="x", least=3)
    with pytest.raises(AnalysisError, match=r"y must have at least 3 dimensions, but has the shape \[8, 4\]"):
        as_tensor(y[0], name="y", least=3)


def test_devices_by_name_and_as_they_are() -> None:
    assert np.allclose(cka(*NETS, BATCHES, device=torch.device("cpu"), **LAYERS).matrix, EXPECTED)
    if not torch.cuda.is_available():
        assert np.allclose(cka(*NETS, BATCHES, device="auto", **LAYERS).matrix, EXPECTED)
    for device in ("cuda:99", torch.device("cuda:99")):
        with pytest.raises(DeviceError, match=r"there is no device 'cuda:99'"):
            cka(*NETS, BATCHES, device=device, **LAYERS)
    assert pick_device(torch.device("meta")).type == "meta"
