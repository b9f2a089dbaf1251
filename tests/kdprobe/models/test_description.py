"""Networks that are not timm's: described, or observed; outputs of all kinds; networks without a classifier."""

import subprocess
import sys

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import kdprobe
from kdprobe.errors import ModelError
from kdprobe.models import Stages, create, load, model_info, save
from kdprobe.models.creation import ModelInfo
from kdprobe.models.outputs import answer_in, logits_in
from kdprobe.models.stages import measure
from tests.kdprobe.models.test_facts import Lookalike, Wrapped

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """As written by hand: activation, pooling and mean are functions."""

    def __init__(self, n_classes=7):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer1 = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.fc = nn.Linear(32, n_classes) if n_classes else nn.Identity()

    def forward(self, x):
        maps = [self.layer1(F.relu(self.stem(x)))]
        maps.append(self.layer2(maps[0]))
        pooled = F.adaptive_avg_pool2d(maps[1], 1).flatten(1)
        return self.give(self.fc(pooled), {"feats": maps, "pooled_feat": pooled})

    def give(self, logits, features):
        return logits


class WithFeatures(Small):
    """As the networks of mdistiller."""

    def give(self, logits, features):
        return logits, features


class OfWords(Small):
    def give(self, logits, features):
        return {"logits": logits, "hidden_states": tuple(features["feats"])}


class Pair(Small):
    """As distilled transformers in training."""

    def give(self, logits, features):
        return (logits, logits + 1) if self.training else logits


class InPlace(Small):
    """What a stage gives is overwritten by what follows."""

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(x, inplace=True)
        return self.fc(self.layer2(self.layer1[0](x).relu_()).mean((2, 3)))


def described(model, **facts):
    torch.manual_seed(0)
    return kdprobe.describe(model, image_size=32, **facts).eval()


def seen(model, *needs):
    with torch.no_grad():
        return Stages(model, needs=needs)(IMAGES)


def test_what_is_described_is_what_methods_get():
    model = described(Small(), stages=["layer1", "layer2"], classifier="fc")
    assert model_info(model).n_classes == 7
    features = seen(model, "maps", "pooled", "head", "preacts")
    maps = [model.layer1(F.relu(model.stem(IMAGES)))]
    maps.append(model.layer2(maps[0]))
    assert all(map(torch.equal, features.maps, maps))
    assert torch.equal(features.pooled, maps[1].mean((2, 3)))
    assert torch.equal(features.head(features.pooled), features.logits)
    assert features.head is model.fc
    assert features.preacts[1].min() < 0
    assert torch.equal(features.preacts[1].relu(), maps[1])
    shapes = measure(model)
    assert (shapes.names, shapes.maps, shapes.width) == (("layer1", "layer2"), ((16, 8, 8), (32, 4, 4)), 32)
    assert shapes.averaged
    assert shapes.described


@pytest.mark.parametrize("kind", [Small, WithFeatures, OfWords])
def test_networks_written_by_hand_are_observed(kind):
    model = described(kind())
    shapes = measure(model)
    assert (shapes.n_classes, shapes.width, shapes.names) == (7, 32, ("stem", "layer1", "layer2"))
    features = seen(model, "maps", "pooled", "head")
    assert torch.equal(features.logits, model.fc(features.pooled))
    assert features.heads == (model.fc,)
    assert torch.equal(features.maps[2].mean((2, 3)), features.pooled)


@pytest.mark.slow
def test_a_wrapped_network_gives_what_it_gives_alone():
    torch.manual_seed(0)
    backbone = timm.create_model("resnet10t", num_classes=0)
    wrapped = kdprobe.describe(Wrapped(backbone, 512), image_size=32).eval()
    ours, own = (
        seen(wrapped, "maps", "pooled"),
        seen(kdprobe.describe(backbone, image_size=32).eval(), "maps", "pooled"),
    )
    assert measure(wrapped).names == tuple(f"backbone.{name}" for name in measure(backbone).names)
    assert all(map(torch.equal, ours.maps, own.maps))
    assert torch.equal(ours.pooled, own.pooled)
    assert ours.logits.shape == (3, 7)
    assert own.logits.shape == (3, 0)


def test_tokens_of_a_network_of_no_library():
    model = described(Lookalike(n_registers=3))
    features = seen(model, "maps", "tokens", "pooled")
    assert features.n_prefix == 4
    assert features.tokens.shape == (3, 20, 24)
    assert torch.equal(features.tokens[:, 0], features.pooled)
    assert torch.equal(features.maps[-1].flatten(2).mT, features.tokens[:, 4:])


