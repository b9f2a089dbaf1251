import pytest
import torch
import torch.nn.functional as F

from kdprobe.data.loaders import Batch
from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.scn import rank_regularisation, relabelled
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Shapes
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
    changed = relabelled(case["logits"], labels, margin=case["margin_2"])
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


def _method(**options):
    kind = DISTILLERS["scn"]
    return kind(kind.Options(**options), Shapes("net", (), (), 6, 3, None, 0), None)


def _step(method, labels, *, epoch):
    batch = Batch(torch.zeros(2, 3, 8, 8), torch.tensor(labels), torch.tensor([7, 9]))
    seen = method.inputs(batch)[2]
    logits = torch.tensor([[9.0, 0, 0], [0, 0, 9]])
    terms = method(Features(logits, pooled=torch.zeros(2, 6)), None, seen, Progress(epoch, 70))
    return seen.tolist(), terms


def test_surely_wrong_labels_are_replaced_from_the_tenth_epoch():
    method = _method()
    assert _step(method, [1, 2], epoch=8.9)[0] == [1, 2]
    assert method.cured == {}
    seen, terms = _step(method, [1, 2], epoch=9.0)
    assert seen == [1, 2]
    assert method.cured == {7: 0}
    assert _step(method, [1, 2], epoch=9.5)[0] == [0, 2]
    assert set(terms) == {"rank"}


def test_labels_are_for_the_weighted_logits():
    method = _method()
    torch.nn.init.constant_(method.importance.bias, -100)
    logits = method.logits(Features(torch.randn(2, 3), pooled=torch.zeros(2, 6)))
    assert logits.abs().max() < 1e-30


def test_the_cured_labels_are_saved_and_restored():
    method, again = _method(), _method()
    _step(method, [1, 2], epoch=20)
    again.load_state_dict(method.state_dict())
    assert again.cured == {7: 0}


def test_processes_tell_each_other_what_they_relabelled():
    first, second = _method(), _method()
    for method, index in ((first, [5, 6]), (second, [7, 8])):
        method.set_extra_state(torch.tensor([[1, 0], [5, 2]]))
        method.inputs(Batch(torch.zeros(2, 3, 8, 8), torch.tensor([2, 0]), torch.tensor(index)))
    sure = torch.tensor([[9.0, 0, 0], [0, 0, 9]])
    first._cure(sure, torch.tensor([2, 0]))
    second._cure(sure, torch.tensor([0, 1]))
    told = []
    for method in (first, second):
        method.agree(lambda numbers: told.extend(numbers.tolist()) or [])
    assert told == [5, 0, 6, 2, 8, 2]
    for method in (first, second):
        method.agree(lambda numbers: numbers.tolist() + told)
        assert method.cured == {1: 0, 5: 0, 6: 2, 8: 2}


def test_the_last_of_several_views_decides():
    method = _method()
    method.inputs(Batch(torch.zeros(4, 3, 8, 8), torch.tensor([2, 2, 2, 2]), torch.tensor([3, 3, 4, 4]), among=5))
    sure = torch.tensor([[9.0, 0, 0], [0, 9, 0], [9, 0, 0], [0, 0, 9]])
    method._cure(sure, torch.tensor([2, 2, 2, 2]))
    assert method.cured == {3: 1, 4: 0}  # the last view of image 4 is as its label has it


def test_evaluation_relabels_nothing():
    method = _method().eval()
    _step(method, [1, 2], epoch=20)
    assert method.cured == {}


def test_a_network_without_pooled_features_is_refused():
    kind = DISTILLERS["scn"]
    with pytest.raises(ModelError, match="'scn' needs pooled features, which net does not offer"):
        kind(kind.Options(), Shapes("net", (), (), 0, 3, None, 0), None)
