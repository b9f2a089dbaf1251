import pytest
import torch
import torch.nn.functional as F

from kdprobe.distillers.scn import rank_regularisation, relabel
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("scn"))
def test_equals_the_original(case):
    weights = leaf(case["weights"])
    loss = rank_regularisation(weights, beta=case["beta"], margin=case["margin_1"])
    loss.backward()
    assert_value(case, loss, "rr_loss")
    assert_tensor(case, weights.grad, "grad_w")
    labels = case["target"]
    assert_value(case, F.cross_entropy(case["logits"], labels), "ce")
    changed = relabel(case["logits"], labels, margin=case["margin_2"])
    expected = labels.clone()
    expected[case["relabel_idx"]] = case["relabel_to"]
    assert torch.equal(changed, expected)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_equal_weights_cost_the_margin_where_there_are_two_groups(n):
    weights = leaf(torch.full((n, 1), 0.5))
    loss = rank_regularisation(weights, beta=0.7, margin=0.07)
    loss.backward()
    assert loss.item() == pytest.approx(0.07 if n > 1 else 0.0)
    assert weights.grad.isfinite().all()
