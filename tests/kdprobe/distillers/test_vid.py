import pytest
import torch

from kdprobe.distillers.vid import MapPredictor, vid_loss
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("vid"))
def test_equals_the_original(case):
    student, teacher = leaf(case["feat_s"]), case["feat_t"]
    predictor = MapPredictor(student.shape[1], teacher.shape[1], variance=case["init_pred_var"]).to(case.dtype)
    torch.testing.assert_close(predictor.log_scale.detach(), case["init_log_scale"], rtol=1e-6, atol=0)
    predictor.load_state_dict(case.weights())
    loss = predictor(student, teacher)
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")
    assert_tensor(case, predictor.log_scale.grad, "grad_log_scale")
    for place in range(3):
        assert_tensor(case, predictor.regressor[2 * place].weight.grad, f"grad_regressor{place}")


def test_the_loss_of_a_perfect_prediction_ends_at_the_least_variance():
    maps, log_scale = torch.ones(2, 3, 4, 4), leaf(torch.full((3,), -50.0))
    loss = vid_loss(maps, maps, log_scale)
    loss.backward()
    assert loss.item() == pytest.approx(-5.756, abs=1e-3)
    assert log_scale.grad.isfinite().all()


def test_only_the_sides_that_are_larger_are_averaged_down():
    torch.manual_seed(0)
    predictor = MapPredictor(3, 5)
    student, teacher = torch.randn(2, 3, 6, 4), torch.randn(2, 5, 3, 8)
    half = torch.nn.functional.avg_pool2d
    expected = predictor(half(student, (2, 1)), half(teacher, (1, 2)))
    torch.testing.assert_close(predictor(student, teacher), expected)


@pytest.mark.parametrize("variance", [2e-5, 0.5, 5.0, 1000.0])
def test_the_variance_begins_as_it_is_told(variance):
    predictor = MapPredictor(3, 5, variance=variance)
    zeros, ones = torch.zeros(2, 5, 4, 4), torch.ones(2, 5, 4, 4)
    difference = vid_loss(ones, zeros, predictor.log_scale) - vid_loss(zeros, zeros, predictor.log_scale)
    assert difference.item() == pytest.approx(1 / (2 * variance), rel=1e-3)
