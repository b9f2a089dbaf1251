import re
import sys

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

import kdprobe
from kdprobe.errors import ModelError
from kdprobe.models import Stages, create, model_info
from kdprobe.models.cifar import CIFAR_NAMES, DEPTHS
from kdprobe.models.creation import ModelInfo, count_parameters, unwrap
from kdprobe.models.layout import as_map
from kdprobe.models.stages import measure
from kdprobe.models.watched.offered import declared_layout

SMALL_VIT = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
MODELS = {
    "resnet8": ({}, 32),
    "resnet18": ({}, 32),
    "vit_tiny_patch16_224": (SMALL_VIT, 32),
    "deit_tiny_distilled_patch16_224": (SMALL_VIT, 32),
    "swin_tiny_patch4_window7_224": ({"window_size": 2, "embed_dim": 24, "depths": (1, 1), "num_heads": (1, 2)}, 32),
    "mobilenetv2_050": ({}, 32),
    "convnext_atto": ({"depths": (1, 1, 1, 1)}, 32),
}


def make(name, n_classes=5):
    args, size = MODELS[name]
    return create(name, n_classes=n_classes, image_size=size, args=args).eval()


def test_cifar_names_do_not_hide_timm_models():
    assert not set(CIFAR_NAMES) & set(timm.list_models())


# Parameters of RepDistiller's networks with 100 classes, as published there: 0.28 M, 0.86 M, 1.74 M.
@pytest.mark.parametrize(("depth", "millions"), [(20, 0.28), (56, 0.86), (110, 1.74)])
def test_cifar_resnets_have_the_published_size(depth, millions):
    model = create(f"resnet{depth}", n_classes=100, image_size=32)
    assert round(count_parameters(model) / 1e6, 2) == millions


@pytest.mark.parametrize("depth", DEPTHS)
def test_depth_counts_weighted_layers(depth):
    model = create(f"resnet{depth}", n_classes=10, image_size=32, args={"shortcut": "A"})
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


def test_option_a_has_no_parameters_in_its_shortcuts():
    a, b = (create("resnet20", n_classes=10, image_size=32, args={"shortcut": s}) for s in "AB")
    projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert count_parameters(b) - count_parameters(a) == projections
    images = torch.randn(2, 3, 32, 32)
    assert a(images).shape == b(images).shape == (2, 10)


def test_padding_shortcut_keeps_the_subsampled_map_in_the_middle():
    from kdprobe.models.cifar import PadShortcut

    x = torch.randn(2, 4, 6, 6)
    y = PadShortcut(4, 8)(x)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert y[:, :2].abs().sum() == y[:, 6:].abs().sum() == 0


@pytest.mark.parametrize("name", MODELS)
def test_stages_agree_with_the_network_itself(name):
    model, images = make(name), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = Stages(model, needs=("maps", "pooled", "tokens", "head"))(images)
        assert torch.equal(features.logits, model(images))
        if "distilled" not in name:
            assert torch.allclose(features.head(features.pooled), features.logits, atol=1e-6)
    shapes = measure(model)
    assert [tuple(m.shape[1:]) for m in features.maps] == list(shapes.maps)
    assert len(shapes.names) == len(shapes.maps) > 0
    assert features.pooled.shape == (2, shapes.width)
    assert (features.tokens is None) == (shapes.tokens is None)
    assert all(m.ndim == 4 and m.shape[2] == m.shape[3] for m in features.maps)


@pytest.mark.parametrize(("name", "prefix"), [("vit_tiny_patch16_224", 1), ("deit_tiny_distilled_patch16_224", 2)])
def test_maps_of_a_vit_are_its_patch_tokens_in_rows(name, prefix):
    model, images = make(name), torch.randn(2, 3, 32, 32)
    kept = []
    handle = model.blocks[-1].register_forward_hook(lambda _m, _i, output: kept.append(output))
    features = Stages(model, needs=("maps", "tokens"))(images)
    handle.remove()
    assert features.n_prefix == prefix
    assert features.tokens.shape[1] == prefix + 16
    assert torch.equal(features.maps[-1].flatten(2).transpose(1, 2), kept[0][:, prefix:])
    assert torch.equal(features.tokens, model.norm(kept[0]))


