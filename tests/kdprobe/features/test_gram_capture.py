import collections

import pytest
import timm
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from analyses.cka.networks import cka
from kdprobe.errors import AnalysisError
from kdprobe.features.capturing import capture
from kdprobe.features.gram import Way, centred_gram, decided
from kdprobe.features.gram_capture import GramCapture

_NOTHING = ("dropout", "detach", "promote_types")  # of networks that do not train, and of what needs no gradients


class Operators(TorchDispatchMode):
    """Counts operators that compute, not views."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        schema = function._schema
        views = any(one.alias_info is not None and not one.alias_info.is_write for one in schema.returns)
        self.count += not views and schema.name.removeprefix("aten::") not in _NOTHING
        return function(*args, **(kwargs or {}))


class Waits(TorchFunctionMode):
    """Counts what waits for a device."""

    names = ("cpu", "numpy", "item", "tolist", "nonzero", "__bool__", "__float__", "__int__", "equal", "allclose")

    def __init__(self):
        super().__init__()
        self.found = collections.Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        places = args[1] if name in ("__getitem__", "__setitem__") and isinstance(args[1], tuple) else args[1:2]
        masked = name in ("__getitem__", "__setitem__") and any(
            isinstance(place, torch.Tensor) and place.dtype == torch.bool for place in places
        )
        self.found[name] += masked or name in self.names
        return function(*args, **(kwargs or {}))


def test_a_minibatch_of_all_layers_costs_few_operators_and_one_wait():
    """Two networks as they come, some of whose layers are zero at first and some far from zero."""
    torch.manual_seed(0)
    teacher = timm.create_model("resnet18").eval()
    student = timm.create_model("vit_tiny_patch16_224", img_size=32).eval()
    images = torch.randn(3, 4, 3, 32, 32)

    def measured(n_minibatches):
        with Operators() as operators, Waits() as waits:
            found = cka(teacher, student, images[:n_minibatches], teacher_layers="leaves", student_layers="leaves")
        return operators.count, waits.found, found

    (before, waited, _), (after, more, found) = measured(2), measured(3)
    assert found.matrix.shape == (61, 87)
    with Operators() as bare, torch.inference_mode():
        teacher(images[0]), student(images[0])
    assert 150 < bare.count < 250
    assert after - before <= 900
    waits = +(more - waited)
    assert waits == {"cpu": 1, "numpy": 1}, "once for the device; what it gave is then on the host"


class Chain(nn.Module):
    """Layers that meet what is hard: an input that is overwritten, far offsets, zeros, one in-place operation."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.dead = nn.Linear(6, 9), nn.Identity(), nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = x.sub_(1.0)
        x = self.second(self.first(x) + x[:1, :1].abs().round())
        self.dead(torch.zeros_like(x) + (x[0, 0] > 2) * x)
        return self.relu(x)


LAYERS = ["first", "second", "dead", "relu"]
FAR = 3  # the minibatch that is far from zero


def chain_batches():
    batches = list(1 + torch.randn(6, 12, 6, generator=torch.Generator().manual_seed(0)).clamp(-0.4, 0.4))
    batches[FAR][0, 0] = 6.0
    return batches


def test_layers_that_change_are_measured_as_if_seen_alone():
    torch.manual_seed(0)
    net = Chain().eval()
    with torch.inference_mode(), GramCapture(net, LAYERS) as taken, capture(net, LAYERS, reduce="whole") as features:
        for number, batch in enumerate(chain_batches()):
            before = batch.clone()
            made = taken.pending(batch)
            accepted = taken.accepts(made.right.numpy())
            assert accepted == (number not in (FAR, FAR + 1)), "far layers are shown again, and near ones behind them"
            grams = taken.grams(batch)
            assert torch.equal(batch, before)
            for name in LAYERS:
                exact = features[name].double() - features[name].double().mean(0)
                exact = exact @ exact.T
                assert torch.allclose(grams[name], exact, rtol=1e-4, atol=1e-5 * float(exact.diagonal().amax()))
                assert torch.allclose(grams[name], centred_gram(features[name]), rtol=1e-10, atol=1e-12)
            assert (grams["dead"] == 0).all() == (number != FAR)


def test_values_that_are_not_finite_are_refused_when_they_come():
    torch.manual_seed(0)
    net, batches = nn.Sequential(nn.Linear(6, 9), nn.ReLU()).eval(), chain_batches()
    batches[2][3, 1] = float("nan")
    with pytest.raises(AnalysisError, match="minibatch 2 of Sequential: layer '0': 9 NaN and 0 infinite values among"):
        cka(net, net, batches, teacher_layers="all", student_layers="all")


def test_each_network_sees_the_images_as_they_are():
    torch.manual_seed(0)
    one, other = Chain().eval(), nn.Sequential(nn.Linear(6, 9), nn.ReLU()).eval()
    given = {"teacher_layers": ["first"], "student_layers": ["0"]}
    together, batches = cka(one, other, chain_batches(), **given), chain_batches()
    swapped = cka(other, one, chain_batches(), teacher_layers=["0"], student_layers=["first"])
    assert together.matrix[0, 0] == pytest.approx(swapped.matrix[0, 0], rel=1e-12)
    cka(one, other, batches, **given)
    assert all(torch.equal(*pair) for pair in zip(batches, chain_batches(), strict=True))


def normal(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("mean", "way"), [(0.0, Way.PLAIN), (3.0, Way.PLAIN), (20.0, Way.WIDE)])
def test_the_mean_chooses_the_way(dtype, mean, way):
    x = (normal(16, 3, 40, 5) + mean).to(dtype)
    found, exact = decided(x), x.double().flatten(1) - x.double().flatten(1).mean(0)
    assert found.way is way
    assert torch.allclose(found.plain, exact @ exact.T, rtol=1e-4, atol=0.01)


@pytest.mark.parametrize(
    ("features", "way"),
    [
        (torch.zeros(8, 5), Way.EQUAL),
        (torch.full((8, 5), 0.1), Way.EQUAL),
        (normal(8, 5) * 1e-30, Way.WIDE),
        (normal(8, 5) * 1e30, Way.WIDE),
        (1 + torch.eye(8) * 2**-23, Way.CAREFUL),
        (torch.nn.functional.one_hot(torch.arange(8)).float(), Way.WIDE),
        (normal(3, 5), Way.WIDE),
    ],
)
def test_what_is_hard_goes_another_way(features, way):
    assert decided(features).way is way


@pytest.mark.parametrize(("n", "width"), [(8, 4 * 4096), (8, 2 * 4099), (8, 3 * 4096 + 1), (600, 20_000)])
def test_strips_add_up(n, width, monkeypatch):
    monkeypatch.setattr("kdprobe.features.gram._STRIPS_ROOM", 1 << 20)
    x = normal(n, width)
    exact = x.double() - x.double().mean(0)
    assert torch.allclose(centred_gram(x), exact @ exact.T, rtol=1e-5, atol=0.05)
    assert torch.allclose(centred_gram(x.T.contiguous().T), exact @ exact.T, rtol=1e-5, atol=0.05)
