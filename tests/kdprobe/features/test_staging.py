"""What is stored of features, how it comes from a device, and the thread that writes it."""

import math
import threading
import time
from collections import Counter
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from kdprobe.data import Split
from kdprobe.errors import AnalysisError, StoreError
from kdprobe.features import dump, staging, writer
from kdprobe.features.dump import Dump, write_dump
from kdprobe.features.minibatches import fixed_order
from kdprobe.features.shared_images import Views
from kdprobe.features.staging import Staging, as_stored, behind
from kdprobe.features.store import FeatureStore
from kdprobe.models.creation import create
from tests.counted_waits import DEVICE, FakeStream, fake_device, onto_device

MEBIBYTE = 1 << 20


def test_halves_are_those_of_numpy():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**32, 1 << 16, dtype=np.uint32).view(np.float32)
    values = np.concatenate([values[np.abs(values) <= 65504], np.float32(2.0) ** -np.arange(10, 40)])[:, None]
    found = as_stored(torch.from_numpy(values), torch.float16)
    np.testing.assert_array_equal(found.values.numpy().view(np.uint16), values.astype(np.float16).view(np.uint16))
    assert found.largest == float(np.abs(values).max())


@pytest.mark.parametrize("scale", [1e-41, 1e-30, 1e-14, 1e-7, 1.0, 1e4])
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_what_float16_changes_is_measured_at_every_scale(scale, mean):
    x = (torch.randn(16, 5, 3, generator=torch.Generator().manual_seed(0)) + mean) * scale
    rows = x.flatten(1).numpy().astype(np.float64)
    change = rows.astype(np.float16).astype(np.float64) - rows
    wanted = [float(np.square(part - part.mean(0)).sum()) for part in (change, rows)]
    assert as_stored(x, torch.float16).halved == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_broken_values_are_counted_before_they_are_cast(dtype):
    x = torch.zeros(4, 5)
    x[0, 0], x[1, 1], x[2, 2], x[3, 3] = math.nan, math.inf, -math.inf, 1e6
    found = as_stored(x, dtype)
    assert not found.is_finite
    assert found.n_broken == (1, 2)
    assert as_stored(torch.tensor([[1e6]]), dtype).is_finite
    assert as_stored(torch.zeros(4, 0), dtype).is_finite


def test_calls_that_wait_take_no_more_than_so_many_bytes():
    made, ended, most = 0, [], 0
    with behind(lambda number: (time.sleep(0.002), ended.append(number)), most_bytes=4 * MEBIBYTE) as call:
        for number in range(20):
            call(MEBIBYTE if number % 2 else 10, number)  # little counts as much, for what comes with it
            made += 1
            most = max(most, made - len(ended))
        call(100 * MEBIBYTE, 20)
        assert len(ended) == 20, "a large call waits until nothing else does"
    assert ended == list(range(21))
    assert 1 < most <= 4


def test_behind_an_error_nothing_is_called():
    called, go = [], threading.Event()

    def function(number):
        go.wait()
        called.append(number)
        if number == 1:
            raise ZeroDivisionError

    def calls():
        with behind(function) as call:
            for number in range(4):
                call(1, number)
            go.set()

    with pytest.raises(ZeroDivisionError):
        calls()
    assert called == [0, 1]


@pytest.mark.parametrize(("error", "n_called"), [(ZeroDivisionError, 3), (KeyboardInterrupt, 1)])
def test_what_waits_is_still_called_when_the_caller_fails_but_nobody_who_interrupts_waits_for_it(error, n_called):
    called, begun, go = [], threading.Event(), threading.Event()

    def function(number):
        begun.set()
        go.wait()
        called.append(number)

    def calls():
        with behind(function) as call:
            for number in range(3):
                call(1, number)
            begun.wait()
            threading.Timer(0.1, go.set).start()
            raise error

    with pytest.raises(error):
        calls()
    assert called == [*range(n_called)]


class OnDevice(Tensor):
    """Real values that say that they are on a device."""

    is_cuda = True


class Pinned(Tensor):
    """What copies reach only when somebody waits for them."""

    def copy_(self, source, non_blocking=False):
        assert non_blocking
        PENDING.append(lambda: self.as_subclass(Tensor).copy_(source.as_subclass(Tensor)))
        return self


PENDING: list = []


class LateEvent:
    """Copies arrive when it is waited for."""

    def __init__(self, **_):
        pass

    def synchronize(self):
        """Let all copies arrive."""
        while PENDING:
            PENDING.pop(0)()


def pinned(shape, *, dtype, pin_memory):
    assert pin_memory
    return torch.zeros(shape, dtype=dtype).fill_(77).as_subclass(Pinned)


