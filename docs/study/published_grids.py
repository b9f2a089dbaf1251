"""Can the range of the published grids of dropout rates (Figures 2 and 3) be told from noise?

The publication trains one network for each cell and tests all on the same 3,068 images. Model: all cells have the
same accuracy in truth, and what a cell shows differs from it by normal noise of standard deviation s, independently.
s has two parts, both of which trainings with several seeds show: networks of other seeds differ in truth, with
variance t2; and two networks that are equally good in truth err on other images, so that on n images one run varies
by d / (2 n), where d is the share of images on which one of two runs is right and the other wrong.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy.optimize import brentq
from scipy.stats import studentized_range

from figures.paper.write import GRIDS, published_grid

N_IMAGES = 3068
_DRAWS = 100_000


class Noise(NamedTuple):
    """What trainings that differ in the seed alone show.

    Attributes:
        seeds: variance of the accuracy over seeds in truth, in squared shares.
        disagreement: share of images on which one of two runs is right and the other wrong.
    """

    seeds: float
    disagreement: float

    def deviation(self, n_images: int) -> float:
        """Standard deviation of one run's accuracy on so many images, as a share."""
        return float(np.sqrt(self.seeds + self.disagreement / (2 * n_images)))


class Grid(NamedTuple):
    """What is known of a published grid; accuracies and deviations in points.

    Attributes:
        name: "figure2" or "figure3".
        kind: what its rates are of.
        n_cells: cells with a number.
        range: highest minus lowest.
        enough: the smallest deviation of one run at which noise alone reaches this range in one of twenty grids.
        on_diagonal: mean of the cells of equal rates minus the mean of the others.
        p_diagonal: share of all ways of dealing the numbers to the cells with at least that difference, in either
            direction, as drawn.
    """

    name: str
    kind: str
    n_cells: int
    range: float
    enough: float
    on_diagonal: float
    p_diagonal: float


def noise_of(right: Sequence[ndarray]) -> Noise:
    """The noise that groups of runs show, each of one setting and several seeds.

    Args:
        right: of each group, which images each run has right, [seeds, images].
    """
    groups = [np.asarray(group, dtype=np.float64) for group in right]
    n_images = groups[0].shape[1]
    differing = [np.abs(one - other).mean() for group in groups for one, other in combinations(group, 2)]
    disagreement = float(np.mean(differing))
    seen = float(np.mean([group.mean(1).var(ddof=1) for group in groups]))
    return Noise(max(0.0, seen - disagreement / (2 * n_images)), disagreement)


def published_grids() -> list[Grid]:
    """Both grids, with what noise would have to be."""
    return [_grid(name, kind) for name, kind in GRIDS.items()]


def p_of_range(grid: Grid, deviation: float) -> tuple[float, float]:
    """How often noise alone gives a range at least, and at most, as large, for a deviation of one run in points."""
    steps = grid.range / deviation
    return tuple(float(of(steps, grid.n_cells, np.inf)) for of in (studentized_range.sf, studentized_range.cdf))


def _grid(name: str, kind: str) -> Grid:
    cells = 100 * published_grid(name).arrays["accuracy"][..., 0]
    rows, columns = np.nonzero(~np.isnan(cells))
    values, equal = cells[rows, columns], rows == columns
    found = float(np.ptp(values))
    enough = brentq(lambda s: studentized_range.sf(found / s, len(values), np.inf) - 0.05, found / 20, found)
    difference = values[equal].mean() - values[~equal].mean()
    dealt = np.random.default_rng(0).permuted(np.tile(values, (_DRAWS, 1)), axis=1)
    differences = dealt[:, equal].mean(1) - dealt[:, ~equal].mean(1)
    reached = int((abs(differences) >= abs(difference) - 1e-9).sum())
    return Grid(name, kind, len(values), found, float(enough), float(difference), (reached + 1) / (_DRAWS + 1))
