import pytest
import torch
import torch.nn.functional as F

from kdprobe.distillers.kd import kd_loss
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("kd"))
def test_equals_the_original(case):
    student = leaf(case["logits_s"])
    loss = kd_loss(student, case["logits_t"], temperature=case["T"])
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")


@pytest.mark.parametrize("case", cases("kd"))
def test_total_of_the_benchmark_weights(case):
    student = leaf(case["logits_s"])
    distillation = kd_loss(student, case["logits_t"], temperature=case["T"])
    total = 0.1 * F.cross_entropy(student, case["target"]) + 0.9 * distillation
    total.backward()
    assert_value(case, total, "total")
    assert_tensor(case, student.grad, "grad_total_s")


def test_gradient_is_the_difference_of_the_softmaxes():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    kd_loss(student.requires_grad_(), teacher, temperature=3.0).backward()
    expected = (F.softmax(student / 3, dim=1) - F.softmax(teacher / 3, dim=1)) * 3 / 6
    torch.testing.assert_close(student.grad, expected.detach())


def test_zero_where_student_and_teacher_differ_by_a_shift():
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert kd_loss(logits + 5, logits, temperature=4.0).abs() < 1e-13


@pytest.mark.parametrize("n_classes", [2, 100])
def test_huge_logits_give_finite_losses_and_gradients(n_classes):
    teacher = torch.randn(1, n_classes, generator=torch.Generator().manual_seed(2)).sign() * 1e4
    student = leaf(-teacher)
    loss = kd_loss(student, teacher, temperature=1.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_half_precision_is_widened_under_autocast():
    student, teacher = torch.randn(2, 8, 10, generator=torch.Generator().manual_seed(3)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = kd_loss(student, teacher, temperature=4.0)
    assert loss.dtype == torch.float32
    assert loss == kd_loss(student.float(), teacher.float(), temperature=4.0)
