"""Layouts, prefix tokens and stages, of networks of all kinds, against what plain hooks give."""

import warnings
from collections import deque

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torchvision.models import SwinTransformer, VisionTransformer

from kdprobe import describe
from kdprobe.errors import CaptureError
from kdprobe.features.capturing import capture
from kdprobe.models.facts import in_precision_of, stage_names
from kdprobe.models.layout import Layout
from kdprobe.models.watched.axes import BATCH, CHANNEL, COLUMN, ROW, Meaning, fresh, label, permuted, reshaped
from kdprobe.models.watched.tracing import trace
from tests.families import outputs, replayed


class Wrapped(nn.Module):
    """A backbone and a head of one's own."""

    def __init__(self, backbone, width):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(width, 7)

    def forward(self, x):
        return self.head(self.backbone(x))


class Embeddings(nn.Module):
    """As libraries keep them that have a configuration beside a network."""

    def __init__(self, width, n_registers):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.register_tokens = nn.Parameter(torch.randn(1, n_registers, width))
        self.position_embeddings = nn.Parameter(torch.randn(1, 17, width))
        self.projection = nn.Conv2d(3, width, 8, 8)

    def forward(self, x):
        tokens = self.projection(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1) + self.position_embeddings
        return torch.cat([tokens[:, :1], self.register_tokens.expand(len(x), -1, -1), tokens[:, 1:]], 1)


class Lookalike(nn.Module):
    """A Vision Transformer that is none of a library."""

    def __init__(self, n_registers=0, width=24):
        super().__init__()
        self.embeddings = Embeddings(width, n_registers)
        self.layer = nn.ModuleList(nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True) for _ in range(3))
        self.classifier = nn.Linear(width, 5)

    def forward(self, x):
        tokens = self.embeddings(x)
        for layer in self.layer:
            tokens = layer(tokens)
        return self.classifier(tokens[:, 0])


class Late(nn.Module):
    """Its class token joins behind the first block, and at the end of the tokens in the second network."""

    def __init__(self, *, last=False):
        super().__init__()
        self.patches, self.last = nn.Conv2d(3, 8, 8, 8), last
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in range(2))
        self.class_token = nn.Parameter(torch.ones(1, 1, 8))

    def forward(self, x):
        x = self.blocks[0](self.patches(x).flatten(2).mT)
        parts = [self.class_token.expand(len(x), -1, -1), x]
        return self.blocks[1](torch.cat(parts[:: -1 if self.last else 1], 1))


def small_swin():
    return SwinTransformer([4, 4], 8, [1, 1, 2], [2, 2, 4], [4, 4], num_classes=5)


def small_vit(**args):
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=24, num_heads=2, **args
    )


def layout(model, layer, images):
    with torch.no_grad(), capture(model, [layer], reduce="whole") as features:
        model(images)
        return features.layouts[layer]


