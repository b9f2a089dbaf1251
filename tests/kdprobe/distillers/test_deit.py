import pytest
import torch
import torch.nn.functional as F

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.deit import token_loss
from kdprobe.distillers.kd import kd_loss
from kdprobe.errors import ModelError
from kdprobe.models import create
from kdprobe.models.stages import Features, Stages, measure
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", [*cases("deit", only="hard"), *cases("deit", only="soft")])
def test_equals_the_original(case):
    by_class, by_token, kind = leaf(case["logits_cls"]), leaf(case["logits_dist"]), case.description["kind"]
    smoothing = 0.1 if case.description["base"] == "smooth" else 0.0
    base = F.cross_entropy(by_class, case["target"], label_smoothing=smoothing)
    token = token_loss(by_token, case["logits_t"], kind=kind, temperature=case["tau"])
    total = (1 - case["alpha"]) * base + case["alpha"] * token
    total.backward()
    for value, key in [(base, "loss_base"), (token, "loss_token"), (total, "loss")]:
        assert_value(case, value, key)
    for logits, key in [(by_class, "grad_cls"), (by_token, "grad_dist")]:
        assert_tensor(case, logits.grad, key)
    if kind == "soft":
        divergence = kd_loss(by_token, case["logits_t"], temperature=case["tau"])
        assert_value(case, divergence, "loss_token_batchmean")


def test_labels_are_for_the_class_token_and_the_two_classifiers_vote():
    args = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = create("deit_tiny_distilled_patch16_224", n_classes=4, image_size=32, args=args).eval()
    features = Stages(model, needs=("tokens", "head"))(torch.rand(2, 3, 32, 32))
    kind = DISTILLERS["deit"]
    method = kind(kind.Options(token_weight=2), measure(model), measure(create("resnet8", n_classes=4, image_size=32)))
    by_token = model.head_dist(features.tokens[:, 1])
    assert torch.equal(method.logits(features), model.head(features.tokens[:, 0]))
    torch.testing.assert_close(features.logits, (method.logits(features) + by_token) / 2)
    teacher = torch.tensor([[0.0, 1, 0, 0], [0, 0, 3, 0]])
    found = method(features, Features(teacher), torch.zeros(2, dtype=torch.int64), Progress(0, 1))
    torch.testing.assert_close(found["token"], 2 * F.cross_entropy(by_token, torch.tensor([1, 2])))


@pytest.mark.parametrize("name", ["resnet8", "vit_tiny_patch16_224"])
def test_a_student_without_a_distillation_token_is_refused(name):
    args = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2} if name.startswith("vit") else {}
    student = measure(create(name, n_classes=4, image_size=32, args=args))
    with pytest.raises(ModelError, match=f"deit teaches the tokens .* is not defined for the student {name}; ofa and"):
        DISTILLERS["deit"](DISTILLERS["deit"].Options(), student, student)
