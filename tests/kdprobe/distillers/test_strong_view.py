import pytest
import torch

from kdprobe.distillers.strong_view import GREY, strong_view
from kdprobe.errors import DataError


def test_keeps_shape_and_range_and_follows_the_seed():
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    views = []
    for _ in range(2):
        torch.manual_seed(1)
        views.append(strong_view(images))
    assert torch.equal(*views)
    assert torch.equal(images, before)
    assert views[0].shape == images.shape
    assert views[0].min() >= 0
    assert views[0].max() <= 1
    assert (views[0] != images).flatten(1).any(dim=1).sum() >= 15


def test_the_grey_rectangle_covers_at_most_a_quarter():
    torch.manual_seed(2)
    images = torch.zeros(64, 3, 32, 32)
    grey = (strong_view(images) - torch.tensor(GREY)[:, None, None]).abs().amax(dim=1) < 1e-6
    covered = grey.flatten(1).float().mean(dim=1)
    assert covered.max() <= 0.25
    assert 0.05 < covered.mean() < 0.12


def test_grey_images_have_one_channel_and_others_are_refused():
    torch.manual_seed(0)
    images = torch.rand(64, 1, 16, 16)
    views = strong_view(images)
    assert views.shape == images.shape
    assert (views != images).flatten(1).any(dim=1).sum() >= 60
    with pytest.raises(
        DataError, match="augmented views are made of images of 1 or 3 channels, but these have 4; take"
    ):
        strong_view(torch.rand(2, 4, 16, 16))