@pytest.mark.slow
def test_what_torchvision_overwrites_in_place_is_kept():
    torch.manual_seed(0)
    small = torchvision.models.DenseNet(8, (2, 2, 2, 2), 16, num_classes=5)
    assert measure(kdprobe.describe(small, image_size=64).eval()).width == small.classifier.in_features
    own = described(InPlace(), stages=["stem", "layer1.0"])
    features = seen(own, "maps")
    assert features.maps[0].min() < 0
    assert torch.equal(features.maps[0], own.stem(IMAGES))
    assert torch.equal(features.maps[1], own.layer1[0](features.maps[0].relu()))


def test_gradients_flow_through_observed_maps():
    model = described(InPlace()).train()
    Stages(model, needs=("maps",))(IMAGES).maps[0].sum().backward()
    assert model.stem.weight.grad is not None


def test_a_stage_that_does_not_run_in_training_is_named():
    class Skipping(Small):
        def forward(self, x):
            maps = F.relu(self.stem(x))
            return self.fc(maps.mean((2, 3)).repeat(1, 4)) if self.training else super().forward(x)

    view = Stages(described(Skipping(), stages=["layer1"]).train(), needs=("maps",))
    with pytest.raises(
        ModelError, match=r"stage 'layer1' ran in evaluation, but now 'layer1' ran 0 times, without its"
    ):
        view(IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "width"),
    [
        (lambda: Small(0), 32),
        (lambda: create("resnet8", n_classes=0, image_size=32), 64),
        (lambda: create("vit_tiny_patch16_224", n_classes=0, image_size=32, args={"patch_size": 8, "depth": 2}), 192),
        (lambda: timm.create_model("resnet10t", num_classes=0, global_pool=""), 512),
        (lambda: timm.create_model("test_vit", num_classes=0, global_pool="", img_size=32), 64),
        (lambda: nn.Sequential(*list(Small().children())[:3]), 32),
    ],
    ids=["hand", "cifar", "timm", "map", "tokens", "sequence"],
)
def test_without_a_classifier_the_output_is_pooled(make, width):
    model = described(make(), n_classes=0)
    features, shapes = seen(model, "pooled", "maps", "head"), measure(model)
    assert features.logits.shape == (3, 0)
    assert features.pooled.shape == (3, width)
    assert (shapes.n_classes, shapes.width, features.heads) == (0, width, ())
    output = model(IMAGES).detach()
    positions = output if output.ndim == 2 else output[:, 1:].mean(1) if output.ndim == 3 else output.mean((2, 3))
    torch.testing.assert_close(features.pooled, positions)


def test_a_classifier_of_no_classes_is_looked_behind():
    small = Small()
    with pytest.warns(UserWarning, match="zero-element"):
        small.fc = nn.Linear(32, 0)
    features = seen(described(small, n_classes=0), "pooled")
    assert features.logits.shape == (3, 0)
    assert features.pooled.shape == (3, 32)


