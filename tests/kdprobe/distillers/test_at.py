import pytest
import torch

from kdprobe.distillers.at import at_loss
from tests.goldens import assert_close, assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("at"))
def test_equals_the_original(case):
    student = [leaf(maps) for maps in case.stages("feat_s")]
    loss = at_loss(student, case.stages("feat_t"), p=case["p"])
    loss.backward()
    assert_value(case, loss, "loss")
    for j, (maps, other) in enumerate(zip(student, case.stages("feat_t"), strict=True)):
        assert_tensor(case, maps.grad, f"grad_s{j}")
        assert_close(case, at_loss([maps], [other], p=case["p"]), case["loss_per_stage"][j].item())


def test_sees_neither_scale_nor_number_of_channels():
    maps = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert at_loss([maps], [torch.cat([maps, maps], dim=1) * 7]) < 1e-30


def test_sides_are_averaged_down_one_by_one():
    maps = torch.rand(2, 3, 8, 4, generator=torch.Generator().manual_seed(1))
    assert at_loss([maps], [torch.rand(2, 3, 4, 8, generator=torch.Generator().manual_seed(2))]).isfinite()


def test_dead_maps_give_finite_gradients():
    student = leaf(torch.zeros(2, 3, 4, 4))
    at_loss([student], [torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(3))]).backward()
    assert student.grad.isfinite().all()
