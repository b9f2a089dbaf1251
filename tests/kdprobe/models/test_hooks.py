import pytest
import torch
from torch import nn

import kdprobe
from kdprobe.errors import ModelError
from kdprobe.models import create
from kdprobe.models.stages import Stages, measure
from kdprobe.models.watched.offered import final_activation


def _features(name, *, needs, size=32):
    model = create(name, n_classes=4, image_size=size).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # some start at zero, so that their block adds nothing
            nn.init.ones_(module.weight)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return model, Stages(model, needs=needs)(images)


@pytest.mark.parametrize("name", ["resnet8", "resnet10t", "regnety_002"])
def test_residual_stages_are_the_activation_of_what_comes_before(name):
    _, features = _features(name, needs=("maps", "preacts"))
    assert len(features.preacts) == len(features.maps)
    for before, after in zip(features.preacts, features.maps, strict=True):
        assert before.min() < 0
        assert torch.equal(before.relu(), after)


@pytest.mark.parametrize("name", ["mobilenetv2_035", "test_vit"])
def test_stages_that_end_without_activation_are_themselves(name):
    _, features = _features(name, needs=("maps", "preacts"))
    assert features.maps
    assert all(before is after for before, after in zip(features.preacts, features.maps, strict=True))


def test_queries_keys_and_values_reproduce_the_last_attention():
    model = create("test_vit", n_classes=4, image_size=32).eval()
    attention = model.blocks[-1].attn
    seen = []
    attention.proj.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    features = Stages(model, needs=("qkv",))(torch.rand(2, 3, 32, 32))
    queries, keys, values = features.qkv
    mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
    torch.testing.assert_close(mixed.transpose(1, 2).flatten(2), seen[-1])
    assert measure(model).qkv == tuple(features.qkv.shape[2:])


def test_a_network_without_attention_has_no_queries():
    with pytest.raises(ModelError, match="has no attention with queries, keys and values in one layer qkv"):
        _features("resnet8", needs=("qkv",))


def test_distilled_networks_have_two_classifiers():
    args = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    model = create("deit_tiny_distilled_patch16_224", n_classes=4, image_size=32, args=args)
    assert measure(model).n_heads == 2
    assert Stages(model, needs=("head",))(torch.rand(1, 3, 32, 32)).heads == (model.head, model.head_dist)


def test_the_final_activation_is_that_of_the_last_block():
    last = nn.ReLU()
    block = nn.Module()
    block.act1, block.conv, block.act2, block.downsample = nn.ReLU(), nn.Identity(), last, nn.Identity()
    assert final_activation(nn.Sequential(nn.ReLU(), nn.Sequential(block))) is last
    assert final_activation(nn.Conv2d(3, 3, 1)) is None


class PreActivation(nn.Module):
    """A block of a wide residual network: its last activation is not what it ends with."""

    def __init__(self, width):
        super().__init__()
        self.bn1, self.relu1, self.conv1 = nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1)
        self.bn2, self.relu2, self.conv2 = nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x):
        return x + self.conv2(self.relu2(self.bn2(self.conv1(self.relu1(self.bn1(x))))))


def test_an_activation_inside_the_last_block_does_not_end_its_stage():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), PreActivation(8), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 4))
    kdprobe.describe(model.eval(), image_size=16, stages=["1", "3"])
    images = torch.rand(2, 3, 16, 16)
    features = Stages(model, needs=("maps", "preacts"))(images)
    assert features.preacts[0] is features.maps[0]
    assert torch.equal(features.preacts[1], model[2](model[:2](images)))