def test_only_what_is_needed_is_returned():
    features = Stages(make("resnet8"))(torch.randn(2, 3, 32, 32))
    assert features.maps == ()
    assert features.pooled is features.tokens is features.head is None


def test_stages_leave_no_hooks_behind():
    model = make("resnet8")
    Stages(model, needs=("maps", "pooled"))(torch.randn(2, 3, 32, 32))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_measuring_keeps_training_mode_and_statistics():
    model = make("resnet8").train()
    before = model.bn1.running_mean.clone()
    measure(model)
    assert model.training
    assert torch.equal(before, model.bn1.running_mean)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet8", True),
        ("resnet10t", True),
        ("densenet121", True),
        ("convnext_atto", False),  # norm behind the mean
        ("poolformer_s12", False),  # norm in front of it
        ("swin_tiny_patch4_window7_224", False),
        ("resnetv2_50", False),  # convolution for a classifier
        ("mobilenetv2_035", False),  # one more layer in front of the mean
        ("vit_tiny_patch16_224", False),
    ],
)
def test_measuring_tells_whether_the_plain_mean_of_the_last_map_is_classified(name, expected):
    torch.manual_seed(0)
    model = create(name, n_classes=4, image_size=64 if name != "resnet8" else 32)
    shapes = measure(model)
    assert shapes.averaged is expected
    if expected:
        features = Stages(model.eval(), needs=("maps", "head"))(torch.randn(2, 3, 64, 64))
        at_each_place = features.head(features.maps[-1].permute(0, 2, 3, 1))
        torch.testing.assert_close(at_each_place.mean((1, 2)), features.logits, rtol=1e-4, atol=1e-5)


def test_gradients_flow_through_the_maps():
    model = make("resnet8")
    Stages(model, needs=("maps",))(torch.randn(2, 3, 32, 32)).maps[1].sum().backward()
    assert model.conv1.weight.grad is not None


def test_a_network_without_stages_is_refused_only_where_stages_are_needed():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 5)
            self.kdprobe_info = ModelInfo("bare", 5, 8)

        def forward(self, x):
            return self.fc(x.mean((2, 3)))

    bare, images = Bare(), torch.randn(2, 3, 8, 8)
    assert Stages(bare)(images).logits.shape == (2, 5)
    assert measure(bare).maps == ()
    with pytest.raises(
        ModelError, match=r"Bare offers no stage maps: the stages of Bare cannot be determined.*; name the"
    ):
        Stages(bare, needs=("maps",))
    assert torch.equal(Stages(bare, needs=("pooled",))(images).pooled, images.mean((2, 3)))


def test_as_map_reads_all_layouts():
    x = torch.randn(2, 5, 3, 3)
    tokens = torch.cat([torch.zeros(2, 1, 5), x.flatten(2).transpose(1, 2)], 1)
    for output, n_prefix, kind in ((x, 0, "NCHW"), (x.permute(0, 2, 3, 1), 0, "NHWC"), (tokens, 1, "tokens")):
        layout = declared_layout(output, 5, n_prefix)
        assert layout.kind == kind
        assert torch.equal(as_map(output, layout), x)
    for shape in ((2, 7, 5), (2, 3, 3, 6), (2, 5)):
        with pytest.raises(ModelError, match=re.escape(f"of shape {shape} is neither a map nor a square grid")):
            as_map(torch.zeros(shape), declared_layout(torch.zeros(shape), 5, 0))


def test_unknown_names_and_arguments_list_near_matches():
    with pytest.raises(ModelError, match=r"no model 'resnt20'; did you mean 'resnet20'"):
        create("resnt20", n_classes=3, image_size=32)
    with pytest.raises(ModelError, match=r"no argument 'depht'; did you mean 'depth'\?"):
        create("vit_tiny_patch16_224", n_classes=3, image_size=32, args={"depht": 2})
    with pytest.raises(ModelError, match=r"no argument 'shortcutt'; did you mean 'shortcut'\?"):
        create("resnet8", n_classes=3, image_size=32, args={"shortcutt": "A"})
    with pytest.raises(ModelError, match=r"'resnet18': no argument 'blok'"):
        create("resnet18", n_classes=3, image_size=32, args={"blok": 1})


