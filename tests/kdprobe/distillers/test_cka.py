import pytest
import torch

from analyses.cka import minibatch_cka
from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.cka import batch_hsic, cka_loss
from kdprobe.models.stages import Features, Shapes
from tests.goldens import cases, leaf


def _features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("case", cases("hsic_cka", only="hsic"))
def test_equals_exact_hsic_and_cka(case):
    rtol = 1e-7 if case.dtype == torch.float64 else 1e-3
    found = batch_hsic(case["x"], case["y"])
    for value, key in zip(found, ("hsic_xy", "hsic_xx", "hsic_yy"), strict=True):
        scale = (case["hsic_xx"] * case["hsic_yy"]) ** 0.5 if key == "hsic_xy" else case[key]
        assert abs(value.item() - case[key]) <= rtol * abs(scale)
    assert abs(1 - cka_loss(found, found).item() - case["cka"]) <= rtol


def test_averages_over_batches_give_minibatch_cka():
    x, y = _features(5, 8, 3), _features(5, 8, 4, seed=1) + _features(5, 8, 3)[..., :1]
    batches = torch.stack([batch_hsic(*pair) for pair in zip(x, y, strict=True)])
    loss = cka_loss(batches[0], batches.mean(0))
    assert loss.item() == pytest.approx(1 - minibatch_cka(x, y), rel=1e-12)


def test_the_gradient_is_that_of_the_batch_at_the_averages():
    def ratio(hsic):
        return hsic[0] / (hsic[1] * hsic[2]).sqrt()

    student, teacher = leaf(_features(7, 5)), _features(7, 3, seed=1)
    others = batch_hsic(_features(9, 5, seed=2), _features(9, 3, seed=3))
    averages = 0.3 * batch_hsic(student, teacher) + 0.7 * others
    (expected,) = torch.autograd.grad(-ratio(averages) / 0.3, student)
    cka_loss(batch_hsic(student, teacher), averages).backward()
    torch.testing.assert_close(student.grad, expected, rtol=1e-10, atol=1e-14)
    single = leaf(student.detach())
    own = batch_hsic(single, teacher)
    cka_loss(own, own).backward()
    (expected,) = torch.autograd.grad(-ratio(batch_hsic(student, teacher)), student)
    torch.testing.assert_close(single.grad, expected, rtol=1e-10, atol=1e-14)


def test_averages_over_small_batches_tell_the_similarity_and_single_ones_do_not():
    common = _features(1000, 10)
    x, y = (common @ _features(10, d, seed=d) + 3 * _features(1000, d, seed=d + 1) for d in (48, 64))
    everything = batch_hsic(x, y)
    of_four = torch.stack([batch_hsic(*pair) for pair in zip(x.split(4), y.split(4), strict=True)])
    truth = cka_loss(everything, everything)
    assert cka_loss(of_four[0], of_four.mean(0)).item() == pytest.approx(truth.item(), abs=0.03)
    assert cka_loss(of_four, of_four).mean() > truth + 0.05


def test_scale_shift_and_rotation_leave_it_and_the_gradient_does_not_scale():
    student, teacher = leaf(_features(8, 5)), _features(8, 2, 3, 3, seed=1)
    hsic = batch_hsic(student, teacher)
    loss = cka_loss(hsic, hsic)
    loss.backward()
    rotation = torch.linalg.qr(_features(5, 5, seed=2)).Q
    moved = batch_hsic(3 * student.detach() @ rotation + 100, teacher)
    torch.testing.assert_close(cka_loss(moved, moved), loss.detach(), rtol=1e-9, atol=0)
    assert abs((student.grad * student.detach()).sum()) < 1e-12


@pytest.mark.parametrize("student", [torch.zeros(6, 4), torch.full((6, 4), 0.1), torch.ones(3, 4), torch.ones(1, 4)])
def test_without_variation_or_samples_there_is_no_gradient(student):
    student, zeros = leaf(student), torch.zeros(3, dtype=torch.float64)
    teacher = torch.eye(6)[: len(student)]
    for averages in (zeros, torch.tensor([0.5, 1.0, 1.0], dtype=torch.float64)):
        loss = cka_loss(batch_hsic(student, teacher), averages)
        loss.backward()
        assert loss == 1 - averages[0]
        assert not student.grad.any()


def _method(**options):
    maps = ((4, 8, 8), (6, 4, 4))
    shapes = Shapes("net", ("layer1", "layer2"), maps, 6, 3, None, 0)
    return DISTILLERS["cka"](DISTILLERS["cka"].Options(**options), shapes, shapes)


def _maps(n, seed):
    shapes = ((n, 4, 8, 8), (n, 6, 4, 4))
    return Features(torch.zeros(n, 3), maps=tuple(_features(*shape, seed=seed).float() for shape in shapes))


def test_running_averages_are_kept_in_training_alone_and_start_with_the_first_batch():
    method = _method(momentum=0.5)
    first, second, small = (_maps(n, seed) for seed, n in ((0, 6), (1, 5), (2, 3)))
    assert method(first, first, torch.zeros(6), Progress(0, 1))["cka"].item() == pytest.approx(0, abs=1e-5)
    method(second, first.__class__(**{**vars(second), "maps": _maps(5, 9).maps}), torch.zeros(5), Progress(0, 1))
    kept = method.averages.clone()
    own = torch.stack([batch_hsic(x, x) for x in first.maps])
    other = torch.stack([batch_hsic(*pair) for pair in zip(second.maps, _maps(5, 9).maps, strict=True)])
    torch.testing.assert_close(kept, 0.25 * own + 0.5 * other)
    method(small, small, torch.zeros(3), Progress(0, 1))
    method.eval()(first, first, torch.zeros(6), Progress(0, 1))
    assert torch.equal(method.averages, kept)
    assert method(small, small, torch.zeros(3), Progress(0, 1))["cka"].dtype == torch.float32


def test_processes_go_on_with_the_mean_of_their_averages():
    method, other = _method(), torch.tensor([[1.0, 2.0, 3.0], [0.1, 1e-30, 7.0]], dtype=torch.float64)
    own = torch.tensor([[3.0, 0.0, 1.0], [0.3, 1.0, 1.0]], dtype=torch.float64)
    method.averages = own.clone()
    method.agree(lambda bits: [*bits.tolist(), *other.flatten().view(torch.int64).tolist()])
    assert torch.equal(method.averages, (own + other) / 2)
    method.averages = own.clone()
    method.agree(torch.Tensor.tolist)
    assert torch.equal(method.averages, own)