def reduced(model, layers, reduce, images):
    with torch.no_grad(), capture(model, layers, reduce=reduce) as features:
        model(images)
        return dict(features)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "layer", "n_prefix", "has_class"),
    [
        (lambda: Wrapped(small_vit(num_classes=0), 24), "backbone.blocks.1", 1, True),
        (lambda: small_vit(reg_tokens=2), "blocks.0", 3, True),
        (lambda: small_vit(reg_tokens=2, class_token=False, global_pool="avg"), "blocks.0", 2, False),
        (lambda: VisionTransformer(32, 8, 2, 2, 24, 48), "encoder.layers.encoder_layer_1", 1, True),
        (lambda: Wrapped(VisionTransformer(32, 8, 2, 2, 24, 48), 1000), "backbone.encoder.ln", 1, True),
        (Lookalike, "layer.1", 1, True),
        (lambda: Lookalike(n_registers=3), "layer.2", 4, True),
        (Late, "blocks.0", 0, False),
        (Late, "blocks.1", 1, True),
    ],
)
def test_prefix_tokens_are_left_out_and_the_class_token_is_found(make, layer, n_prefix, has_class):
    torch.manual_seed(0)
    model, images = make().eval(), torch.randn(3, 3, 32, 32)
    tokens = outputs(model, images, [layer])[layer]
    assert layout(model, layer, images) == Layout("tokens", n_prefix, 0 if has_class else None)
    assert torch.allclose(reduced(model, [layer], "gap", images)[layer], tokens[:, n_prefix:].mean(1), atol=1e-5)
    assert torch.allclose(reduced(model, [layer], "tokens", images)[layer], tokens[:, n_prefix:], atol=1e-5)
    if has_class:
        assert torch.allclose(reduced(model, [layer], "cls", images)[layer], tokens[:, 0], atol=1e-5)
    else:
        with pytest.raises(CaptureError, match="there is no class token in tokens"):
            reduced(model, [layer], "cls", images)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "layer", "kind"),
    [
        (small_swin, "features.0", "NHWC"),
        (lambda: Wrapped(small_swin(), 5), "backbone.features.3", "NHWC"),
        (lambda: small_vit(dynamic_img_size=True), "patch_embed", "NHWC"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU()), "1", "NCHW"),
    ],
)
def test_maps_are_averaged_over_positions_also_where_all_sizes_are_equal(make, layer, kind):
    model, images = make().eval(), torch.randn(3, 3, 32, 32)  # the first maps of the Swin are 8 x 8 of 8 channels
    value = outputs(model, images, [layer])[layer]
    assert layout(model, layer, images).kind == kind
    expected = value.mean((1, 2) if kind == "NHWC" else (2, 3))
    assert torch.allclose(reduced(model, [layer], "gap", images)[layer], expected, atol=1e-5)


@pytest.mark.slow
def test_what_cannot_be_known_is_refused():
    images = torch.randn(3, 3, 32, 32)
    with pytest.raises(
        CaptureError, match=r"'blocks.1': it is not known which dimensions of \[3, 17, 8\] are positions"
    ):
        reduced(Late(last=True), ["blocks.1"], "gap", images)
    vit = small_vit(qk_norm=True)
    with pytest.raises(CaptureError, match=r"dimensions of \[3, 2, 17, 12\] are positions; use flatten"):
        reduced(vit, ["blocks.0.attn.q_norm"], "gap", images)
    with pytest.raises(
        CaptureError, match=r"is not known .*; or leave out '!blocks.0.attn.q_norm', '!blocks.1.attn.q_no"
    ):
        reduced(vit, ["*.q_norm"], "gap", images)
    assert reduced(vit, ["*.q_norm"], "flatten", images)["blocks.0.attn.q_norm"].shape == (3, 2 * 17 * 12)


def test_a_class_token_alone_has_no_positions():
    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit, self.norm = small_vit(), nn.LayerNorm(24)

        def forward(self, x):
            return self.norm(self.vit.forward_features(x)[:, :1])

    images, model = torch.randn(2, 3, 32, 32), Alone().eval()
    assert torch.equal(reduced(model, ["norm"], "cls", images)["norm"], outputs(model, images, ["norm"])["norm"][:, 0])
    with pytest.raises(CaptureError, match=r"there are no positions in tokens with 1 prefix of shape \[2, 1, 24\]"):
        reduced(model, ["norm"], "gap", images)


def features_and_classifier():
    def block(i, o, s):
        return nn.Sequential(nn.Conv2d(i, o, 3, s, 1), nn.BatchNorm2d(o), nn.ReLU())

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(block(3, 8, 1), block(8, 16, 2), block(16, 32, 2))
            self.classifier = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 7))

        def forward(self, x):
            return self.classifier(self.features(x).mean((2, 3)))

    return Net()


