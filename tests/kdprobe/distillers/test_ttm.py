import pytest
import torch
import torch.nn.functional as F

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.kd import kd_loss
from kdprobe.distillers.ttm import ttm_loss, uncertainty_weights
from kdprobe.models.stages import Features, Shapes
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("ttm"))
@pytest.mark.parametrize("kind", ["ttm", "wttm"])
def test_equals_the_original(case, kind):
    student = leaf(case["logits_s"])
    loss = ttm_loss(student, case["logits_t"], gamma=case["gamma"], weighted=kind == "wttm")
    loss.backward()
    assert_value(case, loss, f"loss_{kind}")
    assert_tensor(case, student.grad, f"grad_{kind}")
    assert_tensor(case, uncertainty_weights(case["logits_t"], case["gamma"]), "weight")


def test_it_is_plain_distillation_for_gamma_1():
    student, teacher = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for weighted in (False, True):
        found = ttm_loss(student, teacher, gamma=1.0, weighted=weighted)
        torch.testing.assert_close(found, kd_loss(student, teacher, temperature=1.0))


def test_uncertain_answers_count_for_more():
    sure, unsure = torch.tensor([[9.0, 0, 0, 0]]), torch.zeros(1, 4)
    weights = uncertainty_weights(torch.cat([sure, unsure]), 0.5)
    torch.testing.assert_close(weights, F.softmax(torch.cat([sure, unsure]), dim=1).sqrt().sum(dim=1))
    assert weights[1] == 2
    assert 1 < weights[0] < 1.1


def test_the_weighted_method_weights_its_samples():
    shapes = Shapes("any", (), (), 8, 6, None, 0)
    ours, theirs = (Features(logits) for logits in torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0)))
    for name, weighted in (("ttm", False), ("wttm", True)):
        kind = DISTILLERS[name]
        method = kind(kind.Options(ttm_weight=3, gamma=0.5), shapes, shapes)
        found = method(ours, theirs, torch.arange(4), Progress(0, 1))["ttm"]
        torch.testing.assert_close(found, 3 * ttm_loss(ours.logits, theirs.logits, gamma=0.5, weighted=weighted))
