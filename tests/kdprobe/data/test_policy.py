"""timm's RandAugment as a function of each image's key."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import AugmentOp, RandAugment, rand_augment_transform
from torch import Tensor

from kdprobe.config import AugmentConfig
from kdprobe.data.policy import make_policy, vary

STANDARD = "rand-m9-mstd0.5-inc1"


def noise(n: int, size: int = 24) -> Tensor:
    smooth = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    return torch.nn.functional.interpolate(smooth, (size, size), mode="bicubic").clamp(0, 255).to(torch.uint8)


def varied(images: Tensor, policy: RandAugment, views: Tensor, epoch: int = 0) -> Tensor:
    return vary(images, policy, views, seed=3, epoch=epoch)


def test_an_image_is_varied_by_its_key_in_any_batch() -> None:
    images, policy, views = noise(30), make_policy(STANDARD, image_size=24), torch.arange(30)
    together = varied(images, policy, views)
    assert torch.equal(varied(images.flip(0), policy, views.flip(0)).flip(0), together)
    assert torch.equal(varied(images[7:8], policy, views[7:8])[0], together[7])
    other = varied(images, policy, views, epoch=1)
    assert 20 < (together != other).flatten(1).any(1).sum() <= 30


def test_images_are_those_of_timm() -> None:
    images, policy = noise(40), make_policy(STANDARD, image_size=24)
    timms = rand_augment_transform(STANDARD, {"translate_const": 10, "img_mean": (124, 116, 104)})
    for i, (image, found) in enumerate(zip(images, varied(images, policy, torch.arange(40)), strict=True)):
        first, *rest = np.random.SeedSequence((3, 0, 4, i)).generate_state(5).tolist()
        random.seed(first)
        np.random.seed(rest)
        try:
            expected = timms(Image.fromarray(image.permute(1, 2, 0).numpy()))
        except ValueError as error:  # timm's strongest posterize fails with Pillow 13
            assert "bits" in str(error)  # noqa: PT017
            continue
        assert torch.equal(found, torch.from_numpy(np.array(expected)).permute(2, 0, 1))


def test_the_strongest_posterize_gives_black() -> None:
    policy = make_policy("rand-m10-inc1-n1-p1.0", image_size=24)
    [posterize] = [operation for operation in policy.ops if operation.name.startswith("Posterize")]
    posterize.magnitude_std = 0
    picture = Image.fromarray(noise(1)[0].permute(1, 2, 0).numpy())
    assert not np.asarray(posterize(picture)).any()
    posterize.magnitude = 0
    assert len(np.unique(np.asarray(posterize(picture)))) == 16


def test_global_states_are_left_as_they_were() -> None:
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before, numpy_before, torch_before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    varied(noise(3), make_policy(STANDARD, image_size=24), torch.arange(3))
    with pytest.raises(TypeError):
        varied(noise(3), RandAugment([AugmentOp("Rotate", prob=1, magnitude=None)]), torch.arange(3))
    assert random.getstate() == before
    assert (np.random.get_state()[1] == numpy_before).all()
    assert torch.equal(torch.get_rng_state(), torch_before)


@pytest.mark.parametrize(
    "text", [STANDARD, "rand", "rand-n3-m5-p0.7", "rand-m9-tweights-inc1", "rand-t3a", "rand-mmax20-m15-mstd101"]
)
def test_policies_that_the_configuration_takes_work(text: str) -> None:
    policy = make_policy(str(AugmentConfig(rand_augment=text).rand_augment), image_size=24)
    assert varied(noise(20), policy, torch.arange(20)).shape == (20, 3, 24, 24)


@pytest.mark.parametrize("text", ["", "augmix-m3", "rand-x3", "rand-m", "rand-n0", "rand-p2", "rand m9", "rand-t3aw"])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a timm policy such as rand-m9-mstd0\.5-inc1"):
        AugmentConfig(rand_augment=text)