def test_whether_an_output_is_logits_is_not_guessed():
    assert model_info(described(Small(0))).n_classes == 0
    assert model_info(described(Small(9))).n_classes == 9
    model = nn.Sequential(nn.Conv2d(3, 5, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(
        ModelError, match=r"whether Sequential gives 5 logits or features is not known; give n_classes, 0"
    ):
        described(model)
    assert model_info(described(model, n_classes=5)).n_classes == 5


@pytest.mark.parametrize(
    ("kind", "facts", "said"),
    [
        (Small, {"stages": ["layer1", "layr2"]}, "Small has no module 'layr2'; did you mean 'layer2'"),
        (Small, {"classifier": "head"}, "Small has no module 'head'"),
        (
            Small,
            {"classifier": "layer1.0"},
            r"classifier 'layer1.0' of Small gives \[2, 16, 8, 8\], but the network gives",
        ),
        (Small, {"stages": ["fc"]}, r"stage 'fc' of Small gives \[2, 7\], which is not known to be a map or tokens"),
        (Small, {"stages": ["layer2#2"]}, "stage 'layer2#2' of Small did not run; name another module"),
        (
            Small,
            {"stages": []},
            r"Small cannot be described: stages names no module; name one at least, or leave it out",
        ),
        (Small, {"prefix_tokens": 1}, "Small has no stage with tokens, but prefix_tokens is 1"),
        (
            Lookalike,
            {"prefix_tokens": 2},
            "prefix_tokens is 2, but stage 'layer.0' of Lookalike is seen to have 1 tokens",
        ),
        (
            OfWords,
            {"output": "logit"},
            r"gives a dict of 'logits' \[2, 7\], 'hidden_states' \(tuple\), which has no 'logit'",
        ),
        (WithFeatures, {"output": 2}, r"gives a tuple of 0 \[2, 7\], 1 \(dict\), which has no 2"),
        (
            WithFeatures,
            {"output": 1},
            r"gives a tuple of 0 \[2, 7\], 1 \(dict\), but .* are needed; say where they are",
        ),
        (
            Small,
            {"stages": ["layer2", "layer1"]},
            "given as layer2, layer1, but run in the order layer1, layer2; give them shallow to deep",
        ),
        (Small, {"output": "logits"}, "Small gives a mere tensor, which has no 'logits'; leave output out"),
        (Pair, {"output": 2}, r"gives a tuple of 0 \[2, 7\], 1 \[2, 7\], which has no 2; give as output="),
        (
            Small,
            {"std": (0.1, 0.0, 0.1)},
            r"Small cannot be described: mean and std must hold a finite number for each channel, std above 0,",
        ),
        (Small, {"prefix_tokens": -1}, "prefix_tokens must be at least 0 and below 100,000, but is -1"),
        (Small, {"stages": "layer1"}, r"stages must be a list, but is 'layer1'; give \['layer1'\]"),
        (Small, {"stages": ["layer1", "layer1"]}, "stages of Small are given as layer1, layer1, one twice"),
        (Small, {"n_classes": 5}, r"n_classes is 5, but Small gives \[2, 7\] for two images; give the number of its"),
        (
            Small,
            {"mean": (0.1, 0.2)},
            r"Small cannot be described: mean and std have 2 and 3 numbers, but each has one f",
        ),
        (
            Small,
            {"mean": (0.5,), "std": (0.5,)},
            r"Small cannot be run on images \[2, 1, 32, 32\] \(RuntimeError: Given",
        ),
        (
            Small,
            {"n_classes": 2, "classes": ["a"]},
            "Small cannot be described: n_classes is 2, but 1 classes are named",
        ),
    ],
)
def test_what_the_network_does_not_have_is_refused(kind, facts, said):
    model = kind()
    with pytest.raises(ModelError, match=said):
        described(model, **facts)
    assert not hasattr(model, "kdprobe_info")


def test_a_description_is_kept_if_another_one_is_refused():
    model = described(Small(), stages=["layer2"])
    with pytest.raises(ModelError, match="did not run"):
        described(model, stages=["layer2#3"])
    assert model_info(model).stages == ("layer2",)
    with pytest.raises(
        ModelError, match=r"about the input of this Small; give kdprobe.describe its side in pixels, image_size"
    ):
        kdprobe.describe(Small())


class Again(nn.Module):
    """One of its modules runs before and after another."""

    def __init__(self):
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.mix, self.fc = nn.Conv2d(8, 8, 1), nn.Linear(8, 7)

    def forward(self, x):
        return self.fc(self.mix(self.down(self.mix(self.stem(x)))).mean((2, 3)))


def test_stages_are_in_the_order_of_the_calls_that_count():
    assert measure(described(Again(), stages=["mix#1", "mix"])).maps == ((8, 16, 16), (8, 8, 8))
    assert measure(described(Again(), stages=["down", "mix"])).names == ("down", "mix")
    with pytest.raises(ModelError, match="given as down, mix#1, but run in the order mix#1, down; give"):
        described(Again(), stages=["down", "mix#1"])


def test_a_module_that_does_not_run_is_no_classifier():
    model = Small()
    model.spare = nn.Linear(32, 7)
    with pytest.raises(ModelError, match="classifier 'spare' of Small did not run; name another module"):
        described(model, n_classes=7, classifier="spare")


def test_pooled_features_that_are_not_known():
    model = described(nn.Sequential(nn.Conv2d(3, 5, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten()), n_classes=5)
    with pytest.raises(
        ModelError, match="pooled features of Sequential are not known: no module gives its logits; name"
    ):
        Stages(model, needs=("pooled",))
    assert measure(model).width == 0


@pytest.mark.parametrize(
    ("output", "facts"),
    [
        (lambda x: x, {}),
        (lambda x: (x, [x[:, :3]]), {}),
        (lambda x: (torch.zeros(3, 8), x), {}),
        (lambda x: {"logits": x, "other": x + 1}, {}),
        (lambda x: {"scores": x, "maps": [x]}, {}),
        (lambda x: torchvision.models.GoogLeNetOutputs(x, x + 1, x + 2), {}),
        (lambda x: (x + 1, x), {"output": 1}),
        (lambda x: {"a": x + 1, "b": x}, {"output": "b"}),
        (lambda x: torchvision.models.GoogLeNetOutputs(x + 1, x, x + 2), {"output": "aux_logits2"}),
        (lambda x: x, {"output": 0}),
    ],
)
def test_the_obvious_field_or_the_one_that_is_named_holds_the_logits(output, facts):
    logits = torch.rand(3, 4)
    assert torch.equal(logits_in(output(logits), ModelInfo("net", 4, 8, **facts)), logits)


def test_several_fields_that_could_hold_the_logits_are_refused():
    logits = torch.rand(3, 4)
    with pytest.raises(
        ModelError, match=r"network 'net' gives a tuple of 0 \[3, 4\], 1 \[3, 4\], but logits .* output=0"
    ):
        logits_in((logits, logits), ModelInfo("net", 4, 8))
    with pytest.raises(ModelError, match=r"network 'net' gives numbers of torch.int64, but logits must be real"):
        logits_in(logits.long(), ModelInfo("net", 4, 8))
    with pytest.raises(ModelError, match=r"gives a dict of 'a' \(NoneType\), but features \[images, d\] are needed"):
        answer_in({"a": None}, ModelInfo("net", 0, 8))


def test_a_pair_in_training_needs_its_place():
    model = described(Pair()).train()
    with pytest.raises(ModelError, match=r"gives a tuple of 0 \[3, 7\], 1 \[3, 7\], but logits"):
        Stages(model)(IMAGES)
    view = Stages(described(model, output=1).train())
    assert torch.equal(view(IMAGES).logits, model(IMAGES)[1])
    assert torch.equal(view.eval()(IMAGES).logits, model(IMAGES))


class Checkpointed(Small):
    def forward(self, x):
        return self.fc(self.layer2(checkpoint(self.layer1, self.stem(x), use_reentrant=True)).mean((2, 3)))


def test_a_stage_inside_a_reentrant_checkpoint_is_refused_where_it_must_have_gradients():
    view = Stages(described(Checkpointed(), stages=["layer1"]), needs=("maps",))
    with pytest.raises(
        ModelError, match=r"stage 'layer1' runs without gradients, as inside a reentrant checkpoint; use"
    ):
        view(IMAGES)


@pytest.mark.slow
def test_gradient_checkpoints_change_nothing():
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        backbone = timm.create_model("test_vit", img_size=32, num_classes=0)
        backbone.set_grad_checkpointing(checkpointed)
        model = kdprobe.describe(Wrapped(backbone, 64), image_size=32).train()
        features = Stages(model, needs=("maps", "tokens"))(IMAGES)
        (features.maps[2].square().sum() + features.tokens.square().sum()).backward()
        found.append([one.grad for one in model.parameters() if one.grad is not None])
    assert len(found[0]) == len(found[1]) > 10
    assert all(map(torch.equal, *found))


_COMPILED = """
import timm, torch, kdprobe
from kdprobe.models.stages import Stages
torch.manual_seed(0)
model = torch.nn.Sequential(timm.create_model("resnet10t", num_classes=0), torch.nn.Linear(512, 5))
model = kdprobe.describe(model, image_size=32).eval()
view, compiled = (Stages(model, needs=("maps", "pooled")) for _ in range(2))
compiled.compile(backend="aot_eager")
for _ in range(2):
    images = torch.rand(3, 3, 32, 32)
    ours, theirs = view(images), compiled(images)
    assert len(ours.maps) == 5 and all(map(torch.equal, ours.maps, theirs.maps))
    assert torch.equal(ours.pooled, theirs.pooled) and torch.equal(ours.logits, theirs.logits)
print("the same", sum(torch._dynamo.utils.counters["frames"].values()) > 0)
"""


@pytest.mark.slow
def test_compiled_stages_give_the_same():
    """In a process of its own: what checks types in tests cannot be compiled."""
    done = subprocess.run([sys.executable, "-c", _COMPILED], capture_output=True, text=True, check=True)
    assert done.stdout == "the same True\n"


def odd_tokens(prefix):
    """Tokens whose meaning nobody can follow: [B, prefix + 16, 8], as made by an operation of no rule."""
    model = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Flatten(2), Twisted(prefix), nn.Linear(8, 8))
    return described(model, n_classes=0, stages=["3"], prefix_tokens=prefix)


class Twisted(nn.Module):
    def __init__(self, prefix):
        super().__init__()
        self.prefix = prefix

    def forward(self, x):
        x = torch.einsum("bcn,nm->bmc", x, torch.eye(16))
        return torch.cat([x[:, : self.prefix] * 0, x], 1).reshape(len(x), -1).reshape(len(x), -1, 8)


def test_prefix_tokens_that_nobody_sees_are_believed():
    model = odd_tokens(2)
    assert seen(model, "maps").maps[0].shape == (3, 8, 4, 4)
    with torch.no_grad(), kdprobe.capture(model, "stages", reduce="tokens") as features:
        model(IMAGES)
    assert features["3"].shape == (3, 16, 8)
    with pytest.raises(ModelError, match="gives 18 tokens, which without 1 in front of them are no square grid; see"):
        described(model, prefix_tokens=1)


def without_facts(width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)
    )


def with_classes(num_classes):
    return Small(num_classes)


def with_size(image_size):
    return nn.Sequential(nn.Conv2d(3, 5, image_size), nn.Flatten())


def with_any(**arguments):
    return with_classes(**arguments)


def with_wrong(width=3, **arguments):
    return with_classes(**arguments, widht=width)


@pytest.mark.parametrize("name", ["without_facts", "with_classes", "with_size", "with_any"])
def test_a_constructor_gets_what_its_signature_names(name):
    model = create(f"{__name__}:{name}", n_classes=5, image_size=16)
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 3 if name == "without_facts" else 5)


