"""Counts against formulas and against published figures."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from analyses.commands.complexity import complexity as command
from analyses.complexity import CONVENTIONS, complexity, complexity_result, complexity_table
from kdprobe.errors import ModelError
from kdprobe.models import ModelInfo, create
from kdprobe.models.checkpoint import save
from kdprobe.models.creation import attach
from kdprobe.models.named import model_of
from kdprobe.results import load_result


def vit_macs(size: int, patch: int, width: int, depth: int, n_classes: int, *, attention: bool) -> int:
    """Projections, feed-forward layers and the two products of attention, by hand."""
    n_patches = (size // patch) ** 2
    n = n_patches + 1
    block = n * width * (3 * width + width + 4 * width + 4 * width)
    products = 2 * n * n * width if attention else 0
    return n_patches * 3 * patch**2 * width + depth * (block + products) + width * n_classes


def test_a_vit_equals_its_formula() -> None:
    found = complexity(model_of("vit_base_patch16_224"))
    assert found.macs == vit_macs(224, 16, 768, 12, 1000, attention=True)
    assert found.macs / 1e9 == pytest.approx(17.564, abs=5e-4)
    assert found.flops == 2 * found.macs
    assert found.parameters == 86_567_656


@pytest.mark.parametrize(
    ("name", "n_classes", "millions", "gmacs"),
    [("resnet18", 7, 11.18, 1.82), ("resnet50", 7, 23.52, 4.12), ("mobilenetv2_100", 1000, 3.50, 0.3203)],
)
def test_counting_by_modules_gives_published_figures(name: str, n_classes: int, millions: float, gmacs: float) -> None:
    found = complexity(model_of(name, n_classes=n_classes))
    assert found.n_classes == n_classes
    assert found.parameters / 1e6 == pytest.approx(millions, abs=0.006)
    assert found.module_operations / 1e9 == pytest.approx(gmacs, rel=0.002)
    assert found.macs < found.module_operations


def test_the_published_resnet50_has_its_strides_in_the_first_convolutions() -> None:
    model = model_of("resnet50", n_classes=7)
    for block in (model.layer2[0], model.layer3[0], model.layer4[0]):  # type: ignore[index]
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    assert complexity(model).module_operations / 1e9 == pytest.approx(3.887, abs=5e-4)


def test_each_kind_of_module_is_counted_by_hand() -> None:
    model = create("resnet8", n_classes=10, image_size=16)
    body = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(16), nn.Flatten(), nn.Linear(4, 10)
    )
    model.forward = body.forward  # type: ignore[method-assign]
    model.body = body
    found = complexity(model)
    pixels = 16 * 16
    assert found.macs == pixels * 4 * 27 + 40
    assert found.module_operations == pixels * 4 * (27 + 1) + 2 * pixels * 4 + pixels * 4 + pixels * 4 + 40 + 10


@pytest.mark.parametrize("name", ["resnet20", "vit_tiny_patch16_224", "mobilenetv2_100", "resnet18"])
def test_parts_add_up(name: str) -> None:
    found = complexity(model_of(name))
    assert sum(part[1] for part in found.parts) == found.parameters
    assert sum(part[2] for part in found.parts) == found.macs
    assert 4 <= len(found.parts) <= 20


def test_a_list_of_modules_has_the_operations_of_its_members() -> None:
    found = complexity(model_of("crossvit_tiny_240"))
    blocks = sum(macs for name, _, macs in found.parts if name.startswith("blocks"))
    assert blocks > 0.8 * found.macs
    assert sum(part[2] for part in found.parts) == found.macs


def test_counting_changes_nothing() -> None:
    model = create("resnet8", n_classes=10, image_size=32).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    complexity(model)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_defaults_of_names() -> None:
    sizes = {name: complexity(model_of(name)) for name in ("resnet20", "timm:mobilevitv2_100")}
    assert [(one.n_classes, one.image_size) for one in sizes.values()] == [(100, 32), (1000, 256)]
    with pytest.raises(ModelError, match=r"resnet81"):
        model_of("resnet81")


def test_the_command(tmp_path: Path) -> None:
    save(create("resnet8", n_classes=3, image_size=16), tmp_path / "net.safetensors")
    arguments = [str(tmp_path / "net.safetensors"), "resnet20", "--classes", "7", "--out", str(tmp_path), "--stages"]
    outcome = CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    assert "parameters (M)" in outcome.stdout
    assert "layer3" in outcome.stdout
    assert all(meaning in outcome.stderr for meaning in CONVENTIONS.values())
    table = pd.read_csv(tmp_path / "complexity.csv")
    assert table[["classes", "pixels"]].to_numpy().tolist() == [[3, 16], [7, 32]]
    result = load_result(tmp_path / "complexity.npz", kind="complexity")
    assert result.arrays["parameters"].tolist() == table.parameters.tolist()


def test_the_table_of_parts_names_each_model() -> None:
    counted = [complexity(model_of("resnet8"))]
    table = complexity_table(complexity_result(["a"], counted), parts=True)
    assert table.model.unique().tolist() == ["a"]
    assert table.macs.sum() == counted[0].macs


class _Token(nn.Module):
    """Hands an expanded parameter to a module, as networks with a class token do."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.layer = nn.Parameter(torch.ones(1, 1, 6)), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.token.expand(len(x), -1, -1))[:, 0] + x.mean()


def test_an_expanded_parameter_may_be_handed_to_a_module() -> None:
    model = attach(_Token(), ModelInfo("token", 5, 8))
    assert complexity(model).macs == 6 * 5
    assert all(parameter.requires_grad for parameter in model.parameters())
