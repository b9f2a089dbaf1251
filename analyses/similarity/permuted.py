"""The permutation null of a measure: all pairs of layers again, with the student's samples in random orders."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from analyses.jackknife import Array
from analyses.similarity.intervals import PreparedLayer, matrix_of
from analyses.similarity.measure import Measure
from analyses.similarity.null import random_orders


def permutation_null(
    measure: Measure[Any],
    rows: Sequence[PreparedLayer],
    columns: Sequence[PreparedLayer],
    index: Tensor,
    permutations: int,
    *,
    seed: int = 0,
) -> Array:
    """Values of all pairs under random orders of the samples, each the same for all layers.

    What was made of a layer is reordered, not made again.

    Args:
        measure: of the values.
        rows: layers of the teacher.
        columns: layers of the student, whose samples are permuted.
        index: of each sample [n]; samples of one index, such as views of one image, stay together.
        permutations: K, the number of orders.
        seed: of the orders.

    Returns:
        [K, rows, columns], NaN where a pair is undefined.
    """
    null = np.empty((permutations, len(rows), len(columns)))
    for draw, order in enumerate(random_orders(len(index), permutations, seed=seed, groups=index)):
        turned = [
            one if one.failed else one._replace(prepared=measure.reordered(one.prepared, order)) for one in columns
        ]
        null[draw] = matrix_of(measure, rows, turned)
    return null
