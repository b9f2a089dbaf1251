import pytest
import torch

from kdprobe.distillers import rkd
from kdprobe.distillers.rkd import angle_loss, distance_loss
from kdprobe.errors import AnalysisError
from tests.goldens import TOLERANCES, assert_tensor, assert_value, cases, leaf


def _features(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("case", cases("rkd"))
def test_equals_the_original(case):
    duplicates = "grad_dist" not in case
    losses = {"dist": distance_loss, "angle": angle_loss}
    for name, loss in losses.items():
        student = leaf(case["feat_s"])
        value = loss(student, case["feat_t"])
        value.backward()
        assert_value(case, value, name, rtol=max(1e-6, TOLERANCES[case.dtype][0]) if duplicates else None)
        if not duplicates:
            assert_tensor(case, student.grad, f"grad_{name}")
        assert student.grad.abs().max() < 1
    student = leaf(case["feat_s"])
    total = 25 * distance_loss(student, case["feat_t"]) + 50 * angle_loss(student, case["feat_t"])
    total.backward()
    assert_value(case, total, "loss", rtol=max(1e-6, TOLERANCES[case.dtype][0]) if duplicates else None)
    if not duplicates:
        assert_tensor(case, student.grad, "grad_loss")


@pytest.mark.parametrize("n", [2, 3, 7])
def test_blocks_of_any_size_give_the_same(monkeypatch, n):
    student, teacher = leaf(_features(n, 5)), _features(n, 4, seed=1)
    whole = angle_loss(student, teacher)
    whole.backward()
    expected, student.grad = student.grad, None
    monkeypatch.setattr(rkd, "BLOCK", 3 * n * (n + 5))
    parts = angle_loss(student, teacher)
    parts.backward()
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(student.grad, expected)


@pytest.mark.parametrize("loss", [distance_loss, angle_loss])
def test_scale_and_shift_and_rotation_leave_the_loss(loss):
    student, teacher = _features(9, 6), _features(9, 6, seed=1)
    rotation = torch.linalg.qr(_features(6, 6, seed=2)).Q
    torch.testing.assert_close(loss((student @ rotation) * 3 + 5, teacher), loss(student, teacher))


@pytest.mark.parametrize("loss", [distance_loss, angle_loss])
def test_a_large_mean_costs_no_digits(loss):
    student, teacher = (
        _features(16, 32, dtype=torch.float32) + 1000,
        _features(16, 8, seed=1, dtype=torch.float32),
    )
    exact = loss(student.double(), teacher.double())
    assert abs(loss(student, teacher) - exact) < 1e-5 * exact


@pytest.mark.parametrize("loss", [distance_loss, angle_loss])
@pytest.mark.parametrize("student", [torch.zeros(5, 4), torch.ones(5, 4), _features(2, 4).float().repeat(3, 1)[:5]])
def test_dead_and_duplicate_features_give_finite_gradients(loss, student):
    student = leaf(student)
    value = loss(student, _features(5, 3).float())
    value.backward()
    assert value.isfinite()
    assert student.grad.abs().max() < 1e3


def test_a_batch_of_one_has_no_distances():
    with pytest.raises(AnalysisError, match="batch of at least 2 samples, but got 1"):
        distance_loss(_features(1, 4), _features(1, 4))
    with pytest.raises(AnalysisError, match="batch of at least 2 samples, but got 0"):
        distance_loss(torch.ones(0, 4), torch.ones(0, 4))


def test_a_batch_of_one_has_no_angle_error():
    assert angle_loss(_features(1, 4), _features(1, 4)) == 0


def test_no_cubic_memory():
    student, teacher = leaf(_features(256, 64).float()), _features(256, 64, seed=1).float()
    sizes = []

    def keep(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        angle_loss(student, teacher)
    assert 0 < sum(sizes) < 256**3 / 8
