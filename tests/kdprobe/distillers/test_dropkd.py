import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kdprobe.distillers.base import Progress
from kdprobe.distillers.dropkd import DropKD, DropKDOptions, excluded_kd_loss, feature_distance
from kdprobe.distillers.kd import kd_loss
from kdprobe.distillers.projection import Projection, drop, keep_masks
from kdprobe.errors import ModelError
from kdprobe.models import Features, Stages, create
from kdprobe.models.stages import measure

VIT = {"patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 3}
LATE = Progress(epoch=50, n_epochs=100)
AUXILIARY_TERMS = {
    "classifier_teacher",
    "classifier_student",
    "reconstruction_teacher",
    "reconstruction_student",
}


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    teacher = create("vit_tiny_patch16_224", n_classes=5, image_size=32, args=VIT).eval().requires_grad_(False)
    student = create("resnet8", n_classes=5, image_size=32).train()
    return teacher, student


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 32, 32, generator=generator), torch.randint(5, (8,), generator=generator)


def build(networks, **options):
    torch.manual_seed(2)
    teacher, student = networks
    return DropKD(DropKDOptions(dim=16, **options), measure(student), measure(teacher))


def step(method, networks, batch, progress=LATE):
    teacher, student = networks
    images, labels = batch
    student.zero_grad()
    method.zero_grad()
    with torch.no_grad():
        taught = Stages(teacher, needs=method.teacher_needs)(images)
    features = Stages(student, needs=method.student_needs)(images)
    return method(features, taught, labels, progress)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 0.95), st.floats(0, 0.95), st.integers(0, 1000))
def test_nested_masks_are_nested_and_equal_for_equal_rates(a, b, seed):
    torch.manual_seed(seed)
    keep_a, keep_b = keep_masks(torch.zeros(50, 20), rates=(a, b), nested=True)
    assert (keep_a <= keep_b).all() if a >= b else (keep_b <= keep_a).all()
    if a == b:
        assert torch.equal(keep_a, keep_b)


def test_independent_masks_are_independent_and_have_their_rates():
    torch.manual_seed(0)
    a, b = keep_masks(torch.zeros(400, 500), rates=(0.3, 0.6), nested=False)
    assert a.float().mean().item() == pytest.approx(0.7, abs=0.005)
    assert b.float().mean().item() == pytest.approx(0.4, abs=0.005)
    assert (a & b).float().mean().item() == pytest.approx(0.28, abs=0.005)


def test_dropping_keeps_the_expectation():
    torch.manual_seed(0)
    x = torch.full((1000, 1000), 3.0)
    dropped = drop(x, keep_masks(x, rates=(0.4, 0.0), nested=True)[0], 0.4)
    assert dropped.mean().item() == pytest.approx(3.0, rel=0.005)
    assert set(dropped.unique().tolist()) == {0.0, 5.0}


@pytest.mark.parametrize(("granularity", "dims"), [("channel", (2, 3)), ("position", (1,)), ("element", None)])
def test_granularity_drops_as_a_whole(networks, granularity, dims):
    method = build(networks, granularity=granularity).train()
    x = torch.ones(4, 16, 8, 8)
    dropped = method._drop_features(x, x)["student"]
    assert 0.3 < (dropped == 0).float().mean() < 0.7
    if dims:
        whole = dropped.amax(dims) == dropped.amin(dims)
        assert whole.all()
    else:
        assert (dropped.amax((2, 3)) != dropped.amin((2, 3))).any()


def test_feature_distance_is_zero_for_parallel_maps_and_has_its_bounds():
    torch.manual_seed(0)
    x = torch.randn(3, 6, 4, 4, dtype=torch.float64)
    assert feature_distance(2.5 * x, x, metric="normalised").item() == pytest.approx(0, abs=1e-12)
    assert feature_distance(-x, x, metric="normalised").item() == pytest.approx(4)
    y = torch.randn_like(x)
    cosine = 1 - F.cosine_similarity(x, y, dim=1).mean()
    assert feature_distance(x, y, metric="cosine").item() == pytest.approx(cosine.item())
    assert feature_distance(x, y, metric="mse").item() == pytest.approx((x - y).square().mean().item())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(1, 8))
def test_excluding_no_class_is_vanilla_kd_and_some_is_kd_over_the_rest(seed, temperature):
    generator = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    everything = torch.ones(6, 5, dtype=torch.bool)
    full = excluded_kd_loss(s, t, everything, temperature=temperature)
    assert full.item() == pytest.approx(kd_loss(s, t, temperature=temperature).item())
    keep = everything.clone()
    keep[:, [1, 3]] = False
    rest = kd_loss(s[:, [0, 2, 4]], t[:, [0, 2, 4]], temperature=temperature)
    assert excluded_kd_loss(s, t, keep, temperature=temperature).item() == pytest.approx(rest.item())


