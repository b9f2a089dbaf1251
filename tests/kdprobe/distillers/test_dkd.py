import pytest
import torch
import torch.nn.functional as F

from kdprobe.distillers.dkd import dkd_loss, dkd_parts
from kdprobe.distillers.kd import kd_loss
from kdprobe.errors import AnalysisError
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("dkd"))
@pytest.mark.parametrize("part", ["s", "tckd", "nckd"])
def test_equals_the_original(case, part):
    alpha, beta = {"s": (case["alpha"], case["beta"]), "tckd": (1.0, 0.0), "nckd": (0.0, 1.0)}[part]
    student = leaf(case["logits_s"])
    loss = dkd_loss(student, case["logits_t"], case["target"], alpha=alpha, beta=beta, temperature=case["T"])
    loss.backward()
    assert_value(case, loss, "loss" if part == "s" else part)
    assert_tensor(case, student.grad, f"grad_{part}")


def test_the_parts_make_up_plain_distillation():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 1, 6, generator=generator, dtype=torch.float64)
    target = torch.tensor([2])
    of_target, among_others = dkd_parts(student, teacher, target, temperature=3.0)
    other = 1 - F.softmax(teacher / 3, dim=1)[0, 2]
    torch.testing.assert_close(of_target + other * among_others, kd_loss(student, teacher, temperature=3.0))


def test_huge_logits_give_finite_losses_and_gradients():
    teacher = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)).sign() * 1e4
    student = leaf(-teacher)
    loss = dkd_loss(student, teacher, torch.arange(8) % 5, alpha=1.0, beta=8.0, temperature=1.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_two_classes_are_named_as_undefined():
    with pytest.raises(AnalysisError, match="at least 3 classes, but there are 2; kd is defined"):
        dkd_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]), alpha=1.0, beta=1.0, temperature=4.0)
