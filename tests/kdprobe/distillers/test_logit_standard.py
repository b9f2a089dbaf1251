import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdprobe.distillers.kd import kd_loss
from kdprobe.distillers.logit_standard import standardised_logits
from tests.goldens import leaf


@given(n=st.integers(1, 5), c=st.integers(2, 12), seed=st.integers(0, 99))
def test_mean_zero_and_unbiased_deviation_one(n, c, seed):
    logits = torch.randn(n, c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scores = standardised_logits(logits)
    torch.testing.assert_close(scores.mean(1), torch.zeros(n, dtype=torch.float64))
    torch.testing.assert_close(scores.std(1), torch.ones(n, dtype=torch.float64))


@given(shift=st.floats(-10, 10), scale=st.floats(0.1, 10))
def test_the_loss_sees_neither_shift_nor_scale(shift, scale):
    student, teacher = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = kd_loss(standardised_logits(student), standardised_logits(teacher), temperature=2.0)
    changed = kd_loss(standardised_logits(student * scale + shift), standardised_logits(teacher), temperature=2.0)
    torch.testing.assert_close(changed, loss)


@pytest.mark.parametrize("logits", [torch.zeros(2, 3), torch.full((2, 3), 1e4), torch.tensor([[1e4, -1e4]])])
def test_equal_and_huge_logits_are_finite(logits):
    student = leaf(logits)
    scores = standardised_logits(student)
    scores.square().sum().backward()
    assert scores.isfinite().all()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("n_classes", [2, 7, 10, 1000])
@pytest.mark.parametrize("value", [0.0, 0.1, -2.7])
def test_equal_logits_become_zero_and_pass_no_gradient(n_classes, value):
    logits = torch.full((3, n_classes), value, requires_grad=True)
    found = standardised_logits(logits)
    assert not found.any()
    (found * torch.arange(n_classes)).sum().backward()
    assert not logits.grad.any()


def test_logits_that_hardly_differ_keep_their_order():
    logits = torch.tensor([[1.0, 1.0 + 2e-6, 1.0 - 2e-6]])
    assert standardised_logits(logits).round(decimals=1).tolist() == [[0, 1, -1]]
