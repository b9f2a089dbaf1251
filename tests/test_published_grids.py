"""The noise of published grids: what trainings of several seeds show, and how often it gives such a range."""

import runpy
from pathlib import Path

import numpy as np
import pytest

GRIDS = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "study" / "published_grids.py"))


def test_the_cells_are_the_printed_ones():
    feature, logit = GRIDS["published_grids"]()
    assert (feature.n_cells, logit.n_cells) == (21, 23)
    assert (feature.range, logit.range) == (pytest.approx(89.18 - 87.35), pytest.approx(89.18 - 86.73))
    diagonal = [88.14, 89.04, 89.18, 88.94, 88.07]
    others = [88.72, 88.20, 88.40, 87.78, 88.49, 88.27, 87.35, 88.59, 88.53, 87.35, 88.01, 88.20, 87.68, 87.48, 88.14]
    others += [88.53]
    assert feature.on_diagonal == pytest.approx(np.mean(diagonal) - np.mean(others))


def test_noise_alone_gives_such_a_range_as_often_as_said():
    generator = np.random.default_rng(0)
    for grid in GRIDS["published_grids"]():
        ranges = np.ptp(generator.normal(0, grid.enough, (20_000, grid.n_cells)), axis=1)
        assert (ranges >= grid.range).mean() == pytest.approx(0.05, abs=0.005)
        for deviation in (0.3, 0.5):
            ranges = np.ptp(generator.normal(0, deviation, (20_000, grid.n_cells)), axis=1)
            as_large, as_small = GRIDS["p_of_range"](grid, deviation)
            assert (ranges >= grid.range).mean() == pytest.approx(as_large, abs=0.012)
            assert (ranges <= grid.range).mean() == pytest.approx(as_small, abs=0.012)


def test_noise_is_told_from_runs_of_several_seeds():
    generator = np.random.default_rng(1)
    n_images, spread, groups = 2000, 0.01, []
    easy = generator.beta(4, 1, n_images)  # how likely each image is got right
    for _ in range(400):
        shifts = generator.normal(0, spread, (3, 1))
        groups.append(generator.random((3, n_images)) < np.clip(easy + shifts, 0, 1))
    noise = GRIDS["noise_of"](groups)
    seen = np.mean([group.mean(1).var(ddof=1) for group in groups])
    assert noise.disagreement == pytest.approx(2 * (easy * (1 - easy)).mean(), rel=0.05)
    assert noise.deviation(n_images) ** 2 == pytest.approx(seen, rel=1e-9)
    assert noise.seeds == pytest.approx(spread**2, rel=0.25)
    assert noise.deviation(10**9) == pytest.approx(noise.seeds**0.5, rel=1e-3)
