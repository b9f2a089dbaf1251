import pytest
import torch
from torch import nn

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.cat_kd import cat_loss, class_maps
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Shapes
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", [*cases("cat_kd", only="plain"), *cases("cat_kd", only="binary")])
def test_equals_the_original(case):
    student = leaf(case["cam_s"])
    teacher = case["binary"] if "binary" in case else case["cam_t"]
    loss = cat_loss(student, teacher, resolution=case["resolution"], normalised=case.description["normalised"])
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")


@pytest.mark.parametrize("case", cases("cat_kd", only="partial"))
def test_equals_the_original_of_some_classes(case):
    student, mask = leaf(case["cam_s"]), case["mask"].bool()
    ours, theirs = (maps[mask].unflatten(0, (len(maps), -1)) for maps in (student, case["cam_t"]))
    loss = cat_loss(ours, theirs, resolution=case["resolution"], normalised=case.description["normalised"])
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")


@pytest.mark.parametrize("case", cases("cat_kd", only="cam"))
def test_the_mean_of_the_maps_is_the_logits_but_for_the_bias(case):
    found = class_maps(case["map"], case["fc_weight"])
    assert_tensor(case, found, "cam")
    assert_tensor(case, found.mean((2, 3)), "logits_converted")
    assert_tensor(case, found.mean((2, 3)) + case["fc_bias"], "logits_network")


@pytest.mark.parametrize("resolution", [2, 3])
def test_the_method_averages_first_and_trains_the_classifier(resolution):
    torch.manual_seed(0)
    kind, shapes = DISTILLERS["cat_kd"], Shapes("any", ("a",), ((3, 7, 7),), 3, 5, None, 0, averaged=True)
    method = kind(kind.Options(weight=1, resolution=resolution, normalised=False), shapes, shapes)
    heads, maps = [nn.Linear(3, 5), nn.Linear(3, 5)], torch.randn(2, 2, 3, 7, 7)
    pairs = list(zip(maps, heads, strict=True))
    ours, theirs = (Features(torch.zeros(2, 5), maps=(one,), heads=(head,)) for one, head in pairs)
    found = method(ours, theirs, torch.zeros(2, dtype=torch.int64), Progress(0, 1))["maps"]
    full = [class_maps(one, head.weight) for one, head in pairs]
    torch.testing.assert_close(found, cat_loss(*full, resolution=resolution))
    found.backward()
    assert heads[0].weight.grad.any()


def test_a_map_of_zeros_gives_no_gradient_where_maps_are_normalised():
    student = leaf(torch.zeros(2, 3, 4, 4))
    cat_loss(student, torch.ones(2, 3, 4, 4), normalised=True).backward()
    assert not student.grad.any()


def test_a_network_that_does_not_classify_places_is_refused():
    kind, shapes = DISTILLERS["cat_kd"], Shapes("any", ("a",), ((3, 7, 7),), 3, 5, None, 0)
    with pytest.raises(ModelError, match=r"cat_kd applies the classifier at the places .* not defined for any, which"):
        kind(kind.Options(), shapes, shapes)


def test_a_grid_that_is_finer_than_the_map_is_refused():
    kind, shapes = DISTILLERS["cat_kd"], Shapes("any", ("a",), ((3, 7, 6),), 3, 5, None, 0, averaged=True)
    with pytest.raises(
        ModelError, match=r"onto a grid of 64 x 64, finer .* of any, 7 x 6; give method.resolution of at"
    ):
        kind(kind.Options(resolution=64), shapes, shapes)
