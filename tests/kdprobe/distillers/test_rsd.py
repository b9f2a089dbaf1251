import pytest
import torch

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.rsd import projector, rsd_loss
from kdprobe.errors import AnalysisError
from kdprobe.models.stages import Features, Shapes
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("rsd", only="loss"))
def test_equals_the_original(case):
    student = leaf(case["feat_s"])
    loss = rsd_loss(student, case["feat_t"], kappa=case["kappa"])
    loss.backward()
    assert_value(case, loss, "loss")
    assert_value(case, rsd_loss(student, case["feat_t"], kappa=0.0), "loss_diagonal")
    if "grad_s" in case:
        assert_tensor(case, student.grad, "grad_s")


@pytest.mark.parametrize("case", cases("rsd", only="projector"))
def test_the_projector_equals_the_original(case):
    student = leaf(case["feat_s"])
    layers = projector(4, 6).to(case.dtype)
    layers.load_state_dict(case.weights(), strict=False)
    assert_tensor(case, layers.eval()(student), "out_eval")
    projected = layers.train()(student)
    assert_tensor(case, projected, "out_train")
    loss = rsd_loss(projected, case["feat_t"], kappa=case["kappa"])
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")
    for place in (0, 3):
        assert_tensor(case, layers[place].weight.grad, f"grad_w_{place}")


def test_constant_features_pass_no_gradient():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(7, 5, generator=generator)
    student[:, 2] = 0.1  # whose mean is off by a rounding error
    student = leaf(student)
    rsd_loss(student, torch.randn(7, 5, generator=generator)).backward()
    assert not student.grad[:, 2].any()
    assert 0 < student.grad.abs().max() < 10


def test_a_batch_of_one_costs_the_width_and_has_no_gradient():
    student = leaf(torch.randn(1, 6, generator=torch.Generator().manual_seed(0)))
    loss = rsd_loss(student, -student.detach())
    loss.backward()
    assert loss == 6
    assert not student.grad.any()


def test_the_batch_norm_of_the_projector_asks_for_two_samples():
    shapes, features = Shapes("net", (), (), 6, 3, None, 0), Features(torch.zeros(1, 3), pooled=torch.ones(1, 6))
    method = DISTILLERS["rsd"](DISTILLERS["rsd"].Options(), shapes, shapes)
    with pytest.raises(AnalysisError, match="over a batch of at least 2 samples, but got 1"):
        method(features, features, torch.zeros(1), Progress(0, 1))
    assert method.eval()(features, features, torch.zeros(1), Progress(0, 1))["correlation"].item() == pytest.approx(0.6)
