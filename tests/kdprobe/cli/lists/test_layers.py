"""`kdprobe list layers`: what any network has inside, by the names that other commands take."""

import pytest
import torch
from torch import nn
from transformers import SwinConfig, SwinForImageClassification

import kdprobe
from kdprobe.cli.group import run
from kdprobe.errors import CaptureError, ModelError
from kdprobe.models import create
from kdprobe.models.checkpoint import save
from kdprobe.models.creation import ModelInfo, attach
from kdprobe.models.layer_table import layer_table
from tests.kdprobe.models.foreign.test_loading import SMALL


def listed(model, layers="all"):
    return {row.name: row for row in layer_table(model, layers)[0]}


def test_layers_of_a_residual_network():
    rows = listed(create("resnet8", n_classes=10, image_size=32))
    assert {name: row.role for name, row in rows.items() if row.role} == {
        "act1": "stage 1", "layer1": "stage 2", "layer2": "stage 3", "layer3": "stage 4", "fc": "classifier",
    }  # fmt: skip
    conv = rows["layer3.0.conv1"]
    assert (conv.kind, conv.shape, conv.layout, conv.parameters) == ("Conv2d", "64 x 8 x 8", "NCHW", 64 * 32 * 9)
    assert (rows["fc"].shape, rows["fc"].layout, rows["fc"].parameters) == ("10", "vector", 650)
    assert next(iter(rows)) == "conv1"
    assert list(listed(create("resnet8", n_classes=10, image_size=32), ["layer3*", "!*.bn?"])) == [
        name for name in rows if name.startswith("layer3") and ".bn" not in name
    ]


def test_layers_of_transformers_and_of_windows():
    rows = listed(create("vit_tiny_patch16_224", n_classes=5, image_size=32, args=SMALL))
    block = rows["blocks.0"]
    assert (block.shape, block.layout, block.role) == ("5 x 24", "tokens with 1 prefix", "stage 1")
    assert rows["head"].role == "classifier"
    args = {"depths": (1, 1), "num_heads": (2, 4), "embed_dim": 16}
    rows = listed(create("swin_tiny_patch4_window7_224", n_classes=5, image_size=56, args=args))
    assert rows["layers.0.blocks.0.attn.qkv"].shape == "4 x 49 x 48"  # four windows of an image
    headless = create("vit_tiny_patch16_224", n_classes=0, image_size=32, args=SMALL)
    assert "classifier" not in {row.role for row in listed(headless).values()}


def test_stages_alone_are_listed_shallow_to_deep():
    """Also where the deepest ends with a module around the others."""
    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, num_labels=3
    )
    model = kdprobe.describe(SwinForImageClassification(config), image_size=32)
    rows, reason = layer_table(model, "stages")
    assert (reason, [row.role for row in rows]) == ("", ["stage 1", "stage 2"])
    assert rows[1].name == "swin.encoder"


class Twice(nn.Module):
    """One layer that runs twice, and no stage at all."""

    def __init__(self, *, num_classes, image_size):
        super().__init__()
        self.body, self.out = nn.Linear(3 * image_size**2, 3 * image_size**2), nn.Linear(3 * image_size**2, num_classes)

    def forward(self, images):
        return self.out(self.body(self.body(images.flatten(1)).relu()))


def test_calls_of_one_module_and_stages_that_are_not_known(capsys):
    model = create(f"{__name__}:Twice", n_classes=4, image_size=8)
    rows, reason = layer_table(model)
    assert [(row.name, row.role) for row in rows] == [("body#1", ""), ("body#2", ""), ("out", "classifier")]
    assert reason.startswith("the stages of Twice cannot be determined")
    with pytest.raises(CaptureError, match="the stages of Twice cannot be determined"):
        layer_table(model, "stages")
    run("list", "layers", f"{__name__}:Twice", "--image-size", "8", "--classes", "4")
    shown = capsys.readouterr()
    assert "Twice: 37,828 parameters, images of 8 px, 4 classes" in shown.out
    assert shown.err.startswith("note: the stages of Twice cannot be determined: ")


def test_what_a_user_describes_is_shown():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6))
    kdprobe.describe(model, stages=["1"], classifier="4", image_size=16)
    assert {name: row.role for name, row in listed(model).items() if row.role} == {"1": "stage 1", "4": "classifier"}


def test_a_checkpoint_is_listed_from_the_command_line(tmp_path, capsys):
    save(create("resnet8", n_classes=3, image_size=32), tmp_path / "a.safetensors")
    run("list", "layers", tmp_path / "a.safetensors", "--layers", "stages", "--layers", "fc")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["layer", "act1", "layer1", "layer2", "layer3", "fc", "resnet8:"]
    assert lines[-1] == "resnet8: 77,587 parameters, images of 32 px, 3 classes"
    with pytest.raises(CaptureError, match=r"no layer 'layr1' in CifarResNet; did you mean 'layer1'"):
        run("list", "layers", "resnet8", "--layers", "layr1")
    with pytest.raises(ModelError, match="no model 'resnet81'"):
        run("list", "layers", "resnet81")


class Broken(nn.Module):
    def forward(self, images):
        raise ValueError("odd")


def test_a_network_that_cannot_run_is_told():
    broken = attach(Broken(), ModelInfo("broken", n_classes=2, image_size=8))
    with pytest.raises(CaptureError, match="no module of broken could be seen running: ValueError: odd"):
        layer_table(broken)
    with pytest.raises(ModelError, match="nothing is known about"):
        layer_table(nn.Linear(2, 2).to(torch.float32))
