import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.adversary import adversarial_terms, score_discriminator
from kdprobe.distillers.cakd import (
    ConvQKV,
    GroupLinear,
    LinearQKV,
    attention_loss,
    group_index,
    ramp,
    scores,
    scores_loss,
)
from kdprobe.errors import ModelError
from kdprobe.models import create
from kdprobe.models.stages import Features, Shapes, measure
from tests.goldens import assert_tensor, assert_value, cases, leaf


def _projected(case, maps):
    out, channels = case["gl_weight"].shape[1:]
    projector = GroupLinear(channels, out, tuple(maps.shape[2:])).to(case.dtype)
    projector.load_state_dict({"weight": case["gl_weight"], "bias": case["gl_bias"]})
    return projector(maps.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("case", cases("cakd"))
def test_scores_equal_the_original(case):
    maps = leaf(case["feat_s"])
    attention = LinearQKV(maps.shape[1], case["heads"]).to(case.dtype)
    attention.load_state_dict({"qkv.weight": case["w_qkv"]})
    ours = scores(attention(maps), scale_values=True)
    assert_tensor(case, ours[0], "scores_qk")
    assert_tensor(case, ours[1], "scores_vv")
    loss = scores_loss(*ours, case["teacher_qk"][:, 1:, 1:], case["teacher_vv"][:, 1:, 1:])
    loss.backward()
    assert_value(case, loss, "loss_pca")
    assert_tensor(case, maps.grad, "grad_pca")


@pytest.mark.parametrize("case", cases("cakd"))
def test_group_wise_projection_equals_the_original(case):
    maps = leaf(case["feat_s"])
    tokens = _projected(case, maps)
    loss = F.mse_loss(tokens, case["teacher_feat"])
    loss.backward()
    assert_tensor(case, tokens, "proj_feat")
    assert_value(case, loss, "loss_gl_feat")
    assert_tensor(case, maps.grad, "grad_gl_feat")
    logits, token = (F.mse_loss(case[f"{name}_s"], case[f"{name}_t"]) for name in ("logits", "token"))
    assert_value(case, logits + token + 0.05 * loss, "loss_gl")


@pytest.mark.parametrize("case", [case for case in cases("cakd") if "ramp" in case.values[0]])
def test_the_ramp_equals_the_original(case):
    rounding = 1e-12 if case.dtype == torch.float64 else 1e-7
    assert [ramp(epoch) for epoch in case["epochs"].tolist()] == pytest.approx(case["ramp"].tolist(), abs=rounding)


def test_groups_are_squares_of_four():
    sizes = group_index(14, 14).bincount().tolist()
    assert sizes == [16, 16, 16, 8] * 3 + [8, 8, 8, 4]
    assert group_index(4, 6).tolist() == [0, 0, 0, 0, 1, 1] * 4


def test_full_mixing_makes_the_attentions_equal():
    student, teacher = torch.randn(2, 3, 2, 2, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    values = [qkv[2] @ qkv[2].mT / 2 for qkv in (student, teacher)]
    loss = attention_loss(student, teacher, mixing=1.0)
    torch.testing.assert_close(loss, F.mse_loss(*values))
    assert attention_loss(student, teacher, mixing=0.0) > loss
    assert attention_loss(teacher, teacher, mixing=0.5) == 0


def test_convolutions_give_the_teachers_heads():
    assert ConvQKV(6, 3, 8)(torch.rand(2, 6, 5, 4)).shape == (3, 2, 3, 20, 8)


@pytest.mark.parametrize("saturating", [True, False])
def test_one_backward_pass_trains_each_adversary_with_its_own_loss(saturating):
    torch.manual_seed(0)
    discriminator, real, fake = nn.Linear(4, 1), torch.randn(6, 4), leaf(torch.randn(6, 4))
    generator_loss, discriminator_loss = adversarial_terms(discriminator, real, fake, saturating=saturating)
    torch.testing.assert_close(
        discriminator_loss, -(discriminator(real).sigmoid().log() + (1 - discriminator(fake).sigmoid()).log()).mean()
    )
    verdict = discriminator(fake).sigmoid()
    torch.testing.assert_close(generator_loss, (1 - verdict).log().mean() if saturating else -verdict.log().mean())
    generator_loss.backward()
    assert fake.grad.any()
    assert discriminator.weight.grad is None
    fake.grad = None
    discriminator_loss.backward()
    assert fake.grad is None
    assert discriminator.weight.grad.any()


def test_the_dead_generator_of_the_readable_code_teaches_nothing():
    discriminator, fake = nn.Linear(4, 1), leaf(torch.randn(6, 4))
    generator_loss, _ = adversarial_terms(discriminator, torch.randn(6, 4), fake, saturating=False, dead=True)
    assert not generator_loss.requires_grad


TEACHER = Shapes("vit", ("blocks.0",), ((8, 4, 4),), 8, 3, (17, 8), 1, 1, (2, 17, 4), class_token=0)
STUDENT = Shapes("cnn", ("act1", "layer1", "layer2"), ((6, 8, 8), (6, 8, 8), (12, 4, 4)), 12, 3, None, 0)


def _features(n=4):
    generator = torch.Generator().manual_seed(0)
    maps = tuple(torch.randn(n, *shape, generator=generator).requires_grad_() for shape in STUDENT.maps)
    student = Features(
        torch.randn(n, 3, generator=generator), pooled=torch.randn(n, 12, generator=generator), maps=maps
    )
    tokens, qkv = torch.randn(n, 17, 8, generator=generator), torch.randn(3, n, 2, 17, 4, generator=generator)
    return student, Features(torch.randn(n, 3, generator=generator), tokens=tokens, qkv=qkv, n_prefix=1)


def _method(teacher=TEACHER, **options):
    kind = DISTILLERS["cakd"]
    return kind(kind.Options(**options), STUDENT, teacher)


@pytest.mark.parametrize("preset", ["paper", "code"])
@pytest.mark.parametrize("dead", [True, False])
def test_presets_reach_the_student_on_the_stage_of_the_teachers_grid(preset, dead):
    torch.manual_seed(0)
    method = _method(preset=preset, dead_generator=dead)
    student, teacher = _features()
    terms = method(student, teacher, torch.zeros(4).long(), Progress(40, 100))
    assert method.stage == 2
    assert terms["generator"].requires_grad is not dead
    sum(terms.values()).backward()
    assert student.maps[2].grad.any()
    assert all(parameter.grad is not None for parameter in method.parameters())
    expected = {"tokens", "attention", "generator", "discriminator"}
    assert set(terms) == (expected if preset == "paper" else expected | {"logits", "class_token"})


def test_the_code_preset_waits_for_epoch_25():
    student, teacher = _features()
    terms = _method(preset="code").eval()(student, teacher, torch.zeros(4).long(), Progress(10, 100))
    assert all((value == 0) == (name != "discriminator") for name, value in terms.items())


def test_heads_must_divide_the_channels():
    assert _method(preset="code").attention.heads == 12
    with pytest.raises(ModelError, match="cakd: 5 heads do not divide the 12 channels"):
        _method(preset="code", heads=5)


def test_an_unknown_stage_is_named():
    with pytest.raises(ModelError, match="cakd: there is no stage 9, cnn has stages 0 to 2"):
        _method(stage=9)


def test_the_generator_counts_a_tenth_in_the_paper_and_as_much_as_the_rest_in_the_code():
    student, teacher = _features()

    def generator_term(**options):
        torch.manual_seed(0)
        terms = _method(warmup=False, **options).eval()(student, teacher, torch.zeros(4).long(), Progress(40, 100))
        return terms["generator"].item()

    for preset, weight in (("paper", 0.1), ("code", 1.0)):
        full = generator_term(preset=preset, adversarial_weight=1.0)
        assert generator_term(preset=preset) == pytest.approx(weight * full, rel=1e-6)
        assert full > 0


@pytest.mark.parametrize("n", [1, 4, 9, 16, 49, 196])
def test_the_discriminator_judges_score_maps_of_any_size(n):
    assert score_discriminator()(torch.randn(2, 1, n, n)).shape == (2, 1)


def test_scores_are_taken_in_float32():
    qkv = torch.randn(3, 2, 2, 9, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = scores(qkv, scale_values=True)
    for ours, expected in zip(found, scores(qkv.float(), scale_values=True), strict=True):
        assert torch.equal(ours, expected)


def test_a_teacher_without_attention_is_refused():
    kind = DISTILLERS["cakd"]
    with pytest.raises(ModelError, match="not defined for the teacher cnn; ofa and dropkd take any pair"):
        kind(kind.Options(), STUDENT, STUDENT)


@pytest.mark.parametrize("args", [{}, {"reg_tokens": 2}])
def test_neither_a_patch_nor_a_register_is_taken_for_the_class_token(args):
    args = {"patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2, "global_pool": "avg", **args}
    vit = create("vit_tiny_patch16_224", n_classes=3, image_size=32, args={"class_token": False, **args})
    teacher = measure(vit)
    assert (teacher.n_prefix, teacher.class_token) == (args.get("reg_tokens", 0), None)
    with pytest.raises(ModelError, match="preset=code learns from a class token, which the teacher vit_tiny_pat"):
        _method(teacher, preset="code")
    assert _method(teacher)
    assert measure(create("vit_tiny_patch16_224", n_classes=3, image_size=32, args=args)).class_token == 0


def test_an_attention_without_the_class_token_is_refused():
    args = {"patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2}
    teacher = measure(create("cait_xxs24_224", n_classes=3, image_size=32, args=args))
    assert teacher.qkv[1] == teacher.tokens[0] - 1
    with pytest.raises(ModelError, match="is not defined for the teacher cait_xxs24_224; ofa and dropkd take any pair"):
        _method(teacher)