@pytest.fixture
def late(monkeypatch):
    """A device whose copies are late, and what was told to its streams."""
    told = []

    class Stream(FakeStream):
        def wait_stream(self, other):
            told.append("waits for the networks")

        def record_event(self, event=None):
            told.append(f"event behind {len(PENDING)} copies")
            return event

    streams = {"Stream": Stream, "Event": LateEvent, "current_stream": Stream, "stream": nullcontext}
    for name, value in streams.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(Tensor, "record_stream", lambda *_: told.append("kept"))
    monkeypatch.setattr(staging.torch, "empty", pinned)
    return told


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_values_are_read_when_they_have_come(late, dtype):
    generator = torch.Generator().manual_seed(0)
    features = {"student": {"a": torch.randn(6, 3, generator=generator), "b": torch.randn(6, 2, generator=generator)}}
    labels, index = torch.arange(6) % 2, torch.arange(6)
    shown = {role: {name: x.as_subclass(OnDevice) for name, x in of.items()} for role, of in features.items()}
    taken = Staging(torch.device("cuda"), dtype).take({"student": index.as_subclass(OnDevice)}, labels, shown)
    assert taken.n_bytes == 6 * 5 * dtype.itemsize
    assert len(PENDING) == 5, "values and facts of two layers, and places; classes were here"
    assert late[0] == "waits for the networks"
    assert late[-1] == "event behind 5 copies"
    assert taken.index["student"].eq(77).all()
    arrived = taken.arrived(dtype)
    assert not PENDING
    assert torch.equal(taken.index["student"].as_subclass(Tensor), index)
    assert torch.equal(taken.labels, labels)
    for name, x in features["student"].items():
        here = as_stored(x, dtype)
        assert torch.equal(arrived["student"][name].values.as_subclass(Tensor), here.values)
        assert arrived["student"][name].facts.tolist() == here.facts.tolist()


def test_on_a_cpu_nothing_is_copied_or_cast_before_it_is_written():
    x, index = torch.randn(6, 3), torch.arange(6)
    taken = Staging(torch.device("cpu"), torch.float32).take({"student": index}, index, {"student": {"a": x}})
    assert taken.arrived(torch.float32)["student"]["a"].values.data_ptr() == x.data_ptr()
    assert taken.n_bytes == x.nbytes


def networks():
    torch.manual_seed(0)
    return {
        "teacher": create("vit_tiny_patch16_224", n_classes=3, image_size=16, args={"patch_size": 8, "depth": 1}),
        "student": create("resnet8", n_classes=5, image_size=16),
    }


def shown(models, n=40):
    images = torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Views("digits", models, dict.fromkeys(models, Split(images, torch.arange(n) % 3, 16)))


@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({}, {}),
        ({"dtype": "float16", "reduce": "flatten"}, {}),
        ({"content": "grams"}, {"gram_capture.py": 2}),  # once for each network
    ],
    ids=str,
)
def test_no_minibatch_of_a_dump_waits_for_the_device(tmp_path, monkeypatch, options, waits):
    models = dict.fromkeys(("teacher", "student"), networks()["student"])
    views, seen = shown(models, 24), []
    monkeypatch.setattr(dump, "pick_device", torch.device)
    monkeypatch.setattr(writer, "LOST", 1.0)  # what comes from a device without values is ones
    with fake_device() as counted:
        onto_device(*models.values())
        models["student"].to = lambda _: models["student"]  # it is there

        def minibatches(start, stop):
            for batches in views.minibatches(start, stop, batch_size=8, device=DEVICE):
                yield batches
                seen.append(counted.found.copy())

        layers = {role: ["layer1", "fc"] for role in models}  # to find stages asks for values
        write_dump(Dump(models, minibatches, 24, 8, layers=layers, device=DEVICE, **options), tmp_path / "f.h5")
    assert len(seen) == 3
    for before, after in pairwise(seen):  # the first one also finds out what the networks are
        places = Counter({place.partition(":")[0]: count for place, count in (after - before).items()})
        assert places == waits
    with FeatureStore.open(tmp_path / "f.h5") as store:
        assert store.n_samples == 24


def test_what_the_writing_thread_finds_leaves_what_was_before(tmp_path):
    models = networks()

    def minibatches(start, stop):
        for number, batches in enumerate(shown(models).minibatches(start, stop, batch_size=8)):
            if number == 2:
                batches["student"].images[3] = math.nan
            yield batches

    message = r"minibatch 2, samples from 16 on: layer 'patch_embed' has \d+ NaN and 0 infinite values among \d+; dump"
    wanted = Dump(models, minibatches, 40, 8, layers={"teacher": "patch_embed", "student": "layer1"})
    with pytest.raises(AnalysisError, match=message):
        write_dump(wanted, tmp_path / "f.h5")
    with FeatureStore.open(tmp_path / "f.h5.partial", salvage=True) as store:
        assert store.index.tolist() == fixed_order(40)[:16].tolist()


def test_gram_matrices_of_reduced_features_name_the_layer_that_is_broken(tmp_path):
    models = {"student": networks()["student"]}

    def minibatches(start, stop):
        for batches in shown(models).minibatches(start, stop, batch_size=8):
            batches["student"].images[0] = math.nan
            yield batches

    with pytest.raises(AnalysisError, match=r"student, samples from 0 on: layer 'act1': \d+ NaN and 0 infinite"):
        write_dump(Dump(models, minibatches, 40, 8, content="grams", reduce="gap"), tmp_path / "f.h5")
    assert not list(tmp_path.iterdir())


def test_other_images_are_found_by_the_writing_thread(tmp_path):
    models = networks()

    def minibatches(start, stop):
        for number, batches in enumerate(shown(models).minibatches(start, stop, batch_size=8)):
            other = batches["teacher"].take(torch.arange(8))
            if number == 2:
                other.index.add_(1)
            yield {"teacher": other, "student": batches["student"]}

    with pytest.raises(StoreError, match="different images, or the same ones in different order"):
        write_dump(Dump(models, minibatches, 40, 8), tmp_path / "f.h5")
    with FeatureStore.open(tmp_path / "f.h5.partial", salvage=True) as store:
        assert store.n_samples == 16
