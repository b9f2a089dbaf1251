"""Small networks of transformers with random weights, made from their configurations; no file is read or fetched."""

from typing import Any

import pytest
import torch
from torch import nn

SIZE = 32
VIT = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": SIZE, "patch_size": 8}
TEXT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 99}
STAGES = {
    "ViTForImageClassification": [f"vit.layers.{number}" for number in range(3)],
    "Dinov2Model": [f"encoder.layer.{number}" for number in range(3)],
    "Dinov2WithRegistersModel": [f"encoder.layer.{number}" for number in range(3)],
    "CLIPVisionModel": [f"encoder.layers.{number}" for number in range(3)],
    "ConvNextForImageClassification": [f"convnext.encoder.stages.{number}" for number in range(4)],
}
N_PREFIX = {"ViTForImageClassification": 1, "Dinov2Model": 1, "Dinov2WithRegistersModel": 3, "CLIPVisionModel": 1}


def made(name: str) -> nn.Module:
    """One of the networks in STAGES, or `CLIPModel`, which takes words as well; skips where transformers is missing."""
    hf: Any = pytest.importorskip("transformers")
    torch.manual_seed(0)
    configs = {
        "ViTForImageClassification": lambda: hf.ViTConfig(**VIT, intermediate_size=48, num_labels=5),
        "Dinov2Model": lambda: hf.Dinov2Config(**VIT, mlp_ratio=2),
        "Dinov2WithRegistersModel": lambda: hf.Dinov2WithRegistersConfig(**VIT, mlp_ratio=2, num_register_tokens=2),
        "CLIPVisionModel": lambda: hf.CLIPVisionConfig(**VIT, intermediate_size=48),
        "ConvNextForImageClassification": lambda: hf.ConvNextConfig(
            hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], image_size=SIZE, num_labels=5
        ),
        "CLIPModel": lambda: hf.CLIPConfig(
            text_config=TEXT, vision_config=VIT | {"intermediate_size": 48}, projection_dim=16
        ),
    }
    model: nn.Module = getattr(hf, name)(configs[name]())
    return model.eval()


def clip_vision() -> nn.Module:
    """A constructor as kdprobe names it, `tests.transformers_networks:clip_vision`."""
    return made("CLIPVisionModel")
