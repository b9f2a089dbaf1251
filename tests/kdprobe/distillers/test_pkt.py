import pytest
import torch

from kdprobe.distillers.pkt import pkt_loss
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("pkt"))
def test_equals_the_original(case):
    student = leaf(case["feat_s"])
    loss = pkt_loss(student, case["feat_t"])
    loss.backward()
    assert_value(case, loss, "loss")
    if "grad_s" in case:
        assert_tensor(case, student.grad, "grad_s")
    else:
        assert student.grad.abs().max() < 1  # NaN in the original for a sample without features


def test_opposite_vectors_are_finite_in_single_precision():
    generator = torch.Generator().manual_seed(0)
    for width in (3, 512, 4096):
        row = torch.randn(1, width, generator=generator)
        student = leaf(torch.cat([row, -row, -3 * row]))
        loss = pkt_loss(student, torch.randn(3, 5, generator=generator))
        loss.backward()
        assert loss.isfinite()
        assert student.grad.isfinite().all()