def two_stages_of_blocks():
    """Of one resolution: the stages are not the blocks of the longest one."""
    body = [nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.ReLU()) for _ in range(n))) for n in (2, 5)]
    return nn.Sequential(nn.Conv2d(3, 4, 8, 8), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "names", "positions"),
    [
        (features_and_classifier, ["features.0", "features.1", "features.2"], [1024, 256, 64]),
        (lambda: Wrapped(features_and_classifier(), 7), [f"backbone.features.{i}" for i in range(3)], [1024, 256, 64]),
        (two_stages_of_blocks, ["1", "2"], [16, 16]),
        (Lookalike, ["layer.0", "layer.1", "layer.2"], [17, 17, 17]),
        (small_swin, ["features.1", "features.3", "features.5"], [64, 16, 4]),
        (
            lambda: VisionTransformer(32, 8, 2, 2, 24, 48),
            [f"encoder.layers.encoder_layer_{i}" for i in (0, 1)],
            [17, 17],
        ),
        pytest.param(
            lambda: Wrapped(timm.create_model("test_resnet", num_classes=0), 96),
            ["backbone.act1", *(f"backbone.layer{i}" for i in range(1, 5))],
            [256, 64, 16, 4, 1],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: torchvision.models.squeezenet1_1(num_classes=5),
            ["features.1", "features.4", "features.7", "features.12"],
            [225, 49, 9, 1],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_stages_end_each_resolution_and_the_rest_runs_from_each(make, names, positions):
    torch.manual_seed(0)
    model, images = make().eval(), torch.randn(2, 3, 32, 32)
    assert stage_names(model, images) == names
    whole = reduced(model, "stages", "whole", images)
    channel = {name: {"NCHW": 1, "NHWC": 3, "tokens": 2}[layout(model, name, images).kind] for name in names}
    assert [value[0].numel() // value.shape[channel[name]] for name, value in whole.items()] == positions
    with torch.no_grad():
        logits = model(images)
    for name, value in whole.items():
        assert torch.allclose(replayed(model, images, name, value), logits, atol=1e-5), name


def test_stages_without_a_described_size_ask_for_images():
    with pytest.raises(
        CaptureError, match=r"stages of Late are found in a forward pass, but nothing is known .* give images"
    ):
        stage_names(Late())


def test_networks_without_stages_are_refused():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.one(x) @ self.other(x)

    named = r"by name, or 'leaves' \(--teacher-layers, .* in Python arguments\), or name the stages by .*$"
    with pytest.raises(
        CaptureError, match=rf"the stages of Branches cannot be determined: no module's output .* {named}"
    ):
        reduced(Branches(), "stages", "flatten", torch.randn(2, 3, 8, 8))
    with warnings.catch_warnings(action="ignore"):  # torch deprecates what people still have
        traced = torch.jit.trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval(), torch.randn(2, 3, 8, 8))
    with pytest.raises(
        CaptureError, match=r"no module of .* could be seen running, .*hooks do not run in traced networks"
    ):
        reduced(traced, "stages", "flatten", torch.randn(2, 3, 8, 8))
    with pytest.raises(CaptureError, match=r"could be seen running, .* \(RuntimeError: .*channels"):
        stage_names(nn.Sequential(nn.Conv2d(4, 4, 3)), torch.randn(2, 3, 8, 8))


def test_stages_that_timm_names_and_that_do_not_run():
    model = timm.create_model("test_resnet", num_classes=5)
    model.set_grad_checkpointing(True)
    with pytest.raises(
        CaptureError, match="stages 'layer1', 'layer2', 'layer3', 'layer4' of ResNet exist but did not run"
    ):
        reduced(model, "stages", "flatten", torch.randn(2, 3, 32, 32))


@pytest.mark.slow
def test_two_networks_side_by_side_have_no_stages_of_one():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (timm.create_model("test_resnet", num_classes=0) for _ in range(2))

        def forward(self, x):
            return self.a(x) + self.b(x)

    with pytest.raises(CaptureError, match="the stages of Two cannot be determined"):
        stage_names(Two(), torch.randn(2, 3, 32, 32))


def test_a_watched_pass_leaves_nothing_behind():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    images, before = torch.randn(2, 3, 8, 8), torch.get_rng_state()
    mean = model[1].running_mean.clone()
    seen = trace(model, (images,), {})
    assert [call.name for call in seen.calls] == ["0", "1", "2"]
    assert model.training
    assert model[2].training
    assert torch.equal(model[1].running_mean, mean)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module._forward_hooks for module in model.modules())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 4), st.integers(1, 6))
