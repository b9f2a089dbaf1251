import subprocess
import sys
from contextlib import suppress

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from kdprobe.errors import AnalysisError, CaptureError
from kdprobe.features.capturing import capture, select_layers
from kdprobe.features.gram import centred_gram
from kdprobe.models.facts import stage_names
from kdprobe.models.layers import as_choices


class Block(nn.Module):
    """One in-place ReLU used twice, and an in-place residual sum behind the second norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.unused = nn.Identity()

    def forward(self, x):
        y = self.bn2(self.conv(self.relu(self.bn1(x))))
        y += x
        return self.relu(self.dropout(y))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 3, 1)
        self.layer1 = nn.Sequential(Block(), Block())
        self.layer2 = nn.Sequential(Block())
        self.fc = nn.Linear(3, 5)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))


class Returning(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


class Around(nn.Module):
    """Calls one module and ignores what it gives."""

    def __init__(self, make):
        super().__init__()
        self.inner = Returning(make)

    def forward(self, x):
        self.inner(x)
        return x


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def vit():
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=5).eval()


def n_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_features_are_taken_before_in_place_operations(images):
    net = Net().eval()
    with capture(net, ["stem", "layer1.0.bn1", "layer1.0.bn2"], reduce="whole") as taken:
        net(images)
    stem = net.stem(images)
    bn1 = net.layer1[0].bn1(stem)
    assert (bn1 < 0).any()
    assert torch.equal(taken["stem"], stem)
    assert torch.equal(taken["layer1.0.bn1"], bn1)
    assert torch.equal(taken["layer1.0.bn2"], net.layer1[0].bn2(net.layer1[0].conv(F.relu(bn1))))


def test_each_call_of_a_module_is_a_layer_in_order_of_execution(images):
    net = Net()
    with capture(net, ["layer2.0.relu", "layer2.0.bn1", "layer2"], reduce="whole") as taken:
        net(images)
        assert list(taken) == ["layer2.0.bn1", "layer2.0.relu#1", "layer2.0.relu#2", "layer2"]
        assert torch.equal(taken["layer2.0.relu#1"], F.relu(taken["layer2.0.bn1"]))
        assert torch.equal(taken["layer2.0.relu#2"], taken["layer2"])
    with capture(net, "layer2.0.relu#2") as taken:
        net(images)
        net(images)
    assert list(taken) == ["layer2.0.relu#2"]


def test_the_last_forward_counts(images):
    net = Net()
    with capture(net, "stem", reduce="whole") as taken:
        net(images)
        net(images[:2])
    assert len(taken["stem"]) == 2
    assert len(taken) == 1


@pytest.mark.parametrize("stops", [False, True])
def test_hooks_and_modes_end_with_the_block(images, stops):
    net = Net().train()
    net.layer1.eval()
    modes = [module.training for module in net.modules()]
    with suppress(ZeroDivisionError), capture(net, "all"):
        assert not any(module.training for module in net.modules())
        assert n_hooks(net) > 0
        net(images)
        if stops:
            raise ZeroDivisionError
    assert n_hooks(net) == 0
    assert [module.training for module in net.modules()] == modes


def test_hooks_end_when_the_forward_pass_fails():
    net = Net()
    with pytest.raises(RuntimeError), capture(net, "all"):
        net(torch.randn(2, 4, 8, 8))
    assert n_hooks(net) == 0


def test_training_mode_can_be_kept(images):
    net = Net().train()
    with capture(net, "stem", evaluate=False):
        assert net.training


def test_features_keep_their_graph_only_if_asked(images):
    net = Net()
    for detach in (True, False):
        with capture(net, "stem", detach=detach) as taken:
            net(images)
        assert taken["stem"].requires_grad is not detach


def test_choices_of_layers():
    net = Net()
    assert select_layers(net, "stages", images=torch.zeros(2, 3, 8, 8)) == ["layer1", "layer2"]
    assert select_layers(net, "layer?.0.bn1") == ["layer1.0.bn1", "layer2.0.bn1"]
    assert select_layers(net, ["*.bn*", "!layer1.*"]) == ["layer2.0.bn1", "layer2.0.bn2"]
    leaves = select_layers(net, "leaves")
    assert "layer1" not in leaves
    assert "layer1.1.conv" in leaves
    assert not {"layer1.1.dropout", "layer1.1.unused"} & set(leaves)
    assert set(select_layers(net, "all")) == {name for name, _ in net.named_modules() if name}
    assert select_layers(net, ["fc", "stem"]) == ["stem", "fc"]


@pytest.mark.slow
def test_stages_of_timm(vit):
    assert stage_names(vit) == ["blocks.0", "blocks.1"]
    resnet = timm.create_model("resnet18")
    assert stage_names(resnet) == ["act1", "layer1", "layer2", "layer3", "layer4"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("layr1", "no layer 'layr1' in Net; did you mean 'layer1'"),
        ("layer3.*", r"no layer 'layer3\.\*' in Net"),
        (["stem", "!stem"], r"no layer is chosen by \['stem', '!stem'\]"),
    ],
)
def test_unknown_layers(layers, message):
    with pytest.raises(CaptureError, match=message):
        capture(Net(), layers)


def test_unknown_reducer():
    with pytest.raises(CaptureError, match="no reducer 'flaten'; did you mean 'flatten'"):
        capture(Net(), "stem", reduce="flaten")


def test_a_chosen_list_of_modules(images):
    net = Net()
    net.layer1 = nn.ModuleList(net.layer1)
    net.forward = lambda x: net.layer1[1](net.layer1[0](net.stem(x))).mean((2, 3))
    said = r"'layer1' exists but did not run, as it is a list of modules; choose some of those"
    with pytest.raises(CaptureError, match=said), capture(net, "layer1"):
        net(images)


def test_a_chosen_layer_that_does_not_run(images):
    net = Net()
    with (
        pytest.raises(CaptureError, match=r"'layer2\.0\.unused' exists but did not run"),
        capture(net, "layer2.0.unused"),
    ):
        net(images)
    with capture(net, "all") as taken:
        net(images)
    assert "layer2.0.unused" not in taken


def test_a_layer_that_is_not_there(images):
    net = Net()
    with capture(net, "stem") as taken:
        with pytest.raises(CaptureError, match="no feature of layer 'stem'; the model has not run yet"):
            taken["stem"]
        net(images)
        with pytest.raises(CaptureError, match="no feature of layer 'steam'; did you mean 'stem'"):
            taken["steam"]


def test_a_layer_called_outside_of_the_model(images):
    net = Net()
    with capture(net, "stem"), pytest.raises(CaptureError, match="'stem' ran outside a call of the model"):
        net.stem(images)


@pytest.mark.parametrize(
    "make", [lambda x: (x, None), lambda x: [x], lambda x: {"ids": x.long(), "hidden": x}, lambda x: (None, {}, x)]
)
def test_the_first_floating_tensor_of_an_output(images, make):
    net = Around(make)
    with capture(net, "inner", reduce="whole") as taken:
        net(images)
    assert torch.equal(taken["inner"], images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: None, "'inner' gives NoneType, which holds no dense floating-point tensor"),
        (lambda x: x.long(), "'inner' gives Tensor, which holds no dense floating-point tensor"),
        (lambda x: x.reshape(8, -1), r"'inner' gives \[8, 96\] for 4 images, not one row per image; .*'!inner'"),
        (lambda x: x.to_sparse(), "'inner' gives Tensor, which holds no dense floating-point tensor"),
        (lambda x: x.sum(), r"'inner' gives \[\] for 4 images"),
    ],
)
def test_outputs_that_are_refused_by_name(images, make, message):
    net = Around(make)
    with pytest.raises(CaptureError, match=message), capture(net, "inner"):
        net(images)


@pytest.mark.parametrize(
    "turn",
    [
        lambda x: x.flatten(1).to_sparse(),
        lambda x: x.flatten(1).to_sparse_csr(),
        lambda x: torch.nested.nested_tensor([*x], layout=torch.jagged),
        lambda x: torch.nested.nested_tensor([*x], layout=torch.strided),
    ],
    ids=["sparse", "sparse rows", "jagged", "nested"],
)
@pytest.mark.filterwarnings(
    "ignore:The PyTorch API of nested tensors:UserWarning", "ignore:Sparse CSR tensor:UserWarning"
)
def test_a_layer_without_dense_features_leaves_the_others_alone(images, turn):
    class Detour(Net):
        def forward(self, x):
            x = self.layer2(self.layer1(self.stem(x)))
            self.odd(turn(x))
            return self.fc(x.mean((2, 3)))

    net = Detour().eval()
    net.odd = torch.nn.Identity()
    with torch.no_grad(), capture(net, ["stem", "*"], reduce="whole") as taken:
        net(images)
    assert torch.equal(taken["stem"], net.stem(images))
    assert "odd" not in taken
    with torch.no_grad(), capture(net, "stages") as taken:
        net(images)
    assert [*taken] == [*stage_names(Net().eval(), images)]


@pytest.mark.slow
def test_reducers_of_maps(images):
    net = Net().eval()
    stem = net.stem(images)
    expected = {
        "flatten": stem.flatten(1),
        "gap": stem.mean((2, 3)),
        "mean": stem.mean((2, 3)),
        "tokens": stem.flatten(2).mT,
        "gram": centred_gram(stem),
    }
    for reduce, value in expected.items():
        with capture(net, "stem", reduce=reduce) as taken:
            net(images)
        assert torch.allclose(taken["stem"], value, atol=1e-6), reduce
    with capture(net, "stem", reduce=lambda x: x[:, :1]) as taken:
        net(images)
    assert torch.equal(taken["stem"], stem[:, :1])


@pytest.mark.slow
def test_reducers_of_tokens(vit):
    images = torch.randn(3, 3, 32, 32)
    with capture(vit, ["blocks.1", "patch_embed"], reduce="whole") as taken:
        vit(images)
    tokens = taken["blocks.1"]
    assert (taken.layouts["blocks.1"].kind, taken.layouts["blocks.1"].n_prefix) == ("tokens", 1)
    assert taken.layouts["patch_embed"].n_prefix == 0
    assert tokens.shape == (3, 17, 192)
    expected = {
        "cls": tokens[:, 0],
        "mean": tokens[:, 1:].mean(1),
        "gap": tokens[:, 1:].mean(1),
        "tokens": tokens[:, 1:],
    }
    for reduce, value in expected.items():
        with capture(vit, "blocks.1", reduce=reduce) as taken:
            vit(images)
        assert torch.allclose(taken["blocks.1"], value, atol=1e-6), reduce


@pytest.mark.slow
def test_channels_last_maps_are_averaged_over_positions():
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=2, depths=(1, 1, 1, 1)).eval()
    images = torch.randn(2, 3, 64, 64)
    with capture(swin, "layers.1", reduce="whole") as taken:
        swin(images)
    with capture(swin, "layers.1", reduce="gap") as averaged:
        swin(images)
    assert taken.layouts["layers.1"].kind == "NHWC"
    assert averaged["layers.1"].shape == (2, 192)
    assert torch.allclose(averaged["layers.1"], taken["layers.1"].mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto"])
@pytest.mark.parametrize("conv_mlp", [False, True])
def test_maps_inside_convnext_mlps_are_averaged_over_positions(name, conv_mlp):
    sizes = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
    net = timm.create_model(name, conv_mlp=conv_mlp, **sizes).eval()
    block = "stages.0.blocks.0"
    widths = {f"{block}.mlp.fc1": 32, f"{block}.mlp.act": 32, f"{block}.mlp": 8, f"{block}.drop_path": 8, block: 8}
    if name == "convnextv2_atto":
        widths[f"{block}.mlp.grn"] = 32
    images = torch.randn(2, 3, 32, 32)  # whose first maps are as wide as they have channels
    with capture(net, list(widths), reduce="whole") as taken, capture(net, list(widths), reduce="gap") as averaged:
        net(images)
    for layer, width in widths.items():
        last = not conv_mlp and ".mlp" in layer
        assert taken.layouts[layer].kind == ("NHWC" if last else "NCHW"), layer
        assert averaged[layer].shape == (2, width)
        assert torch.allclose(averaged[layer], taken[layer].mean((1, 2) if last else (2, 3)), atol=1e-6)


def test_vectors_have_no_positions(images):
    net = Net()
    with capture(net, "fc", reduce="gap") as taken:
        out = net(images)
    assert torch.equal(taken["fc"], out)
    message = r"layer 'fc': there are no positions in vector of shape \[4, 5\]"
    with pytest.raises(CaptureError, match=message), capture(net, "fc", reduce="tokens"):
        net(images)


def test_a_cnn_asked_for_a_class_token_is_told_what_it_has(images):
    net = Net()
    message = r"'stem': there is no class token in NCHW of shape \[4, 3, 8, 8\]; use gap"
    with pytest.raises(CaptureError, match=message), capture(net, "stem", reduce="cls"):
        net(images)


def test_non_finite_features_name_their_layer(images):
    net = Net().eval()
    net.layer1[1].bn1.weight.data.fill_(float("nan"))
    message = r"layer 'layer1\.1\.bn1': 768 NaN and 0 infinite"
    with pytest.raises(AnalysisError, match=message), capture(net, "*.bn1", reduce="gram"):
        net(images)


@pytest.mark.slow
def test_compiled_models_run_uncompiled_inside_the_block(images):
    net = Net().eval()
    compiled = torch.compile(net, backend="eager")
    expected = compiled(images)
    with capture(compiled, "layer1.0.relu") as taken:
        assert torch.equal(compiled(images), expected)
        assert list(taken) == ["layer1.0.relu#1", "layer1.0.relu#2"]


def test_wrapped_models_are_looked_through(images, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = nn.parallel.DistributedDataParallel(Net())
        with capture(net, "stages") as taken:
            net(images)
        assert list(taken) == ["layer1", "layer2"]
    finally:
        torch.distributed.destroy_process_group()


def test_autocast_gives_half_features_and_float64_grams(images):
    net = Net().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with capture(net, "stem", reduce="whole") as taken:
            net(images)
        with capture(net, "stem", reduce="gram") as grams:
            net(images)
    assert taken["stem"].dtype == torch.bfloat16
    assert torch.equal(grams["stem"], centred_gram(taken["stem"]))


def test_two_captures_of_one_model(images):
    net = Net().eval()
    with capture(net, "stem") as one, capture(net, "fc") as other:
        net(images)
    assert (list(one), list(other)) == (["stem"], ["fc"])
    assert n_hooks(net) == 0


def test_of_several_tensors_the_one_with_a_row_per_image_is_taken(images):
    class Inner(nn.Module):
        def forward(self, x):
            return x.flatten(0, 1), x.mean((2, 3))

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x)[1]

    model = Outer()
    with capture(model, "inner") as features:
        assert torch.equal(model(images), features["inner"])


@pytest.mark.slow
def test_the_public_name_is_callable_before_and_after_its_module_is_imported():
    code = (
        "import kdprobe, torch; from torch import nn\n"
        "model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())\n"
        "for _ in range(2):\n"
        "    with kdprobe.capture(model, ['0']) as features:\n"
        "        model(torch.ones(4, 3))\n"
        "    import kdprobe.features.capturing\n"
        "print(list(features))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['0']\n"


def test_a_network_in_data_parallel_is_looked_through(images):
    net = nn.DataParallel(Net())
    with capture(net, "layer1") as taken:
        net(images)
    assert list(taken) == ["layer1"]
    net.device_ids = [0, 1]
    with pytest.raises(CaptureError, match="runs in parts on several devices; capture its `module`"):
        capture(net, "layer1")


def test_a_call_that_never_happens_is_told(images):
    net = Net()
    for name in ("layer1.0.relu#3", "layer1.0.relu#0"):
        with pytest.raises(CaptureError, match=f"no call '{name}': 'layer1.0.relu' ran 2 times"), capture(net, name):
            net(images)


def test_layers_that_did_not_run_or_have_no_rows_are_left_out_of_globs(images):
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.never = nn.Conv2d(3, 3, 1), nn.Linear(3, 3)
            self.part = Returning(lambda x: x.reshape(-1, 3, 4, 4))
            self.number = Returning(lambda x: x.long())

        def forward(self, x):
            x = self.conv(x)
            self.number(self.part(x))
            return x

    net = Windows()
    with capture(net, "leaves") as taken:
        net(images)
    assert list(taken) == ["conv"]
    assert taken.left_out == {
        "part": "gives [16, 3, 4, 4] for 4 images, not one row per image",
        "number": "gives Tensor, which holds no dense floating-point tensor",
        "never": "did not run",
    }
    message = "no layer that 'n\\*' chooses has a feature: 'never' did not run, and so on; hooks do not run in traced"
    with pytest.raises(CaptureError, match=message), capture(net, ["conv", "n*"]):
        net(images)
    with pytest.raises(CaptureError, match="layer 'never' exists but did not run"), capture(net, ["conv", "never"]):
        net(images)
    message = r"'part' gives \[16, 3, 4, 4\] .*; leave it out with '!part'"
    with pytest.raises(CaptureError, match=message), capture(net, ["conv", "part"]):
        net(images)


def test_layers_given_as_modules(images):
    net = Net()
    with capture(net, [net.layer1, "fc", net.stem]) as taken:
        net(images)
    assert list(taken) == ["stem", "layer1", "fc"]
    with capture(net, net.layer1) as taken:  # which could be looped over
        net(images)
    assert list(taken) == ["layer1"]
    with pytest.raises(CaptureError, match="the Conv2d given as a layer is not part of Net"):
        capture(net, nn.Conv2d(3, 3, 1))
    with pytest.raises(CaptureError, match="a layer is a name or a module of the network, but is int"):
        as_choices.__wrapped__(net, [3]) if hasattr(as_choices, "__wrapped__") else as_choices(net, [3])


def test_a_module_of_two_names_answers_to_both(images):
    net = Net()
    net.again = net.layer1
    with capture(net, "again", reduce="gap") as taken:
        net(images)
    assert list(taken) == ["again"]
    assert "layer1" not in taken
    with capture(net, ["layer1", "leaves"]) as taken:
        net(images)
    assert torch.equal(taken["again"], taken["layer1"])
    assert torch.equal(taken["again.0.relu#2"], taken["layer1.0.relu#2"])
    assert "again" in taken
    assert not any(name.startswith("again") for name in taken)


def test_nested_outputs(images):
    net = Around(lambda x: ([None, {"ids": x.long(), "z": (x,)}], 2 * x))
    with capture(net, "inner", reduce="whole") as taken:
        net(images)
    assert torch.equal(taken["inner"], images)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("reduce", ["gap", "gram", "whole"])
def test_a_training_step_that_recomputes_its_activations(images, reentrant, reduce):
    class Recomputed(Net):
        def forward(self, x):
            x = checkpoint(self.layer1, self.stem(x), use_reentrant=reentrant)
            return self.fc(checkpoint(self.layer2, x, use_reentrant=reentrant).mean((2, 3)))

    def step(net, *, detach):
        with capture(net, ["layer1", "layer2.0.bn1"], reduce=reduce, evaluate=False, detach=detach) as taken:
            loss = net(images).square().sum()
            kept = {name: value.detach().clone() for name, value in taken.items()}
            (loss if detach else loss + sum(value.square().sum() for value in taken.values())).backward()
            assert all(torch.equal(value, taken[name]) for name, value in kept.items())
        return kept, net.stem.weight.grad

    for detach in (True, False):
        plain, other = Net().eval(), Recomputed().eval()
        other.load_state_dict(plain.state_dict())
        if reentrant and not detach:
            with pytest.raises(CaptureError, match="'layer1' runs without gradients, as inside a reentrant checkpoint"):
                step(other, detach=False)
            continue
        features, gradient = step(plain, detach=detach)
        again, other_gradient = step(other, detach=detach)
        assert all(torch.equal(value, again[name]) for name, value in features.items())
        torch.testing.assert_close(gradient, other_gradient)


class Several(nn.Module):
    """A layer that gives several tensors for each image."""

    def __init__(self, make):
        super().__init__()
        self.conv, self.inner = nn.Conv2d(3, 3, 1), Returning(make)

    def forward(self, x):
        return self.inner(self.conv(x))[0]


def test_of_several_tensors_the_map_is_taken_and_of_several_maps_none_in_silence(images):
    gate = Several(lambda x: (x.mean((2, 3)), x))
    with capture(gate, ["inner"], reduce="whole") as taken:
        gate(images)
    assert taken["inner"].shape == images.shape
    maps = Several(lambda x: (x, x[:, :, ::2, ::2]))
    with pytest.raises(CaptureError, match=r"several tensors .*: choose one by a function"), capture(maps, ["inner"]):
        maps(images)
    with capture(maps, ["inner"], reduce=lambda output: output[1]) as taken:
        maps(images)
    assert taken["inner"].shape == images[:, :, ::2, ::2].shape
    with capture(maps, "all") as taken:
        maps(images)
    assert "the first was taken" in taken.notes["inner"]


def test_a_list_of_images_is_as_many_images():
    class Stacks(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            return self.conv(torch.stack(images))

    model = Stacks()
    with capture(model, ["conv"], reduce="gap") as taken:
        model([torch.randn(3, 8, 8) for _ in range(2)])
    assert taken["conv"].shape == (2, 4)