def test_torchvision_makes_networks_by_name():
    model = create("torchvision.models:resnet18", n_classes=5, image_size=32)
    assert model(IMAGES).shape == (3, 5)
    assert create("torchvision.models:vit_b_32", n_classes=2, image_size=32).image_size == 32
    with pytest.raises(ModelError, match=r"model 'torchvision.models:resnet18': no argument 'depht'"):
        create("torchvision.models:resnet18", n_classes=5, image_size=32, args={"depht": 3})


def test_what_a_constructor_refuses_is_still_said():
    with pytest.raises(ModelError, match="no argument 'widht'"):
        create(f"{__name__}:with_wrong", n_classes=5, image_size=16)
    with pytest.raises(ModelError, match=r"argument 'image_size' must not be given: data.image_size decides it"):
        create(f"{__name__}:without_facts", n_classes=5, image_size=16, args={"image_size": 8})


def test_a_loaded_network_whose_constructor_takes_no_classes_has_its_own(tmp_path):
    torch.manual_seed(0)
    model, path = without_facts(), tmp_path / "net.pth"
    torch.save(model.state_dict(), path)
    given = {"image_size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    loaded = load(f"{__name__}:without_facts@{path}", **given)
    assert model_info(loaded).n_classes == 3
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    torch.save(Small(9).state_dict(), path)
    assert model_info(load(f"{__name__}:with_classes@{path}", **given)).n_classes == 9


def test_checkpoints_keep_a_description(tmp_path, monkeypatch):
    model = create("resnet8", n_classes=4, image_size=32)
    save(kdprobe.describe(model, stages=["layer1", "layer3"], classifier="fc"), tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    assert measure(again).names == ("layer1", "layer3")
    assert model_info(again).to_json() == model_info(model).to_json()
    assert {"prefix_tokens", "output"}.isdisjoint(model_info(again).to_json())
    with monkeypatch.context() as patched:
        patched.setattr(type(again), "forward", None)
        load(tmp_path / "net.safetensors")  # without running it
    other = load(tmp_path / "net.safetensors", stages=["layer2"])
    assert measure(other).maps == ((32, 16, 16),)
    with pytest.raises(ModelError, match="CifarResNet has no module 'layer4'; did you mean 'layer3'"):
        load(tmp_path / "net.safetensors", stages=["layer4"])


@pytest.mark.parametrize(
    "wrong", [{"stages": "layer1"}, {"stages": [1]}, {"classifier": 1}, {"prefix_tokens": True}, {"output": 1.5}]
)
def test_a_stored_description_of_another_type_is_refused(wrong):
    (key,) = wrong
    with pytest.raises(TypeError, match=key):  # in the tests by the types of its fields already
        ModelInfo.from_json({**ModelInfo("net", 2, 32).to_json(), **wrong})
