"""Each image is varied by itself, and only by (seed, epoch, image)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdprobe.config import AugmentConfig
from kdprobe.data.augment import Variation, draw_variations, generator, random_box, shift_and_flip

PAD = AugmentConfig(crop="pad", padding=4, flip=True)


def slow_shift_and_flip(images: Tensor, variation: Variation, padding: int) -> Tensor:
    """Pixel by pixel: where does each pixel come from?"""
    result = torch.zeros_like(images)
    size = images.shape[-1]
    for image in range(len(images)):
        top, left = (variation.shift[image] - padding).tolist()
        for row in range(size):
            for column in range(size):
                from_row, from_column = row + top, (size - 1 - column if variation.flip[image] else column) + left
                if 0 <= from_row < size and 0 <= from_column < size:
                    result[image, :, row, column] = images[image, :, from_row, from_column]
    return result


@given(size=st.integers(1, 7), padding=st.integers(0, 4), n=st.integers(1, 5), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_shift_and_flip_equals_the_pixel_loop(size: int, padding: int, n: int, seed: int) -> None:
    images = torch.randint(1, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator(seed))
    variation = draw_variations(n, AugmentConfig(padding=padding), seed=seed, epoch=0)
    expected = slow_shift_and_flip(images, variation, padding)
    assert torch.equal(shift_and_flip(images, variation, padding=padding), expected)


def test_the_middle_shift_without_flip_changes_nothing() -> None:
    images = torch.rand(2, 3, 8, 8)
    still = Variation(torch.full((2, 2), 4), torch.zeros(2, dtype=torch.bool))
    assert torch.equal(shift_and_flip(images, still, padding=4), images)


def test_variations_are_independent_between_images_and_epochs() -> None:
    first, second = draw_variations(20_000, PAD, seed=0, epoch=0), draw_variations(20_000, PAD, seed=0, epoch=1)
    counts = first.shift[:, 0] * 9 + first.shift[:, 1]
    frequencies = counts.bincount(minlength=81) / 20_000
    assert frequencies.min() > 0.5 / 81
    assert frequencies.max() < 1.5 / 81
    assert first.flip.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (first.shift == second.shift).float().mean().item() == pytest.approx(1 / 9, abs=0.02)


def test_what_is_not_asked_for_stays() -> None:
    variation = draw_variations(50, AugmentConfig(crop="none", flip=False), seed=0, epoch=0)
    assert not variation.shift.any()
    assert not variation.flip.any()


def test_global_random_state_is_untouched() -> None:
    torch.manual_seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1]
    draw_variations(10, PAD, seed=0, epoch=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()


@given(height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 99))
@settings(deadline=None)
def test_random_boxes_lie_inside(height: int, width: int, seed: int) -> None:
    left, top, right, bottom = random_box(height, width, generator(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_random_boxes_cover_the_stated_areas_and_ratios() -> None:
    boxes = [random_box(200, 200, generator(0, i)) for i in range(2000)]
    areas = torch.tensor([(right - left) * (bottom - top) for left, top, right, bottom in boxes]) / 200**2
    ratios = torch.tensor([(right - left) / (bottom - top) for left, top, right, bottom in boxes])
    assert 0.075 < areas.min() < 0.1
    assert areas.max() > 0.95
    assert 0.73 < ratios.min() < ratios.max() < 1.37
    assert ratios.log().mean().item() == pytest.approx(0, abs=0.02)


def test_a_strip_without_an_allowed_area_gives_its_centre() -> None:
    assert random_box(10, 1000, generator(0)) == (493, 0, 506, 10)
    assert random_box(1000, 9, generator(0)) == (0, 494, 9, 506)
