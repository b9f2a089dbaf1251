"""What is kept of each minibatch, and in which precision."""

import numpy as np
import pytest
import torch

from analyses.cka.sums import HSICSums
from kdprobe.features.gram import centred_gram


def grams(seed, *, scale=1.0):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return {"x": centred_gram(scale * x)}


def added(scales):
    sums = HSICSums()
    for seed, scale in enumerate(scales):
        sums.add(grams(seed, scale=scale), grams(seed, scale=scale))
    return sums.result()


def test_ordinary_values_are_kept_in_float32():
    result = added([1.0] * 6)
    assert result.hsic_xy.dtype == result.hsic_xx.dtype == np.float32
    assert result.hsic_xy.shape == (6, 1, 1)
    assert result.hsic_xx.shape == (6, 1)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_what_float32_cannot_hold_is_kept_in_float64_from_there_on(scale):
    usual, result = added([1.0] * 6), added([1.0, 1.0, 1.0, scale, 1.0, 1.0])
    assert result.hsic_xy.dtype == np.float64
    assert result.hsic_xx[3, 0] == pytest.approx(scale**4 * float(usual.hsic_xx[3, 0]), rel=1e-6)
    np.testing.assert_array_equal(result.hsic_xx[:3], usual.hsic_xx[:3])
    assert result.hsic_xx[4, 0] != np.float32(result.hsic_xx[4, 0])


def test_a_result_outlives_later_minibatches():
    sums = HSICSums()
    sums.add(grams(0), grams(0))
    first = sums.result()
    before = first.hsic_xy.copy()
    sums.add(grams(1), grams(1))
    np.testing.assert_array_equal(first.hsic_xy, before)
    assert sums.result().hsic_xy.shape == (2, 1, 1)
    np.testing.assert_array_equal(sums.result().hsic_xy[:1], before)
