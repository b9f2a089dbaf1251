import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdprobe.distillers import DISTILLERS
from kdprobe.distillers.cskd import (
    dense_logits,
    dense_loss,
    fused_teacher,
    fusion_ratio,
    token_logits,
)
from kdprobe.distillers.deit import token_loss
from kdprobe.errors import ModelError
from kdprobe.models import create
from kdprobe.models.stages import Stages, measure
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("cskd"))
def test_equals_the_original(case):
    decay, token_kind, dense_kind = (case.description[key] for key in ("decay", "deit", "cskd"))
    by_class, by_token, patches = (leaf(case[key]) for key in ("logits_cls", "logits_dist", "dense_s"))
    ratio = fusion_ratio(case["epoch"] / case["max_epoch"], decay)
    assert ratio == pytest.approx(case["ratio"], rel=1e-9, abs=1e-15)
    dense = patches.transpose(1, 2).unflatten(2, (14, 14))
    assert_tensor(case, F.adaptive_avg_pool2d(dense, 7), "aligned")
    base = F.cross_entropy(by_class, case["target"])
    teacher = case["dense_t"]
    token = token_loss(by_token, teacher.mean(dim=(2, 3)), kind=token_kind, temperature=case["tau"])
    spatial = dense_loss(dense, fused_teacher(teacher, ratio), kind=dense_kind, temperature=case["tau"])
    total = (1 - case["alpha"]) * base + case["alpha"] * token + case["weight"] * spatial
    total.backward()
    for value, key in [(base, "loss_base"), (token, "loss_deit"), (spatial, "loss_cskd"), (total, "loss")]:
        assert_value(case, value, key)
    for logits, key in [(by_class, "grad_cls"), (by_token, "grad_dist"), (patches, "grad_dense")]:
        assert_tensor(case, logits.grad, key)


@pytest.mark.parametrize("decay", ["linear", "x2", "cos"])
def test_decay_equals_the_table(decay):
    table = next(case.values[0] for case in cases("cskd", only="decay table"))
    ratios = [fusion_ratio(x, decay) for x in table["x"].tolist()]
    assert ratios == pytest.approx(table[f"decay_{decay}"].tolist(), abs=1e-15)


def test_the_fused_teacher_goes_from_local_to_global():
    dense = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(fused_teacher(dense, 1.0), dense)
    torch.testing.assert_close(fused_teacher(dense, 0.0), dense.mean(dim=(2, 3), keepdim=True).expand_as(dense))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_huge_logits_give_finite_losses_and_gradients(kind):
    teacher = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(1)).sign() * 1e4
    student = leaf(-teacher)
    loss = dense_loss(student, teacher, kind=kind)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_the_mean_of_the_dense_logits_is_the_logits_of_the_mean():
    head = nn.Linear(6, 4)
    maps = torch.randn(2, 6, 3, 5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(dense_logits(maps, head).mean(dim=(2, 3)), head(maps.mean(dim=(2, 3))))


def _distilled():
    args = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return create("kdprobe.models.dense_deit:dense_deit", n_classes=4, image_size=32, args=args).eval()


def test_three_heads_vote_at_inference():
    model = _distilled()
    features = Stages(model, needs=("tokens", "head"))(torch.rand(2, 3, 32, 32))
    by_class, by_token, dense = token_logits(features)
    kind = DISTILLERS["cskd"]
    method = kind(kind.Options(), measure(model), measure(create("resnet8", n_classes=4, image_size=32)))
    assert torch.equal(method.logits(features), by_class)
    assert dense.shape == (2, 4, 4, 4)
    torch.testing.assert_close(features.logits, (by_class + by_token + dense.mean(dim=(2, 3))) / 3)
    assert model.forward_head(features.tokens, pre_logits=True).shape == (2, 32)


def test_the_dense_logits_lie_in_rows():
    model = _distilled()
    features = Stages(model, needs=("tokens", "head"))(torch.rand(1, 3, 32, 32))
    dense = token_logits(features)[2]
    torch.testing.assert_close(dense[0, :, 1, 2], model.head_dist(features.tokens[0, 2 + 6]))


@pytest.mark.parametrize("name", ["mobilenetv2_035", "convnext_atto"])
def test_the_teacher_must_classify_the_plain_mean_of_its_last_map(name):
    kind = DISTILLERS["cskd"]
    student, teacher = measure(_distilled()), measure(create(name, n_classes=4, image_size=32))
    with pytest.raises(ModelError, match=f"not defined for {name}, which does not classify that map's"):
        kind(kind.Options(), student, teacher)


def test_the_teacher_is_fused_in_float32():
    dense = torch.randn(2, 5, 7, 7, generator=torch.Generator().manual_seed(3)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = fused_teacher(dense, 0.3)
    assert torch.equal(fused, fused_teacher(dense.float(), 0.3))
