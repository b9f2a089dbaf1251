import pytest
import torch
import torch.nn.functional as F

from kdprobe.distillers.dkd import dkd_parts
from kdprobe.distillers.nkd import nkd_loss, nkd_parts
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("nkd"))
def test_equals_the_original(case):
    student, target = leaf(case["logits_s"]), case["target"]
    target = target.argmax(1) if case.description["soft"] else target
    options = {"gamma": case["gamma"], "temperature": case["T"]}
    loss = nkd_loss(student, case["logits_t"], target, **options)
    loss.backward()
    of_target, of_others = nkd_parts(student, case["logits_t"], target, temperature=case["T"])
    assert_value(case, loss, "loss")
    assert_value(case, of_target.mean(), "loss_target")
    assert_value(case, case["gamma"] * of_others.mean(), "loss_others")
    assert_tensor(case, student.grad, "grad_s")


def test_the_part_of_the_others_is_that_of_decoupled_distillation_and_the_teachers_entropy():
    student, teacher = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor([2, 0, 5, 2])
    others = torch.stack([row[torch.arange(6) != y] for row, y in zip(teacher, target, strict=True)]) / 3
    entropy = -(F.softmax(others, dim=1) * F.log_softmax(others, dim=1)).sum(dim=1)
    found = nkd_parts(student, teacher, target, temperature=3.0)[1].mean()
    expected = dkd_parts(student, teacher, target, temperature=3.0)[1] + 9 * entropy.mean()
    torch.testing.assert_close(found, expected)