def test_windows_are_cut_and_put_together_again(rows, columns, window, channels):
    height, width = rows * window, columns * window
    axes = tuple(fresh(kind, n) for kind, n in zip("byxc", (2, height, width, channels), strict=True))
    cut = reshaped(axes, (2, rows, window, columns, window, channels))
    windows = reshaped(permuted(cut, (0, 1, 3, 2, 4, 5)), (2 * rows * columns, window * window, channels))
    assert rows == columns == 1 or label(windows[0]) == "?"
    again = permuted(reshaped(windows, (2, rows, columns, window, window, channels)), (0, 1, 3, 2, 4, 5))
    again = reshaped(again, (2, height, width, channels))
    assert [label(axis) for axis in again] == ["b", "y", "x", "c" if channels > 1 else "1"]
    assert Meaning(again).n_positions == height * width if channels > 1 else True


OPERATIONS = {
    "a mean over positions": (lambda x: x.mean((2, 3)), "bc"),
    "tokens of a map": (lambda x: x.flatten(2).transpose(1, 2), "bnc"),
    "rows are mixed": (lambda x: F.linear(x, torch.ones(7, 5)), "bcy?"),
    "channels are linear": (lambda x: F.linear(x.movedim(1, -1), torch.ones(7, 3)), "byxc"),
    "pooled and resized": (lambda x: F.interpolate(F.max_pool2d(x, 2), (9, 8)), "bcyx"),
    "an attention": (lambda x: _attention(x.flatten(2).mT), "bnc"),
    "by einsum": (lambda x: torch.einsum("bchw,dc->bhwd", x, torch.ones(7, 3)), "byx?"),
    "pieces of channels": (lambda x: torch.cat(x.chunk(3, 1)[::-1], 1), "bcyx"),
    "a strided part": (lambda x: x[:, :, ::2, 1:], "bcyx"),
    "patches": (lambda x: F.unfold(x, 2, stride=2), "bcn"),
    "patches of a reshape": (lambda x: F.linear(_patches(x), torch.ones(7, 12)), "bnc"),
    "fourier": (lambda x: torch.fft.rfft2(x).abs(), "????"),
}


def _attention(tokens):
    heads = tokens[..., None].expand(-1, -1, -1, 4).flatten(2).unflatten(2, (4, 3)).transpose(1, 2)
    weight = (heads @ heads.transpose(-2, -1)).softmax(-1)
    return F.linear((weight @ heads).transpose(1, 2).flatten(2), torch.ones(5, 12))


def _patches(x):
    return x[..., :4, :4].reshape(2, 3, 2, 2, 2, 2).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_meaning_of_axes_goes_through_operations(name):
    operation, labels = OPERATIONS[name]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x):
            return self.layer(operation(x))

    seen = trace(Net(), (torch.rand(2, 3, 6, 5),), {}).calls[0]
    assert "".join(seen.meaning.labels) == labels


def test_labels():
    row, column = fresh(ROW, 4), fresh(COLUMN, 3)
    assert label((*row, *column)) == "n"
    assert label((*fresh(BATCH, 2), *row)) == "?"
    assert label(()) == "1"
    assert Meaning((fresh(BATCH, 2), fresh(CHANNEL, 3), row, column)).n_positions == 12
    assert Meaning((fresh(BATCH, 2), fresh(CHANNEL, 3))).n_positions is None


