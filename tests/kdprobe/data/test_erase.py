"""Boxes of noise: how often, how large, where, and a function of the key alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdprobe.data.erase import boxes, erase, random_integers, scramble, uniform

KEYS = torch.arange(4000)


def slow_scramble(x: int) -> int:
    """The finaliser as published, in unsigned 32-bit arithmetic."""
    x ^= x >> 16
    x = x * 0x85EBCA6B % 2**32
    x ^= x >> 13
    x = x * 0xC2B2AE35 % 2**32
    return x ^ (x >> 16)


def box_of(changed: Tensor) -> tuple[int, int]:
    """Height and width of the changed pixels' box."""
    rows, columns = changed.any(0).any(1).nonzero(), changed.any(0).any(0).nonzero()
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20))
def test_scramble_is_the_published_finaliser(numbers: list[int]) -> None:
    assert scramble(torch.tensor(numbers)).tolist() == [slow_scramble(x) for x in numbers]


def test_numbers_are_uniform_and_unrelated() -> None:
    draws = uniform(KEYS, 8)
    assert 0 <= draws.min() < 0.001
    assert 0.999 < draws.max() < 1
    assert draws.mean(0).sub(0.5).abs().max() < 0.02
    assert (torch.corrcoef(draws.T) - torch.eye(8)).abs().max() < 0.06
    assert torch.corrcoef(torch.stack([draws[:-1, 0], draws[1:, 0]]))[0, 1].abs() < 0.06
    assert len(random_integers(KEYS, 8).unique()) > 0.9999 * draws.numel()


def test_the_stated_fraction_of_images_is_erased() -> None:
    images = torch.zeros(4000, 1, 4, 4, dtype=torch.uint8)
    changed = (erase(images, KEYS, probability=0.25) != 0).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert not erase(images, KEYS, probability=0).any()


def test_boxes_cover_the_stated_areas_and_ratios_everywhere() -> None:
    found = boxes(uniform(KEYS, 40).view(-1, 10, 4), 100)
    top, left, high, wide = found.double().unbind(1)
    assert ((top >= 0) & (left >= 0) & (top + high <= 100) & (left + wide <= 100)).all()
    area, ratio = high * wide / 100**2, high / wide
    assert 0.018 < area.min() < 0.03
    assert 0.3 < area.max() < 0.35
    assert 0.28 < ratio.min() < 0.35
    assert 2.9 < ratio.max() < 3.6
    assert ratio.log().mean().abs() < 0.05
    centre = (top + high / 2).mean()
    assert centre.item() == pytest.approx(50, abs=1.5)


def test_no_box_where_none_fits() -> None:
    assert boxes(torch.full((1, 10, 4), 0.5, dtype=torch.float64), 1).tolist() == [[0, 0, 0, 0]]


def test_noise_fills_a_box_and_nothing_else() -> None:
    images = torch.full((50, 3, 32, 32), 7, dtype=torch.uint8)
    erased = erase(images, KEYS[:50], probability=1)
    assert (images == 7).all()
    noise = []
    for image in erased:
        changed = image != 7
        high, wide = box_of(changed)
        assert changed.sum() > 0.97 * 3 * high * wide
        noise.append(image[changed].double())
    values = torch.cat(noise)
    assert values.mean().item() == pytest.approx(127.5, abs=1)
    assert values.std().item() == pytest.approx(255 / 12**0.5, abs=1)


@given(size=st.integers(2, 9), first=st.integers(0, 2**40))
@settings(deadline=None, max_examples=30)
def test_an_image_is_erased_by_its_key_in_any_batch(size: int, first: int) -> None:
    images = torch.randint(0, 256, (70, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    keys = first + torch.arange(70)
    together = erase(images, keys, probability=0.7)
    shuffled = torch.randperm(70, generator=torch.Generator().manual_seed(1))
    assert torch.equal(erase(images[shuffled], keys[shuffled], probability=0.7), together[shuffled])


@pytest.mark.gpu
def test_the_same_on_a_gpu() -> None:
    images = torch.randint(0, 256, (64, 3, 40, 40), dtype=torch.uint8)
    assert torch.equal(
        erase(images.cuda(), KEYS[:64], probability=0.5).cpu(), erase(images, KEYS[:64], probability=0.5)
    )
