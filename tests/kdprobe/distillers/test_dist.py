import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdprobe.distillers.dist import inter_loss, intra_loss
from tests.goldens import leaf


def _logits(n, c, seed):
    return torch.randn(2, n, c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(n=st.integers(2, 6), c=st.integers(2, 8), seed=st.integers(0, 99))
def test_equals_numpy_correlations(n, c, seed):
    student, teacher = _logits(n, c, seed)
    ours, theirs = (logits.div(3).softmax(1).numpy() for logits in (student, teacher))
    rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours, theirs, strict=True)]
    columns = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T, strict=True)]
    assert inter_loss(student, teacher, temperature=3.0).item() == pytest.approx(9 * (1 - np.mean(rows)), abs=1e-9)
    assert intra_loss(student, teacher, temperature=3.0).item() == pytest.approx(9 * (1 - np.mean(columns)), abs=1e-9)


@pytest.mark.parametrize("loss", [inter_loss, intra_loss])
def test_zero_for_equal_logits_and_never_beyond_two(loss):
    student, teacher = _logits(6, 4, 0)
    assert loss(student, student, temperature=1.0).abs() < 1e-12
    assert 0 < loss(student, teacher, temperature=1.0) < 2


def test_inter_sees_no_shift_of_the_logits():
    student, teacher = _logits(6, 4, 1)
    shift = torch.arange(6.0)[:, None]
    torch.testing.assert_close(
        inter_loss(student + shift, teacher, temperature=2.0), inter_loss(student, teacher, temperature=2.0)
    )


@pytest.mark.parametrize("loss", [inter_loss, intra_loss])
@pytest.mark.parametrize("shape", [(1, 5), (4, 2), (3, 7)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_degenerate_batches_give_finite_gradients(loss, shape, scale):
    teacher = torch.randn(shape, generator=torch.Generator().manual_seed(2)).sign() * 1e4
    student = leaf(-teacher / 1e4 * scale)
    value = loss(student, teacher, temperature=1.0)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", [inter_loss, intra_loss])
@pytest.mark.parametrize("n_classes", [3, 7, 10, 100, 1000])
@pytest.mark.parametrize("value", [0.0, 0.1, -2.7])
def test_equal_student_logits_have_correlation_zero_and_no_gradient(loss, n_classes, value):
    teacher = torch.randn(5, n_classes, generator=torch.Generator().manual_seed(2))
    student = leaf(torch.full((5, n_classes), value))
    found = loss(student, teacher, temperature=4.0)
    found.backward()
    assert found == 16
    assert not student.grad.any()
