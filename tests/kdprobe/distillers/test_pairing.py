from dataclasses import replace

import pytest
import torch

from kdprobe.distillers.pairing import levels, resized, spread, stage_pairs
from kdprobe.errors import ModelError
from kdprobe.models.stages import Shapes


def _shapes(names, *, tokens=None):
    maps = tuple((8, 4, 4) for _ in names)
    return Shapes("net", tuple(names), maps, 8, 10, tokens, 0)


CIFAR = _shapes(["act1", "layer1", "layer2", "layer3"])
RESNET = _shapes(["act1", "layer1", "layer2", "layer3", "layer4"])
MOBILE = _shapes([f"blocks.{i}" for i in (0, 1, 2, 4, 6)])
VIT = _shapes([f"blocks.{i}" for i in range(12)], tokens=(17, 8))


def test_levels_leave_the_stem_out():
    assert levels(CIFAR) == (1, 2, 3)
    assert levels(RESNET) == (1, 2, 3, 4)
    assert levels(MOBILE) == (1, 2, 3, 4)
    assert levels(VIT) == tuple(range(12))


def test_levels_of_a_network_inside_another_are_its_own():
    for shapes in (CIFAR, RESNET, MOBILE, VIT):
        inside = replace(shapes, names=tuple(f"model.backbone.{name}" for name in shapes.names))
        assert levels(inside) == levels(shapes)
    assert levels(_shapes(["features.conv0"])) == (0,)


def test_all_stages_that_were_described_count():
    named = _shapes(["conv2_x", "conv3_x", "conv4_x", "conv5_x"])
    assert levels(named) == (1, 2, 3)
    assert levels(replace(named, described=True)) == (0, 1, 2, 3)


def test_spread_keeps_the_deepest():
    assert spread(range(12), 4) == (2, 5, 8, 11)
    assert spread((1, 2, 3, 4), 3) == (1, 3, 4)
    assert spread((1, 2, 3), 1) == (3,)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (CIFAR, CIFAR, ((1, 1), (2, 2), (3, 3))),
        (CIFAR, VIT, ((1, 3), (2, 7), (3, 11))),
        (VIT, RESNET, ((2, 1), (5, 2), (8, 3), (11, 4))),
        (VIT, VIT, ((2, 2), (5, 5), (8, 8), (11, 11))),
    ],
)
def test_stages_are_paired_by_relative_depth(student, teacher, expected):
    assert stage_pairs("at", student, teacher) == expected


def test_chosen_stages_are_checked():
    assert stage_pairs("at", CIFAR, VIT, ((-1, 5),)) == ((-1, 5),)
    with pytest.raises(ModelError, match="at: there is no stage 12, net has stages 0 to 11"):
        stage_pairs("at", CIFAR, VIT, ((1, 12),))


def test_networks_without_stages_are_refused():
    with pytest.raises(ModelError, match="'at' needs stage maps, which net does not offer"):
        stage_pairs("at", CIFAR, _shapes([]))


def test_resized_averages_down_and_interpolates_up():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert resized(maps, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert resized(maps, (8, 6)).shape == (1, 1, 8, 6)
    assert torch.equal(resized(maps, (4, 4)), maps)