def test_samples_without_any_class_are_skipped_with_finite_gradients():
    s = torch.randn(3, 4, requires_grad=True)
    keep = torch.tensor([[True] * 4, [False] * 4, [True, False, True, False]])
    loss = excluded_kd_loss(s, torch.randn(3, 4), keep, temperature=2.0)
    loss.backward()
    assert torch.isfinite(s.grad).all()
    assert s.grad[1].abs().sum() == 0
    nothing = excluded_kd_loss(s, torch.randn(3, 4), torch.zeros(3, 4, dtype=torch.bool), temperature=2.0)
    assert nothing.item() == 0


def test_terms_and_their_gradients_reach_only_what_they_should(networks, batch):
    teacher, student = networks
    method = build(networks).train()
    terms = step(method, networks, batch)
    assert set(terms) == {"feature", "logit"} | AUXILIARY_TERMS
    (terms["feature"] + terms["logit"]).backward()
    assert not [n for n, p in method.teacher_projections.named_parameters() if p.grad is not None and p.grad.any()]
    assert student.layer3[0].conv1.weight.grad.abs().sum() > 0

    terms = step(method, networks, batch)
    (terms["classifier_teacher"] + terms["reconstruction_teacher"]).backward()
    assert all(p.grad is not None for p in method.teacher_projections.parameters())
    assert student.conv1.weight.grad is None or not student.conv1.weight.grad.any()
    assert all(p.grad is None for p in teacher.parameters())


def test_every_auxiliary_parameter_learns(networks, batch):
    method = build(networks).train()
    sum(step(method, networks, batch).values()).backward()
    assert not [name for name, p in method.named_parameters() if p.grad is None]


def test_detaching_keeps_the_reconstruction_away_from_the_student(networks, batch):
    _, student = networks
    method = build(networks, detach_auxiliary=True).train()
    step(method, networks, batch)["reconstruction_student"].backward()
    assert student.conv1.weight.grad is None
    method = build(networks).train()
    step(method, networks, batch)["reconstruction_student"].backward()
    assert student.conv1.weight.grad.abs().sum() > 0


def test_evaluation_drops_nothing_and_is_deterministic(networks, batch):
    method = build(networks).eval()
    first, second = (step(method, networks, batch) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    rateless = build(networks, **dict.fromkeys(RATES, 0.0)).eval()
    rateless.load_state_dict(method.state_dict())
    third = step(rateless, networks, batch)
    assert all(torch.equal(first[name], third[name]) for name in first)


RATES = ("feature_rate_teacher", "feature_rate_student", "logit_rate_teacher", "logit_rate_student")


def test_without_dropout_and_auxiliaries_it_is_kd_plus_projected_matching(networks, batch):
    weights = {"classifier_weight": 0.0, "reconstruction_weight": 0.0, "temperature": 3.0}
    method = build(networks, **dict.fromkeys(RATES, 0.0), **weights, logit_source="logits").train()
    terms = step(method, networks, batch)
    teacher, student = networks
    images, _ = batch
    with torch.no_grad():
        expected = kd_loss(student(images), teacher(images), temperature=3.0)
    assert terms["logit"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert all(terms[name].item() == 0 for name in AUXILIARY_TERMS)


def test_dropping_before_the_own_heads_uses_them(networks, batch):
    method = build(networks, **dict.fromkeys(RATES, 0.0), logit_source="head", temperature=3.0).train()
    terms = step(method, networks, batch)
    teacher, student = networks
    with torch.no_grad():
        expected = kd_loss(student(batch[0]), teacher(batch[0]), temperature=3.0)
    assert terms["logit"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"mask": "independent"},
        {"encoder": "token"},
        {"grid": "teacher"},
        {"grid": "teacher", "resize": "bilinear"},
        {"stages": (-2, -1)},
        {"stages": (1, 2, 3)},
        {"metric": "mse"},
        {"metric": "cosine"},
        {"logit_source": "head"},
        {"logit_source": "logits", "dropped": "zero"},
        {"logit_source": "logits", "dropped": "exclude"},
        {"logit_source": "logits", "dropped": "exclude", "mask": "independent", "logit_rate_student": 0.9},
    ],
    ids=str,
)
def test_every_option_gives_finite_losses_and_gradients(networks, batch, options):
    _, student = networks
    method = build(networks, **options).train()
    sum(step(method, networks, batch).values()).backward()
    gradients = [p.grad for p in [*student.parameters(), *method.parameters()] if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)
    assert student.conv1.weight.grad.abs().sum() > 0


