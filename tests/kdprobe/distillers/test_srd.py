import pytest
import torch
import torch.nn.functional as F

from kdprobe.config.parsing import check_method
from kdprobe.distillers import DISTILLERS, Progress, option_types
from kdprobe.distillers.kd import kd_loss
from kdprobe.distillers.srd import srd_correlation_loss, srd_loss, vkd_loss
from kdprobe.models.stages import Features, Shapes
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("srd", only="power"))
def test_equals_the_original(case):
    student, logits, weights = leaf(case["feat_s"]), leaf(case["logits_s"]), case.weights("embed__")
    weight = leaf(weights["weight"])
    projected = F.linear(student, weight, weights["bias"])
    loss = srd_loss(projected, case["feat_t"], exponent=case["exponent"], eps=case["eps"])
    assert_value(case, loss, "loss_feature")
    total = 2 * loss + kd_loss(logits, case["logits_t"], temperature=1.0)
    total.backward()
    assert_value(case, total, "total")
    assert_tensor(case, student.grad, "grad_s")
    assert_tensor(case, weight.grad, "grad_embed_weight")
    assert_tensor(case, logits.grad, "grad_logits_s")


@pytest.mark.parametrize("case", cases("srd", only="correlation"))
def test_the_form_for_deit_equals_the_original(case):
    student, weights = leaf(case["feat_s"]), case.weights("embed__")
    loss = srd_correlation_loss(F.linear(student, weights["weight"], weights["bias"]), case["feat_t"])
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")


@pytest.mark.parametrize("case", cases("srd", only="vkd"))
def test_vkd_equals_the_original(case):
    student, weight = leaf(case["feat_s"]), leaf(case["weight"])
    loss = vkd_loss(F.linear(student, weight), case["feat_t"])
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")
    assert_tensor(case, weight.grad, "grad_weight")


@pytest.mark.parametrize("loss", [srd_loss, srd_correlation_loss, vkd_loss])
@pytest.mark.parametrize("student", [torch.zeros(5, 4), torch.full((5, 4), 0.1), torch.ones(1, 4), torch.eye(4)[:2]])
def test_degenerate_features_give_finite_gradients(loss, student):
    for teacher in (torch.eye(5)[: len(student), :4], student):
        ours = leaf(student)
        value = loss(ours, teacher)
        value.backward()
        assert value.isfinite()
        assert ours.grad.abs().max() < 100


def _method(width=6, teacher_width=8, tokens=None, **options):
    kind = DISTILLERS["srd"]
    shapes = Shapes("net", (), (), width, 3, tokens, 2), Shapes("net", (), (), teacher_width, 3, None, 0)
    return kind(kind.Options(**options), *shapes)


@pytest.mark.parametrize("widths", [(6, 8), (6, 6), (8, 3)])
def test_the_orthogonal_projector_keeps_distances(widths):
    torch.manual_seed(0)
    method = _method(*widths, projector="orthogonal", form="vkd")
    pooled = torch.randn(4, widths[0])
    features = Features(torch.zeros(4, 3), pooled=pooled), Features(torch.ones(4, 3), pooled=torch.randn(4, widths[1]))
    for _ in range(2):  # also after a step
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = method(*features, torch.zeros(4), Progress(0, 1))
        torch.stack(list(terms.values())).sum().backward()
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.sub_(parameter.grad, alpha=0.5)
        weight = method.projector.weight.detach()
        columns = weight if widths[1] >= widths[0] else weight.mT
        torch.testing.assert_close(columns.mT @ columns, torch.eye(min(widths)), rtol=0, atol=1e-5)


def test_students_with_tokens_give_the_mean_of_their_patches():
    torch.manual_seed(0)
    method = _method(tokens=(2 + 4, 6), kd_weight=0)
    assert (method.student_needs, method.teacher_needs) == (("tokens",), ("pooled",))
    tokens, teacher = torch.randn(5, 6, 6), Features(torch.zeros(5, 3), pooled=torch.randn(5, 8))
    found = method(Features(torch.zeros(5, 3), tokens=tokens, n_prefix=2), teacher, torch.zeros(5), Progress(0, 1))
    expected = 2 * srd_loss(method.projector(tokens[:, 2:].mean(1)), teacher.pooled)
    torch.testing.assert_close(found, {"features": expected})


def test_an_exponent_whose_powers_overflow_is_refused():
    (mistake,) = check_method({"name": "srd", "exponent": 1e6}, option_types())[1]
    assert mistake == "method.exponent: input should be less than or equal to 16, but is 1000000.0"
    opposite = torch.tensor([1.0, -1.0]).repeat(2048)[:, None] * torch.ones(8)
    assert srd_loss(opposite, -opposite, exponent=16.0).isfinite()
