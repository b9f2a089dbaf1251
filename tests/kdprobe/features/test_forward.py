"""`capture` called with minibatches: mappings, several inputs, and functions that run a network or a part of it."""

from collections import UserDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from kdprobe.data import Batch
from kdprobe.errors import AnalysisError, CaptureError
from kdprobe.features.capturing import capture
from kdprobe.features.minibatches import arguments_of
from kdprobe.models.creation import create, model_info
from tests import transformers_networks as hf

IMAGES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
WORDS = torch.randint(2, 90, (6, 7), generator=torch.Generator().manual_seed(0))


class Towers(nn.Module):
    """Two networks side by side, of which one sees images and the other one words."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.images = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2))
        self.words = nn.Embedding(100, 8)

    def look(self, pixel_values):
        return self.images(pixel_values).mean((2, 3))

    def forward(self, input_ids, pixel_values, scale=1.0, labels=None):
        assert labels is None, "classes must not reach a network"
        return self.look(pixel_values) @ self.words(input_ids).mean(1).T * scale


@pytest.mark.parametrize("name", hf.STAGES)
def test_transformers_networks_take_what_their_processors_give(name):
    model = hf.made(name)
    from transformers import BatchFeature

    batch = BatchFeature({"pixel_values": IMAGES, "labels": torch.arange(6) + 7})
    with torch.no_grad(), capture(model, "stages", reduce="whole") as features:
        output = features(batch)
    assert list(features) == hf.STAGES[name]
    assert "loss" not in output
    with torch.no_grad(), capture(model, "stages", reduce="whole") as called:
        model(IMAGES)
    assert all(torch.equal(features[layer], called[layer]) for layer in called)
    first = next(iter(features.layouts.values()))
    assert (first.kind, first.n_prefix) == (("tokens", hf.N_PREFIX[name]) if name in hf.N_PREFIX else ("NCHW", 0))
    if first.kind == "tokens":
        with torch.no_grad(), capture(model, hf.STAGES[name][0], reduce="gap") as averaged:
            features = averaged(batch)
        tokens = called[hf.STAGES[name][0]]
        assert torch.allclose(averaged[hf.STAGES[name][0]], tokens[:, hf.N_PREFIX[name] :].mean(1), atol=1e-6)


@pytest.mark.parametrize("n_words", [6, 3, 11])
@pytest.mark.parametrize("made", [dict, UserDict])
def test_a_network_of_several_inputs_gets_those_that_it_names(n_words, made):
    net = Towers()
    ids = WORDS.repeat(2, 1)[:n_words]
    batch = made({"input_ids": ids, "pixel_values": IMAGES, "labels": torch.zeros(6), "attention_mask": ids > 0})
    args, kwargs = arguments_of(net, batch)
    assert args == ()
    assert list(kwargs) == ["input_ids", "pixel_values"]
    with torch.no_grad(), capture(net, "images.?", reduce="gap") as features:
        output = features(batch)
    assert output.shape == (6, n_words)
    assert {layer: layout.kind for layer, layout in features.layouts.items()} == dict.fromkeys(
        ("images.0", "images.1", "images.2"), "NCHW"
    )
    torch.testing.assert_close(features["images.2"], net.look(IMAGES))


def test_what_has_another_name_than_the_images_comes_first():
    class Masked(nn.Module):
        def forward(self, pixels, mask=None):
            return pixels.mean((2, 3)) + (0 if mask is None else mask)

    args, kwargs = arguments_of(Masked(), ({"image": (IMAGES * 255).byte(), "mask": torch.ones(6, 1)}, torch.arange(6)))
    assert list(kwargs) == ["mask"]
    torch.testing.assert_close(args[0], (IMAGES * 255).byte() / 255)
    message = r"Towers takes input_ids, pixel_values, scale, but it is not clear which .* give forward="
    with pytest.raises(AnalysisError, match=message):
        arguments_of(Towers(), {"input_ids": WORDS, "image": IMAGES})


def test_images_of_a_batch_are_normalised_and_all_are_taken_in_the_networks_precision():
    model = create("resnet8", n_classes=5, image_size=32).half()
    batch = Batch(IMAGES, torch.zeros(6, dtype=torch.int64), torch.arange(6))
    (images,), kwargs = arguments_of(model, batch)
    assert kwargs == {}
    assert torch.equal(images, model_info(model).normalise(IMAGES).half())
    (images,), _ = arguments_of(model, IMAGES)
    assert torch.equal(images, IMAGES.half())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_scripted_network_gets_the_images_alone():
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 2, 1)))
    args, kwargs = arguments_of(scripted, {"x": IMAGES, "input": IMAGES})
    assert args == ()
    assert kwargs == {"input": IMAGES}


def test_a_function_may_run_a_part_of_a_network():
    net = Towers()

    def look(model, batch):
        return model.look(batch["pixels"])

    with torch.no_grad(), capture(net, "stages", reduce="gap", forward=look) as features:
        output = features({"pixels": IMAGES, "words": WORDS[:2]})
        first = features["images.1"]
        features({"pixels": IMAGES[:3]})
    assert list(features) == ["images.1"]  # images.2 gives what the function returns
    assert torch.equal(first, net.images[:2](IMAGES).mean((2, 3)))
    assert torch.equal(output, net.look(IMAGES))
    assert len(features["images.1"]) == 3


def test_the_image_tower_of_clip():
    model = hf.made("CLIPModel")

    def look(model, batch):
        return model.get_image_features(pixel_values=batch["pixel_values"])

    with torch.no_grad(), capture(model, "stages", reduce="cls", forward=look) as features:
        features({"pixel_values": IMAGES, "input_ids": WORDS[:3]})
    assert list(features) == [f"vision_model.encoder.layers.{number}" for number in range(3)]
    with torch.no_grad(), capture(model, list(features), reduce="cls") as both:
        both({"pixel_values": IMAGES, "input_ids": WORDS[:3], "attention_mask": torch.ones_like(WORDS[:3])})
    assert all(torch.equal(both[layer], feature) for layer, feature in features.items())


def test_a_function_may_call_the_network_itself_and_take_batches_of_any_form():
    @dataclass
    class Frames:
        frames: torch.Tensor
        name: str

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3))
    with torch.no_grad(), capture(net, "*", reduce="gap", forward=lambda net, batch: net(batch.frames)) as features:
        output = features(Frames(IMAGES, "a"))
    assert list(features) == ["0", "1", "2"]
    torch.testing.assert_close(features["2"], output.mean((2, 3)))


def test_a_function_that_fails_or_runs_nothing_is_told():
    net = Towers()
    with (
        capture(net, "images.0", forward=lambda model, batch: batch) as features,
        pytest.raises(CaptureError, match=r"layer 'images\.0' exists but did not run$"),
    ):
        features(IMAGES)
    with capture(net, "images.0", forward=lambda model, batch: model.look(batch[0])) as features:
        with pytest.raises(KeyError):
            features({"pixels": IMAGES})
        features([IMAGES])
        assert len(features["images.0"]) == 6


def test_without_a_function_it_must_be_clear_where_the_images_are():
    with capture(Towers(), "images.0") as features, pytest.raises(AnalysisError, match="but is int; give forward="):
        features(3)
