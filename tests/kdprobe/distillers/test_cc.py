import pytest
import torch
import torch.nn.functional as F

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.cc import adjacent_loss, congruence_loss
from kdprobe.errors import AnalysisError
from kdprobe.models.stages import Features, Shapes
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("cc", only="kernel"))
def test_the_kernel_form_equals_the_original(case):
    student, given = leaf(case["emb_s"]), {"gamma": case["gamma"], "order": int(case["order"])}
    loss = congruence_loss(student, case["emb_t"], **given, normalised=case.description["normalised"])
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")


@pytest.mark.parametrize("case", cases("cc", only="adjacent"))
def test_the_adjacent_form_equals_the_original(case):
    student, teacher = leaf(case["emb_s"]), leaf(case["emb_t"])
    loss = adjacent_loss(student, teacher)
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")
    if "grad_t" in case:
        assert_tensor(case, teacher.grad, "grad_t")


def _method(width, teacher_width, **options):
    kind = DISTILLERS["cc"]
    shapes = (Shapes("net", (), (), size, 3, None, 0) for size in (width, teacher_width))
    return kind(kind.Options(**options), *shapes)


@pytest.mark.parametrize("case", cases("cc", only="embedded"))
def test_both_embeddings_are_trained_as_in_the_original(case):
    method = _method(7, 10, form="adjacent", dim=5, adjacent_weight=1).to(case.dtype)
    for side, layer in (("s", method.student_embedding), ("t", method.teacher_embedding)):
        layer.load_state_dict(case.weights(f"embed_{side}__linear__"))
    student, logits = leaf(case["feat_s"]), torch.zeros(6, 3)
    features = (Features(logits, pooled=pooled) for pooled in (student, case["feat_t"]))
    loss = method(*features, torch.zeros(6), Progress(0, 1))["congruence"]
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")
    assert_tensor(case, method.student_embedding.weight.grad, "grad_embed_s_weight")
    assert_tensor(case, method.teacher_embedding.weight.grad, "grad_embed_t_weight")


def test_the_series_nears_the_gaussian_kernel():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    kernels = [torch.exp(-0.3 * torch.cdist(x, x).square()) for x in map(F.normalize, (student, teacher))]
    loss = congruence_loss(student, teacher, gamma=0.3, order=20)
    torch.testing.assert_close(loss, F.mse_loss(*kernels), rtol=1e-12, atol=0)


def test_a_sample_without_features_passes_no_gradient():
    student = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    student[1] = 0
    student = leaf(student)
    congruence_loss(student, student.detach()[:, :3]).backward()
    assert not student.grad[1].any()
    assert student.grad.any()


def test_a_batch_of_one_has_no_neighbours():
    with pytest.raises(AnalysisError, match="neighbours in a batch of at least 2 samples, but got 1"):
        adjacent_loss(torch.ones(1, 4), torch.ones(1, 4))
    with pytest.raises(AnalysisError, match="neighbours in a batch of at least 2 samples, but got 0"):
        adjacent_loss(torch.ones(0, 4), torch.ones(0, 4))
    assert congruence_loss(torch.ones(1, 4), torch.ones(1, 3)).item() == pytest.approx(0, abs=1e-12)
