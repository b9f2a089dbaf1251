"""Intervals of similarity: the jackknife over groups of samples, of which each is left out once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses.jackknife import MIN_GROUPS, Array, jackknife_t, too_few
from analyses.similarity.measure import FeatureSet, Measure
from kdprobe.errors import AnalysisError

SAMPLE_GROUPS = 20


class PreparedLayer(NamedTuple):
    """A layer's features and what a measure needs of them, or the error that says why it has no similarity."""

    features: FeatureSet | None
    prepared: Any

    @property
    def failed(self) -> bool:
        """Whether it has none."""
        return isinstance(self.prepared, AnalysisError)


def matrix_of(measure: Measure[Any], rows: Sequence[PreparedLayer], columns: Sequence[PreparedLayer]) -> Array:
    """Values of all pairs of layers [rows, columns], NaN where one is undefined."""
    matrix = np.full((len(rows), len(columns)), np.nan)
    known = [[place for place, one in enumerate(side) if not one.failed] for side in (rows, columns)]
    sides = ([one.prepared for one in side if not one.failed] for side in (rows, columns))
    matrix[np.ix_(*known)] = measure.compare_all(*sides)
    return matrix


def group_samples(index: Any, n_groups: int = SAMPLE_GROUPS, *, seed: int = 0) -> NDArray[np.int64]:
    """Random groups of about equal size; samples of one index, such as views of one image, stay together.

    Args:
        index: of each sample [n].
        n_groups: how many there shall be; fewer where there are fewer different indices.
        seed: of the draw.

    Returns:
        the number of each sample's group [n].
    """
    unique, place = np.unique(np.asarray(index), return_inverse=True)
    numbers = np.arange(len(unique)) % min(n_groups, len(unique))
    return np.random.default_rng(seed).permutation(numbers)[place]


def group_half_widths(
    measure: Measure[Any],
    rows: Sequence[PreparedLayer],
    columns: Sequence[PreparedLayer],
    groups: NDArray[np.int64],
    *,
    confidence: float = 0.95,
) -> tuple[Array, str]:
    """Half the width of the interval of each pair of layers.

    Args:
        measure: of the values.
        rows: layers of one network.
        columns: layers of the other.
        groups: the number of each sample's group.
        confidence: of the intervals, in (0, 1).

    Returns:
        [rows, columns], NaN where there is no interval; and why there is none, empty if each defined value has one.
    """
    n_groups = MIN_GROUPS if measure.grouping == "minibatches" else len(np.unique(groups))
    if reason := measure.no_interval or too_few(n_groups, measure.grouping):
        return np.full((len(rows), len(columns)), np.nan), reason
    known = [[place for place, one in enumerate(side) if not one.failed] for side in (rows, columns)]
    sides = [[(one.features, one.prepared) for one in side if one.features is not None] for side in (rows, columns)]
    found, weights = measure.left_out(sides[0], sides[1], groups)
    half = np.full((len(rows), len(columns)), np.nan)
    half[np.ix_(*known)] = jackknife_t(found, weights, confidence)
    reason = too_few(len(weights), measure.grouping)
    if not reason and not np.isfinite(half[np.ix_(*known)]).all():
        reason = f"some pairs of layers have no interval: without some of the {measure.grouping} they have no value"
    return half, reason