def test_sizes_that_do_not_fit_are_told():
    with pytest.raises(ModelError, match=r"'vit_tiny_patch16_224' cannot be built with .* at 32 px"):
        create("vit_tiny_patch16_224", n_classes=3, image_size=32, args={"embed_dim": 25, "num_heads": 3})


@pytest.mark.parametrize(
    ("name", "args", "size", "message"),
    [
        ("vit_tiny_patch16_224", {"num_heads": 0}, 32, "cannot be built with .* at 32 px .ZeroDivisionError: "),
        ("vit_tiny_patch16_224", {"patch_size": 0}, 32, "cannot be built with .* at 32 px .ZeroDivisionError: "),
        ("vit_tiny_patch16_224", {"act_layer": "foo"}, 32, "cannot be built with .* at 32 px .KeyError: 'foo'"),
        ("vit_tiny_patch16_224", {"depth": 1}, 8, "are larger than an image of 8 px"),
        ("resnet8", {"shortcut": "C"}, 32, "cannot be built with .*: shortcut must be A or B, but is 'C'"),
        ("resnet18.foo", {}, 32, "cannot be built with .*: Invalid pretrained tag"),
        (":foo", {}, 32, "cannot be imported: '' cannot be the name of a module"),
        (".x:foo", {}, 32, "cannot be imported: '.x' cannot be the name of a module"),
        ("builtins:dict", {}, 32, "must be a torch.nn.Module, but is dict"),
    ],
)
def test_arguments_that_make_no_network_are_told(name, args, size, message):
    with pytest.raises(ModelError, match=f"model '{name}' (.* )?{message}"):
        create(name, n_classes=3, image_size=size, args=args)


def test_there_are_no_published_cifar_weights():
    with pytest.raises(ModelError, match="there are no published weights for 'resnet20'"):
        create("resnet20", n_classes=10, image_size=32, pretrained=True)


def test_weights_that_cannot_be_fetched_are_one_line(monkeypatch):
    def offline(*_args, pretrained, **_kwargs):
        assert pretrained
        raise OSError("no route\nto the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ModelError, match="weights of 'resnet18' could not be fetched: no route to the hub"):
        create("resnet18", n_classes=1000, image_size=224, pretrained=True)


def own_model(*, num_classes, image_size, width=4):
    return nn.Sequential(nn.Conv2d(3, width, image_size), nn.Flatten(), nn.Linear(width, num_classes))


def test_a_model_of_ones_own_is_called_by_its_import_path():
    model = create(f"{__name__}:own_model", n_classes=7, image_size=8, args={"width": 6})
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 7)
    assert model_info(model).n_classes == 7
    with pytest.raises(ModelError, match=r"model 'nowhere_at_all:f' cannot be imported"):
        create("nowhere_at_all:f", n_classes=7, image_size=8)
    with pytest.raises(ModelError, match=r"no argument 'widht'; did you mean 'width'\?$"):
        create(f"{__name__}:own_model", n_classes=7, image_size=8, args={"widht": 6})


def test_a_model_of_ones_own_in_the_working_folder(tmp_path, monkeypatch):
    code = "from torch import nn\ndef net(num_classes, image_size):\n    return nn.Linear(image_size, num_classes)\n"
    (tmp_path / "my_own_net.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert create("my_own_net:net", n_classes=3, image_size=8).out_features == 3


def test_describe_reads_timm_networks_and_refuses_others():
    info = model_info(timm.create_model("resnet18", num_classes=9))
    assert (info.name, info.n_classes, info.image_size) == ("resnet18", 9, 224)
    with pytest.raises(ModelError, match="nothing is known about the input of this Linear"):
        model_info(nn.Linear(2, 2))


@pytest.mark.slow
def test_unwrap_finds_the_network():
    model = make("resnet8")
    assert unwrap(torch.compile(model)) is model
    assert model_info(torch.compile(model)).name == "resnet8"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_normalising_standardises_each_channel(seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4, 3, 8, 8, generator=generator)
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3))
    info = ModelInfo("x", 2, 8, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    normal = info.normalise(images)
    assert torch.allclose(normal.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(normal.std((0, 2, 3)), torch.ones(3), atol=1e-5)


def test_info_survives_json():
    info = ModelInfo("vit", 2, 32, {"depth": 2}, (0.1,), (0.2,), ("a", "b"), "digits", "kd", "abc")
    again = ModelInfo.from_json(info.to_json())
    assert again.sha256 is None
    assert again.to_json() == info.to_json()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"image_size": 0}, "image_size must be at least 1 and below 100,000, but is 0"),
        ({"std": [0.0]}, r"std above 0, but are \[0.1\] and \[0.0\]"),
        ({"classes": ["a"]}, "n_classes is 2, but 1 classes are named"),
        ({"view": {"crop_pct": "all"}}, "view is {'crop_pct': 'all'}"),
    ],
)
def test_info_that_cannot_be_is_refused(wrong, said):
    stored = ModelInfo("vit", 2, 32, mean=(0.1,), std=(0.2,), classes=("a", "b")).to_json()
    with pytest.raises((TypeError, ValueError), match=said):
        ModelInfo.from_json({**stored, **wrong})


