"""What a measure of similarity is: what it needs of each layer, made once, and how two layers are compared.

A measure works in two steps, so that what belongs to one layer (a basis, distances, neighbours) is made once and not
for every pair of layers, and so that the samples of one layer can be permuted without making it again.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyses.arrays import as_tensor
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.hsic import MIN_SAMPLES
from kdprobe.features.rounding import precision_of, varying_columns

FEW_SAMPLES = 20  # of fewer, the values of unrelated layers scatter widely

NO_POPULATION_VALUE = (
    "the measure is larger for fewer samples in more dimensions, so that an interval around it would miss the value of "
    "the population; read it beside its permutation null"
)

Prepared = TypeVar("Prepared")


class FeatureSet:
    """The features of one layer, checked.

    Directions and distances that only rounding tells apart (`kdprobe.features.rounding`) do not count.

    Args:
        features: [n, ...].
        stored: the precision of the file that they come from, where it is known.

    Attributes:
        n: samples.
        d: dimensions.
        rows: the features as they were given [n, d].
        stored: the precision that they were stored or computed in.

    Raises:
        AnalysisError: for features that are not finite, or of fewer than 4 samples: 3 have only 6 orders, so that no
            value could be told from chance at the level 0.05.
    """

    def __init__(self, features: Tensor, stored: torch.dtype | None = None) -> None:
        rows = as_tensor(features, name="features", least=2).detach().flatten(1)
        if not bool(torch.isfinite(rows).all()):
            raise AnalysisError("similarity needs finite features, but some are NaN or infinite")
        if len(rows) < MIN_SAMPLES:
            raise AnalysisError(
                f"similarity needs at least {MIN_SAMPLES} samples, but got {len(rows)}, of which no value can be told "
                "from chance"
            )
        self.n, self.d = rows.shape
        self.rows, self.stored = rows, precision_of(rows, stored)

    @cached_property
    def _varying(self) -> tuple[Tensor | None, float]:
        """Which columns vary, None for all; the scale."""
        columns = varying_columns(self.rows, self.stored)
        if not columns.any():
            raise Undefined(
                "the features are the same for all samples but for rounding, so that similarity is undefined"
            )
        some = None if columns.all() else columns
        low, high = (self.rows if some is None else self.rows[:, some]).aminmax()
        return some, math.ldexp(1.0, -math.frexp(max(-float(low), float(high)))[1])

    @property
    def scale(self) -> float:
        """The factor, a power of 2, that brings what varies to a size near 1.

        Raises:
            Undefined: if nothing varies by more than rounding.
        """
        return self._varying[1]

    @property
    def varying(self) -> Tensor:
        """The columns that vary [n, v], float64, scaled.

        Raises:
            Undefined: if there are none.
        """
        columns, scale = self._varying
        return (self.rows if columns is None else self.rows[:, columns]).double() * scale

    @property
    def centred(self) -> Tensor:
        """The same without their mean."""
        varying = self.varying
        return varying - varying.mean(0)


class Measure(ABC, Generic[Prepared]):
    """A measure of how alike two sets of features of the same samples are; larger is more alike.

    Attributes:
        title: its name for people.
        symmetric: whether the order of the two does not matter.
        largest: of equal features; None if there is no bound.
        bounds: what its values, and the ends of their intervals, lie between.
        no_interval: why its values have no intervals; empty if they have.
        grouping: what is left out, one at a time, for an interval.
    """

    title: ClassVar[str]
    symmetric: ClassVar[bool] = True
    largest: ClassVar[float | None] = 1.0
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    no_interval: ClassVar[str] = ""
    grouping: ClassVar[str] = "groups of samples"

    @abstractmethod
    def prepare(self, features: FeatureSet) -> Prepared:
        """What the measure needs of one layer.

        Raises:
            Undefined: if it has no similarity with any other.
        """

    @abstractmethod
    def compare(self, one: Prepared, other: Prepared) -> float:
        """The value of a pair of layers; one that `undefined` says nothing of."""

    @abstractmethod
    def reordered(self, prepared: Prepared, order: Tensor) -> Prepared:
        """What `prepare` gives for `features[order]`, without making it again.

        Args:
            prepared: of n samples.
            order: a permutation of 0 to n - 1.
        """

    def refused(self, reduce: str) -> str:
        """Why the measure makes no sense of what was taken of each layer; empty if it does."""
        return ""

    def facts(self, n: int) -> dict[str, Any]:
        """What of the measure belongs to a result of n samples; nothing for most."""
        return {}

    def undefined(self, one: Prepared, other: Prepared) -> str:
        """Why a pair has no value; empty if it has one."""
        return ""

    def remark(self, one: Prepared, other: Prepared) -> str:
        """What a value of this measure must not be read without; empty for most."""
        return ""

    def caution(self, one: Prepared, other: Prepared, n: int) -> str:
        """What a value of n samples must not be read without; empty for most."""
        few = (
            f"of only {n} samples, unrelated layers often come out alike; take {FEW_SAMPLES} or more, or set values "
            "beside their permutation null"
        )
        return "; ".join(filter(None, (few if n < FEW_SAMPLES else "", self.remark(one, other))))

    def ends(self, value: Any, half: Any) -> tuple[Any, Any]:
        """The ends of intervals of so many half-widths around values, within the range of the measure."""
        least, most = self.bounds
        low, high = np.maximum(value - half, least), np.minimum(value + half, most)
        return np.minimum(low, value), np.maximum(high, value)  # values themselves may leave it by rounding

    def compare_all(self, rows: Sequence[Prepared], columns: Sequence[Prepared]) -> NDArray[np.float64]:
        """Values of all pairs [rows, columns], NaN where one is undefined."""
        return np.array(
            [[np.nan if self.undefined(x, y) else self.compare(x, y) for y in columns] for x in rows]
        ).reshape(len(rows), len(columns))

    def without(self, features: FeatureSet, prepared: Prepared, kept: Tensor) -> Prepared:
        """What `prepare` gives for some samples of a layer.

        Args:
            features: of all.
            prepared: of all, from which some measures take it.
            kept: places of the samples.
        """
        return self.prepare(FeatureSet(features.rows[kept], features.stored))

    def left_out(
        self,
        rows: Sequence[tuple[FeatureSet, Prepared]],
        columns: Sequence[tuple[FeatureSet, Prepared]],
        groups: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values of all pairs without each group of samples, for the jackknife.

        Args:
            rows: features and what was prepared of them.
            columns: the same of the other network.
            groups: the number of each sample's group.

        Returns:
            values [groups, rows, columns], NaN where one is undefined; the groups' weights.
        """
        numbers, counts = np.unique(groups, return_counts=True)
        found = np.full((len(numbers), len(rows), len(columns)), np.nan)
        for place, number in enumerate(numbers):
            kept = torch.from_numpy(np.flatnonzero(groups != number))
            sides = [[self._try_without(*layer, kept) for layer in side] for side in (rows, columns)]
            known = [[at for at, one in enumerate(side) if one is not None] for side in sides]
            made = ([one for one in side if one is not None] for side in sides)
            found[place][np.ix_(*known)] = self.compare_all(*made)
        return found, counts.astype(np.float64)

    def _try_without(self, features: FeatureSet, prepared: Prepared, kept: Tensor) -> Prepared | None:
        try:
            return self.without(features, prepared, kept)
        except AnalysisError:
            return None

    def between(self, x: Any, y: Any) -> float:
        """The value of two arrays or tensors of features; raises and warns as `prepared_pair` does."""
        return self.compare(*self.prepared_pair(x, y))

    def prepared_pair(self, x: Any, y: Any) -> tuple[Prepared, Prepared]:
        """What is compared of two arrays or tensors of features.

        Raises:
            AnalysisError: for different samples, or features that are not finite.
            Undefined: where the pair has no value, with the reason.

        Warns:
            UserWarning: of what the value must not be read without.
        """
        x, y = as_tensor(x, name="x", least=2), as_tensor(y, name="y", least=2)
        if len(x) != len(y):
            raise AnalysisError(f"x and y need features of the same samples, but have {len(x)} and {len(y)} rows")
        one, other = self.prepare(FeatureSet(x)), self.prepare(FeatureSet(y))
        if reason := self.undefined(one, other):
            raise Undefined(reason)
        if remark := self.caution(one, other, len(x)):
            warnings.warn(remark, UserWarning, stacklevel=5)
        return one, other


def counts(n: int, d_one: int, d_other: int) -> str:
    """Numbers of samples and dimensions in words."""
    return f"{n} samples in {d_one} and {d_other} dimensions"