def test_images_in_the_precision_of_a_network():
    images = torch.rand(2, 3)
    assert in_precision_of(nn.Linear(3, 2).bfloat16(), images).dtype == torch.bfloat16
    assert in_precision_of(nn.Linear(3, 2), images) is images
    assert in_precision_of(nn.Sequential(nn.Linear(3, 2).half(), nn.Linear(2, 2)), images) is images
    assert in_precision_of(nn.Embedding(3, 2).half(), images.long()).dtype == torch.int64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert in_precision_of(nn.Linear(3, 2).half(), images) is images


def test_a_random_network_draws_what_it_draws_unwatched():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, images):
            return self.conv(images + torch.rand_like(images))

    net, images = Noisy(), torch.zeros(4, 3, 8, 8)
    torch.manual_seed(0)
    expected = net(images)
    torch.manual_seed(0)
    with capture(net, "conv", reduce="gap"):
        assert torch.equal(net(images), expected)


def conv(i, o, stride=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1), nn.ReLU())


class Sequences(nn.Module):
    """Its layers give [positions, images, d]."""

    def __init__(self):
        super().__init__()
        self.patches, self.block, self.head = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.block(self.patches(x).flatten(2).permute(2, 0, 1)).mean(0))


@pytest.mark.parametrize("reduce", ["flatten", "whole", "gram", "gap", lambda value: value])
@pytest.mark.parametrize("n_images", [2, 4, 16])
def test_positions_are_no_images_where_there_are_as_many(reduce, n_images):
    side = 8 * {2: 2, 4: 2, 16: 4}[n_images]
    images = torch.randn(n_images, 3, side, side // 2 if n_images == 2 else side)
    with pytest.raises(CaptureError, match=r"whose first dimension is not that of the .* images"):
        reduced(Sequences(), ["block"], reduce, images)
    assert list(reduced(Sequences(), "leaves", reduce, images)) == ["patches", "head"]


class Thrice(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 4, 3, 1, 1), conv(4, 4, 2), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.block(self.block(self.stem(x))).mean((2, 3)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.deep, self.up, self.out = conv(3, 4), conv(4, 8, 2), conv(12, 4), nn.Conv2d(4, 5, 1)

    def forward(self, x):
        first = self.down(x)
        return self.out(self.up(torch.cat([first, F.interpolate(self.deep(first), scale_factor=2)], 1)))


def padded(i, o):
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(i, o, 3, 2), nn.BatchNorm2d(o), nn.ReLU())


def head(width):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (
            lambda: nn.Sequential(conv(3, 8, 2), conv(8, 16, 2), nn.Conv2d(16, 5, 1), nn.AdaptiveAvgPool2d(1)),
            ["0", "1"],
        ),
        (
            lambda: nn.Sequential(conv(3, 8, 2), conv(8, 16, 2), nn.Conv2d(16, 5, 1), nn.Upsample(scale_factor=4)),
            ["0", "1"],
        ),
        (lambda: nn.Sequential(padded(3, 8), nn.Dropout(), padded(8, 16), *head(16)), ["0", "2"]),
        (Thrice, ["stem", "block#1", "block#2"]),
        (lambda: timm.models.MlpMixer(img_size=32, patch_size=8, num_blocks=2, embed_dim=24), ["blocks.0", "blocks.1"]),
    ],
)
def test_stages_are_neither_class_maps_nor_padding_and_each_resolution_has_one(make, names):
    model, images = make().eval(), torch.randn(2, 3, 32, 32)
    taken = reduced(model, "stages", "tokens", images)
    assert list(taken) == names
    assert [value.shape[1] for value in taken.values()][-1] in (64, 16)


