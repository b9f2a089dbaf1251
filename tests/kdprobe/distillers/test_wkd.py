import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdprobe.distillers import DISTILLERS, Progress, make_method
from kdprobe.distillers.nkd import target_part
from kdprobe.distillers.wkd import (
    class_costs,
    class_distances,
    head_distances,
    moments_losses,
    transport_loss,
)
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Shapes
from tests.goldens import assert_tensor, assert_value, cases, leaf

SHAPES = Shapes("any", ("a",), ((3, 6, 6),), 3, 5, None, 0, averaged=True, linear=True)


@pytest.mark.parametrize("case", cases("wkd", only="logits"))
def test_equals_the_original(case):
    student, given = leaf(case["logits_s"]), (case["logits_t"], case["target"], case["cost"])
    options = {key: case[key] for key in ("regularisation", "iterations")} | {"temperature": case["T"]}
    transport = transport_loss(student, *given, **options)
    loss = target_part(student, *given[:2]).mean() + case["gamma"] * transport
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")
    assert_value(case, transport, "loss_transport")


@pytest.mark.parametrize("case", cases("wkd", only="feature"))
def test_moments_equal_the_originals(case):
    student = leaf(case["feat_s"])
    means, deviations = moments_losses(student, case["feat_t"], grid=case["grid"], eps=case["eps"])
    loss = case["ratio"] * means + deviations
    loss.backward()
    for value, key in [(means, "mean_loss"), (deviations, "std_loss"), (loss, "loss")]:
        assert_value(case, value, key)
    assert_tensor(case, student.grad, "grad_s")


@pytest.mark.parametrize("case", cases("wkd", only="cost"))
def test_distances_of_classes_equal_the_originals(case):
    distances = class_distances(case["class_feat"])
    assert_tensor(case, distances, "dist")
    assert_tensor(case, class_costs(distances, sharpen=case["sharpen"]), "cost")


def test_a_constant_cost_is_paid_for_what_must_be_moved():
    student, teacher = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cost = 0.7 * (1 - torch.eye(6, dtype=torch.float64))
    target = torch.tensor([2, 0, 5, 2])
    others = [
        torch.stack([row[torch.arange(6) != y] for row, y in zip(x, target, strict=True)]) for x in (student, teacher)
    ]
    moved = (F.softmax(others[0], dim=1) - F.softmax(others[1], dim=1)).abs().sum(dim=1).mean() / 2
    options = {"temperature": 1.0, "regularisation": 0.05}
    found = transport_loss(student, teacher, target, cost, iterations=500, **options)
    torch.testing.assert_close(found, 0.7 * moved, rtol=1e-3, atol=0)


def test_rows_of_the_classifier_that_point_one_way_are_near():
    distances = head_distances(torch.tensor([[1.0, 0], [3, 0], [0, 2], [-1, 0], [0, 0]]))
    assert distances[0].tolist() == [0, 0, 1, 2, 1]
    assert torch.equal(class_costs(distances, sharpen=0), distances)


def made(**options):
    torch.manual_seed(0)
    return make_method({"name": "wkd", **options}, SHAPES, SHAPES)


def features(seed):
    torch.manual_seed(seed)
    return Features(torch.randn(4, 5), maps=(torch.randn(4, 3, 6, 6),), heads=(nn.Linear(3, 5),))


def test_terms_whose_weight_is_0_ask_for_nothing():
    ours, theirs, labels = features(1), features(2), torch.arange(4)
    everything = made(feature_weight=0.1)
    assert everything.student_needs == ("logits", "maps")
    assert everything.teacher_needs == ("logits", "head", "maps")
    assert set(everything(ours, theirs, labels, Progress(0, 1))) == {"target", "transport", "features"}
    moments = made(target_weight=0, transport_weight=0, feature_weight=0.1)
    assert moments.student_needs == moments.teacher_needs == ("maps",)
    assert set(moments(ours, theirs, labels, Progress(0, 1))) == {"features"}
    assert made(transport_weight=0).teacher_needs == ("logits",)


def test_the_flow_and_the_features_fade_and_the_target_does_not():
    ours, theirs, labels = features(1), features(2), torch.arange(4)
    method = made(feature_weight=0.1, decay_from=0.5)
    begin, middle, late, end = (method(ours, theirs, labels, Progress(epoch, 8)) for epoch in (0, 4, 6, 8))
    for name, share in (("target", 1.0), ("transport", 0.5), ("features", 0.5)):
        torch.testing.assert_close(middle[name], begin[name])
        torch.testing.assert_close(late[name], share * begin[name])
    assert end["transport"] == end["features"] == 0
    assert made(decay_from=1)(ours, theirs, labels, Progress(8, 8))["transport"] == begin["transport"]


def test_distances_from_a_file_are_taken_and_saved(tmp_path):
    path = tmp_path / "distances.npy"
    ours, theirs, labels = features(1), features(2), torch.arange(4)
    distances = head_distances(theirs.head.weight.detach())
    np.save(path, distances.numpy())
    method = made(cost=str(path))
    assert method.teacher_needs == ("logits",)
    assert torch.equal(method.state_dict()["distances"], distances)
    given = [one(ours, theirs, labels, Progress(0, 1))["transport"] for one in (method, made())]
    torch.testing.assert_close(*given)


def test_distances_that_cannot_be_meant_are_refused(tmp_path):
    path = tmp_path / "distances.npy"
    with pytest.raises(ModelError, match=r"is 'head' or a .npy file of distances of the classes, but .* cannot be rea"):
        made(cost=str(path))
    path.write_text("import numpy")
    with pytest.raises(ModelError, match=r"distances.npy cannot be read as one \(it holds no array\)"):
        made(cost=str(path))
    for array, found in ((np.zeros((5, 4)), r"float64 \[5, 4\]"), (np.zeros((5, 5), int), r"int64 \[5, 5\]")):
        np.save(path, array)
        with pytest.raises(ModelError, match=rf"must hold finite distances \[5, 5\] of the .* but holds {found}"):
            made(cost=str(path))
    np.save(path, np.full((5, 5), np.nan))
    with pytest.raises(ModelError, match=r"must hold finite distances"):
        made(cost=str(path))


def test_networks_that_a_part_is_not_defined_for_are_refused():
    kind, bare = DISTILLERS["wkd"], Shapes("any", ("a",), ((3, 6, 6),), 3, 5, None, 0)
    with pytest.raises(ModelError, match="rows of the teacher's linear classifier, which any does not have; give the"):
        kind(kind.Options(), bare, bare)
    with pytest.raises(ModelError, match=r"method\.grid=6 leaves a single one of the last map of any, 6 x 6"):
        kind(kind.Options(transport_weight=0, feature_weight=1, grid=6), bare, bare)