def test_stages_are_paired_by_relative_depth(networks):
    assert build(networks, stages=(-1,)).pairs == ((3, 3),)
    assert build(networks, stages=(1, 3)).pairs == ((1, 1), (3, 3))
    teacher = create("vit_tiny_patch16_224", n_classes=5, image_size=32, args={**VIT, "depth": 8})
    method = DropKD(DropKDOptions(dim=8, stages=(0, 1, 2, 3)), measure(networks[1]), measure(teacher))
    assert method.pairs == ((0, 1), (1, 3), (2, 5), (3, 7))
    with pytest.raises(ModelError, match="dropkd: there is no stage 7, resnet8 has stages 0 to 3"):
        build(networks, stages=(7,))


def test_decoders_are_compared_only_at_equal_widths(networks, batch):
    with pytest.raises(ModelError, match="the teacher's map has 24 channels and the student's 64; use space: encoder"):
        build(networks, space="decoder")
    student = networks[1]
    twin = create("resnet14", n_classes=5, image_size=32).eval().requires_grad_(False)
    method = DropKD(DropKDOptions(dim=8, space="decoder"), measure(student), measure(twin)).train()
    assert torch.isfinite(step(method, (twin, student), batch)["feature"])


def test_distillation_warms_up_after_pretraining(networks, batch):
    method = build(networks, warmup=0.1, pretraining_epochs=5).train()
    values = []
    for epoch in (0, 5, 10, 15, 60):
        torch.manual_seed(3)
        values.append(step(method, networks, batch, Progress(epoch, 100))["feature"].item())
    assert values[:2] == [0, 0]
    assert values[2] == pytest.approx(values[3] / 2, rel=1e-3)
    assert values[3] == pytest.approx(values[4], rel=1e-3)


def test_both_projections_have_one_architecture_and_no_shared_weight(networks):
    method = build(networks)
    teacher, student = method.teacher_projections[0], method.student_projections[0]
    assert [type(m) for m in teacher.modules()] == [type(m) for m in student.modules()]
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in student.parameters()}


@pytest.mark.parametrize("space", ["encoder", "decoder"])
def test_a_detached_reconstruction_teaches_its_decoder_alone(space, networks, batch):
    student = create("resnet8", n_classes=5, image_size=32).train()
    twin = create("resnet14", n_classes=5, image_size=32).eval().requires_grad_(False)
    shapes = measure(student), measure(twin)
    method = DropKD(DropKDOptions(dim=8, space=space, detach_auxiliary=True), *shapes).train()
    step(method, (twin, student), batch)["reconstruction_student"].backward()
    assert all(parameter.grad is None for parameter in student.parameters())
    projection = method.student_projections[0]
    assert all(parameter.grad is None for parameter in projection.encoder.parameters())
    assert all(parameter.grad is not None for parameter in projection.decoder.parameters())
    step(method, (twin, student), batch)["feature"].backward()
    assert student.conv1.weight.grad.any()


@pytest.mark.parametrize("encoder", ["conv", "token"])
def test_a_projection_keeps_the_grid(encoder):
    projection = Projection(6, 10, 3, encoder=encoder)
    encoded = projection.encoder(torch.randn(2, 6, 5, 5))
    assert encoded.shape == (2, 10, 5, 5)
    assert projection.decoder(encoded).shape == (2, 6, 5, 5)


def test_reconstruction_is_about_one_for_an_untrained_zero_decoder(networks, batch):
    method = build(networks, reconstruction_weight=1.0).eval()
    for projection in method.teacher_projections:
        torch.nn.init.zeros_(projection.decoder[-1].weight)
        torch.nn.init.zeros_(projection.decoder[-1].bias)
    assert step(method, networks, batch)["reconstruction_teacher"].item() == pytest.approx(1, rel=1e-3)


def test_classifier_terms_start_near_chance(networks, batch):
    method = build(networks).eval()
    assert abs(step(method, networks, batch)["classifier_teacher"].item() - math.log(5)) < 1


def test_a_teacher_and_stages_are_needed(networks):
    shapes = measure(networks[1])
    with pytest.raises(ModelError, match="method 'dropkd' needs a teacher"):
        DropKD(DropKDOptions(), shapes, None)
    from dataclasses import replace

    flat = replace(shapes, maps=(), names=())
    with pytest.raises(ModelError, match="method 'dropkd' needs stage maps, which resnet8 does not offer"):
        DropKD(DropKDOptions(), flat, shapes)


def test_features_of_another_precision_are_widened():
    x = torch.randn(2, 4, 3, 3, dtype=torch.bfloat16)
    assert feature_distance(x, x.flip(0), metric="normalised").dtype == torch.float32
    assert Features(logits=x).maps == ()


def test_a_dropped_position_passes_no_gradient_on():
    student = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0)).half()
    student[:, :, 1, 1] = 0
    student.requires_grad_()
    feature_distance(student, torch.ones(2, 4, 3, 3), metric="normalised").backward()
    assert student.grad.isfinite().all()
    assert not student.grad[:, :, 1, 1].any()
