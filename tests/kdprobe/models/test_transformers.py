"""Networks of transformers, with random weights: their outputs are mappings, and some have no classifier."""

import pytest
import torch

import kdprobe
from kdprobe.models import Stages, model_info
from kdprobe.models.stages import measure

transformers = pytest.importorskip("transformers")

_VIT = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
_CNN = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
NETWORKS = {
    "vit": lambda: transformers.ViTModel(transformers.ViTConfig(**_VIT, intermediate_size=48)),
    "vit without pooler": lambda: transformers.ViTModel(transformers.ViTConfig(**_VIT), add_pooling_layer=False),
    "vit classifier": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**_VIT, num_labels=5)),
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**_VIT)),
    "clip": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**_VIT, intermediate_size=48)),
    "convnext": lambda: transformers.ConvNextModel(transformers.ConvNextConfig(**_CNN)),
    "convnext classifier": lambda: transformers.ConvNextForImageClassification(
        transformers.ConvNextConfig(**_CNN, num_labels=5)
    ),
}


def network(name):
    torch.manual_seed(0)
    size = 64 if "convnext" in name else None
    return kdprobe.describe(NETWORKS[name](), image_size=size).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_what_methods_get_is_what_the_network_itself_returns(name):
    model = network(name)
    info, shapes = model_info(model), measure(model)
    assert (info.n_classes, info.image_size) == (5 if "classifier" in name else 0, 64 if "convnext" in name else 32)
    images = torch.rand(3, 3, info.image_size, info.image_size)
    with torch.no_grad():
        features = Stages(model, needs=("maps", "pooled", "tokens"))(images)
        output = model(images, output_hidden_states=True)
    n_stages, is_vit = len(features.maps), "convnext" not in name
    assert n_stages == (3 if is_vit else 4)
    # the first hidden state is that of the embeddings; convnext's first stage keeps its size
    for given, own in zip(features.maps, output.hidden_states[-n_stages:], strict=True):
        torch.testing.assert_close(given, own[:, 1:].mT.unflatten(2, (4, 4)) if is_vit else own)
    assert features.n_prefix == (1 if is_vit else 0)
    assert (shapes.tokens is not None) == is_vit
    if "classifier" in name:
        assert torch.equal(features.logits, output.logits)
        assert torch.equal(model.classifier(features.pooled), output.logits)
    elif "without" in name:
        torch.testing.assert_close(features.pooled, output.last_hidden_state[:, 1:].mean(1))
    else:
        assert features.logits.shape == (3, 0)
        assert torch.equal(features.pooled, output.pooler_output)
    if is_vit and name != "clip":  # which normalises the class token alone
        last = model.vit(images) if "classifier" in name else output
        torch.testing.assert_close(features.tokens, last.last_hidden_state)