class Shared(nn.Module):
    """Layers in a row, or residual blocks of them, behind each of which one ReLU is called, or one of its own."""

    def __init__(self, *, shared, skips):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 3, s, 1) for i, o, s in [(3, 8, 1), (8, 8, 1), (8, 16, 2), (16, 32, 2)]
        )
        self.act = nn.ReLU(inplace=True)
        self.acts = [self.act] * 4 if shared else nn.ModuleList(nn.ReLU() for _ in range(4))
        self.skips, self.fc = skips, nn.Linear(32, 5)

    def forward(self, x):
        for conv, act in zip(self.convs, self.acts, strict=True):
            y = conv(x)
            x = act(x + y if self.skips and x.shape == y.shape else y)
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("skips", [False, True])
def test_a_shared_layer_ends_stages_as_one_of_its_own_would(skips):
    images = torch.randn(2, 3, 32, 32)
    own, shared = Shared(shared=False, skips=skips).eval(), Shared(shared=True, skips=skips).eval()
    shared.load_state_dict(own.state_dict())
    taken, again = reduced(own, "stages", "whole", images), reduced(shared, "stages", "whole", images)
    assert list(taken) == ["acts.1", "acts.2", "acts.3"]
    assert list(again) == ["act#2", "act#3", "act#4"]
    assert all(torch.equal(one, other) for one, other in zip(taken.values(), again.values(), strict=True))


def test_stages_that_skip_connections_lead_around_are_refused():
    with pytest.raises(
        CaptureError, match=r"build on 'down', 'up' alone, but on none of 'deep' \(256 positions\) alone"
    ):
        reduced(UNet(), "stages", "whole", torch.randn(2, 3, 32, 32))


def test_a_watched_pass_puts_buffers_and_counters_back():
    class Queue(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.count = nn.Conv2d(3, 4, 3), 0
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.count += len(x)
            self.seen += len(x)
            return self.conv(x)

    model = Queue()
    reduced(model, ["conv"], "gap", torch.randn(4, 3, 8, 8))
    assert (model.count, float(model.seen)) == (4, 4.0)


def test_a_watched_pass_puts_back_what_is_inside_lists_and_the_like():
    class Notes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.passes, self.last, self.kinds = nn.Conv2d(3, 4, 3), [], {"before": [0]}, {"conv"}
            self.total, self.latest = torch.zeros(1), deque([1, 2], maxlen=2)

        def forward(self, x):
            y = self.conv(x)
            self.passes.append(y)
            self.last["before"].append(len(x))
            self.last["after"] = y
            self.kinds.add("seen")
            self.total += len(x)
            self.latest.append(len(x))
            return y

    model = Notes()
    passes, before = model.passes, model.last["before"]
    trace(model, (torch.randn(2, 3, 8, 8),), {})
    assert (model.passes, model.last, model.kinds) == ([], {"before": [0]}, {"conv"})
    assert (float(model.total), list(model.latest)) == (0, [1, 2])
    assert model.passes is passes
    assert model.last["before"] is before


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_tensor_out_of_sight_is_not_taken_for_one_that_lay_there_before():
    @torch.jit.script
    def scripted(x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1) * 3.0).sum(1, keepdim=True).expand(-1, 256).reshape(2, 4, 8, 8).contiguous()

    class Scripted(nn.Module):
        def forward(self, x):
            return scripted(x)

    model = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), Scripted()) for _ in range(6)))
    seen = trace(model, (torch.randn(2, 4, 8, 8),), {})
    last = [call for call in seen.calls if call.kind == "Scripted"]
    assert [call.meaning.worked for call in last] == [2, 4, 6, 8, 10, 12]
    assert all(seen.is_cut(call) for call in seen.calls)


def test_a_description_does_not_turn_channels_into_tokens():
    model = timm.create_model("mixer_s32_224", pretrained=False, img_size=64, num_classes=10).eval()
    describe(model, prefix_tokens=0, image_size=64)
    names = ["blocks.0.mlp_tokens", "blocks.0.mlp_channels"]
    with torch.no_grad(), capture(model, names, reduce="whole") as features:
        model(torch.rand(4, 3, 64, 64))
    assert [features.layouts[name].kind for name in names] == ["other", "tokens"]
    refused = pytest.raises(CaptureError, match=r"not known which dimensions of \[4, 512, 4\] are positions")
    with refused, torch.no_grad(), capture(model, names[:1], reduce="gap"):
        model(torch.rand(4, 3, 64, 64))