@pytest.mark.parametrize(
    "name", ["resnet8", "resnet18", "vit_tiny_patch16_224", "kdprobe.models.dense_deit:dense_deit"]
)
def test_the_number_of_classes_is_no_argument(name):
    with pytest.raises(ModelError, match="argument 'num_classes' must not be given: the classes of the data decide it"):
        create(name, n_classes=3, image_size=32, args={"num_classes": 5})


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("vit_tiny_patch16_224", {"img_size": 16, "patch_size": 8, "depth": 1}),
        ("swin_tiny_patch4_window7_224", {"img_size": 16, "window_size": 2, "embed_dim": 24, "depths": (1, 1)}),
        ("mixer_s32_224", {"img_size": 32}),
        ("tnt_s_patch16_224", {"img_size": 32, "depth": 1}),
    ],
)
def test_a_network_of_timms_knows_the_size_that_it_was_built_with(name, args):
    assert model_info(timm.create_model(name, **args)).image_size == args["img_size"]
    assert model_info(timm.create_model("resnet10t")).image_size == 176


class Necked(nn.Module):
    """A batch norm between mean and classifier, which changes nothing at first; or logits of another scale."""

    def __init__(self, neck, scale):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.neck, self.fc, self.scale = neck, nn.Linear(16, 5), scale

    def forward(self, x):
        return self.scale * self.fc(self.neck(self.body(x).mean((2, 3))))


@pytest.mark.parametrize(
    ("neck", "scale", "expected"),
    [(nn.Identity(), 1, True), (nn.BatchNorm1d(16), 1, False), (nn.Identity(), 16, False)],
)
def test_a_classifier_behind_a_new_norm_or_in_front_of_a_scale_does_not_classify_places(neck, scale, expected):
    torch.manual_seed(0)
    model = kdprobe.describe(Necked(neck, scale), image_size=16, stages=["body.1", "body.3"], classifier="fc")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert measure(model).averaged is expected
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_exchanged_classifier_has_other_classes_than_the_network_says():
    model = timm.create_model("test_resnet", num_classes=1000)
    model.fc = nn.Linear(model.fc.in_features, 10)
    refusal = r"network 'test_resnet' gives \[2, 10\] for two images, but logits \[2, 1000\] are needed for its 1000"
    with pytest.raises(ModelError, match=refusal):
        measure(model)
    assert measure(kdprobe.describe(model, n_classes=10)).n_classes == 10


class Shifted(ResNet):
    """Another pass than the one that it inherits."""

    def forward(self, x):
        return super().forward((x - 0.5) * 4)


def test_a_pass_of_ones_own_is_not_replaced_by_the_inherited_one():
    torch.manual_seed(0)
    model = kdprobe.describe(
        Shifted(BasicBlock, (1, 1, 1, 1), num_classes=5, channels=(8, 16, 16, 16)), image_size=32
    ).eval()
    images = torch.rand(2, 3, 32, 32)
    features = Stages(model, needs=("maps", "pooled"))(images)
    assert torch.equal(features.logits, model(images))
    assert torch.equal(features.maps[-1], model.forward_features((images - 0.5) * 4))
