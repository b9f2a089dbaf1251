"""One small network of each of timm's families, looked at through `capture` and through `Stages`."""

import pytest
import timm
import torch

from kdprobe.capture import capture
from kdprobe.errors import KdprobeError
from kdprobe.models.create import create
from kdprobe.models.stages import Stages

SIZES = (64, 96, 128, 192, 224, 240, 256, 299)  # the first that a network takes counts
SMALL = (
    "test_",
    "atto",
    "femto",
    "nano",
    "xxt",
    "xx_small",
    "xxs",
    "_t0",
    "tiny",
    "_ti_",
    "_s0",
    "_b0",
    "_m0",
    "small",
)

# arguments that make a network small where its family has only large ones
SMALLER = {
    "beit": {"depth": 2},
    "deepseek_vit": {"depth": 2},
    "deit": {"depth": 2},
    "eva": {"depth": 2},
    "gemma4_vit": {"depth": 2},
    "naflexvit": {"depth": 2},
    "qwen3_vit": {"depth": 2},
    "tnt": {"depth": 2},
    "vision_transformer_sam": {"depth": 2, "global_attn_indexes": (1,)},
}
CHOSEN = {
    "iformer": "iformer_t",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "regnet": "regnetx_002",
    "tresnet": "tresnet_m",
}


def smallest(family):
    """The name of a family's network that promises to be small."""
    names = timm.list_models(module=family)
    return CHOSEN.get(family) or next((name for word in SMALL for name in names if word in name), names[0])


def build(family):
    """A network at the smallest size that it takes, two images and its logits."""
    name, failures = smallest(family), []
    for size in SIZES:
        torch.manual_seed(0)
        images = torch.randn(2, 3, size, size)
        try:
            model = create(name, n_classes=3, image_size=size, args=SMALLER.get(family)).eval()
            with torch.inference_mode():
                return model, images, model(images)
        except (KdprobeError, RuntimeError, AssertionError, ValueError, IndexError) as error:
            failures.append(f"{size} px: {' '.join(str(error).split())[:100]}")
    raise AssertionError(f"{name} takes none of the sizes: {failures}")


@pytest.mark.slow
@pytest.mark.parametrize("family", timm.list_modules())
def test_family(family):
    model, images, logits = build(family)
    with torch.inference_mode(), capture(model, "stages") as features:
        torch.testing.assert_close(model(images), logits)
    assert features
    assert all(feature.isfinite().all() and len(feature) == 2 for feature in features.values())
    with torch.inference_mode():
        seen = Stages(model, needs=("maps", "pooled"))(images)
    torch.testing.assert_close(seen.logits, logits)
    assert seen.maps
    assert all(stage.ndim == 4 and stage.isfinite().all() for stage in seen.maps)
    assert seen.pooled.ndim == 2
    assert seen.pooled.isfinite().all()
