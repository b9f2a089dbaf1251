"""One small network of each of timm's families, through `capture` and `Stages`; a dozen more closely."""

import pytest
import timm
import torch

from kdprobe.errors import CaptureError
from kdprobe.features.capturing import capture
from kdprobe.models.facts import stage_names
from kdprobe.models.layout import as_map
from kdprobe.models.stages import Stages
from tests.families import build, build_torchvision, count, look_at

#: a cosine transform hides what the dimensions are; branches lead around resolutions
NO_STAGES = ("csatv2", "hrnet", "mobilenetv5")
#: methods are given other maps than the ends of stages: more of them, or of other modules
OTHER_MAPS = ("crossvit", "hiera", "tnt", "tresnet", "xception", "xception_aligned")
#: of each kind that differs: tokens of three kinds, windows, channels last, branches, late class tokens, odd orders
CHOSEN = (
    *("beit", "cait", "efficientnet", "hiera", "mvitv2", "nest", "pit", "swin_transformer", "twins", "volo", "xcit"),
    *("torchvision:convnext_tiny", "torchvision:googlenet", "torchvision:swin_t", "torchvision:vit_b_16"),
)


@pytest.mark.slow
@pytest.mark.parametrize("family", timm.list_modules())
def test_family(family):
    model, images, logits = build(family)
    with torch.inference_mode():
        seen = Stages(model, needs=("maps", "pooled"))(images)
    if family in NO_STAGES:
        with pytest.raises(CaptureError, match="cannot be determined"):
            stage_names(model, images)
    else:
        with torch.inference_mode(), capture(model, "stages", reduce="whole") as ends:
            model(images)
            maps = [as_map(ends[name], layout) for name, layout in ends.layouts.items()]
        alike = len(maps) == len(seen.maps) and all(map(torch.equal, maps, seen.maps))
        assert alike == (family not in OTHER_MAPS)
    torch.testing.assert_close(seen.logits, logits)
    assert seen.maps
    assert all(stage.ndim == 4 and stage.isfinite().all() for stage in seen.maps)
    assert seen.pooled.ndim == 2
    assert seen.pooled.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("key", CHOSEN)
def test_what_is_captured_is_checked_by_other_means(key):
    family = key.removeprefix("torchvision:")
    model, images, logits = (build_torchvision if family != key else build)(family)
    seen = look_at(model, images, logits)
    count(model, images, seen)
    assert not seen.wrong
    assert set(seen.refused) <= {"cls"}
    assert not seen.not_cuts
    assert sum(seen.checks.values()) >= len(seen.stages)
