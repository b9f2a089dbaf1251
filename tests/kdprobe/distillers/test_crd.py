from math import exp, log

import pytest
import torch
import torch.nn.functional as F

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.crd import contrast_loss
from kdprobe.models.stages import Features, Shapes


def _units(n, d, seed):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def test_equals_the_definition():
    anchors, positives, others = _units(3, 4, 0), _units(3, 4, 1), _units(5, 4, 2)
    is_negative = torch.tensor([[1, 1, 0, 0, 1], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    total = 0.0
    for i in range(3):
        n = int(is_negative[i].sum())
        ratio = exp(float(anchors[i] @ positives[i]) / 0.5 - 0.3)
        total -= log(ratio / (ratio + n))
        for j in range(5):
            if is_negative[i, j]:
                ratio = exp(float(anchors[i] @ others[j]) / 0.5 - 0.3)
                total -= log(n / (ratio + n))
    loss = contrast_loss(anchors, positives, others, is_negative, temperature=0.5, log_scale=0.3)
    assert loss.item() == pytest.approx(total / 3, rel=1e-12)


def test_agreement_costs_less_than_disagreement():
    anchors, others = _units(4, 8, 0), _units(6, 8, 1)
    negative = torch.ones(4, 6, dtype=torch.bool)
    agree = contrast_loss(anchors, anchors, others, negative, temperature=0.07)
    assert agree < contrast_loss(anchors, -anchors, others, negative, temperature=0.07)


def test_without_negatives_it_is_zero():
    anchors = _units(2, 4, 0)
    loss = contrast_loss(anchors, -anchors, anchors, torch.zeros(2, 2, dtype=torch.bool), temperature=0.07)
    assert loss == 0


def _method(*, dim=4, **options):
    kind = DISTILLERS["crd"]
    shapes = Shapes("net", (), (), 6, 3, None, 0)
    return kind(kind.Options(dim=dim, **options), shapes, shapes)


def _features(n, seed):
    pooled = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return Features(torch.zeros(n, 3), pooled=pooled)


def test_remembers_the_most_recent_embeddings():
    method = _method(memory=5)
    for step in range(3):
        labels = torch.tensor([step, step])
        term = method(_features(2, step), _features(2, step + 10), labels, Progress(0, 1))["contrast"]
        assert term.isfinite()
    assert method.label_memory.tolist() == [2, 2, 1, 1, 0]
    assert torch.equal(method.teacher_memory.norm(dim=1) > 0, torch.ones(5, dtype=torch.bool))


def test_evaluation_changes_nothing():
    method = _method(memory=8)
    method(_features(2, 0), _features(2, 1), torch.tensor([0, 1]), Progress(0, 1))
    memory = method.student_memory.clone()
    method.eval()(_features(2, 2), _features(2, 3), torch.tensor([1, 2]), Progress(0, 1))
    assert torch.equal(method.student_memory, memory)


@pytest.mark.parametrize(("dim", "temperature"), [(128, 0.07), (64, 0.1), (256, 0.07)])
def test_the_scale_is_what_a_random_memory_comes_to(dim, temperature):
    generator = torch.Generator().manual_seed(0)
    memory = (torch.rand(20_000, dim, generator=generator, dtype=torch.float64) * 2 - 1) * (3 / dim) ** 0.5
    similarities = memory @ _units(50, dim, 1).mT / temperature
    log_scale = _method(dim=dim, temperature=temperature, memory=4).log_scale
    assert log_scale == pytest.approx(float(similarities.exp().mean().log()), abs=0.03)


def test_dead_features_and_a_batch_of_one_are_finite():
    method = _method(memory=8)
    dead = Features(torch.zeros(1, 3), pooled=torch.zeros(1, 6, requires_grad=True))
    for label in (0, 1):
        term = method(dead, dead, torch.tensor([label]), Progress(0, 1))["contrast"]
        assert term.isfinite()
    term.backward()
    assert dead.pooled.grad.isfinite().all()
