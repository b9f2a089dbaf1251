import pytest
import torch

from kdprobe.distillers.sp import similarity_loss
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("sp"))
def test_equals_the_original(case):
    student = leaf(case["feat_s"])
    loss = similarity_loss(student, case["feat_t"])
    loss.backward()
    assert_value(case, loss, "loss")
    if "grad_s" in case:
        assert_tensor(case, student.grad, "grad_s")
    assert student.grad.abs().max() < 1  # 3e10 or more in the original for a sample without features


def test_rotation_and_scale_of_the_features_leave_the_loss():
    generator = torch.Generator().manual_seed(0)
    student, teacher, square = (torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    rotation = torch.linalg.qr(square[:5]).Q
    torch.testing.assert_close(
        similarity_loss(3 * student @ rotation, teacher), similarity_loss(student, teacher), rtol=1e-12, atol=0
    )


def test_large_features_have_the_similarities_of_usual_ones():
    torch.manual_seed(0)
    usual, teacher = torch.randn(5, 3, 2, 2), torch.randn(5, 4)
    losses = []
    for power in (0, 64):
        student = leaf(usual * 2.0**power)
        losses.append(similarity_loss(student, teacher))
        losses[-1].backward()
        assert student.grad.any()
        assert student.grad.isfinite().all()
    assert torch.equal(*losses)
    assert similarity_loss(usual, usual * 2.0**-60) == 0
