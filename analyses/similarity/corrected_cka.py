"""Feature-corrected CKA as a measure of stored or shown layers, minibatch by minibatch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyses.cka.feature_corrected import corrected, not_positive
from analyses.similarity.measure import FeatureSet, Measure
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.hsic import MIN_SAMPLES

_UNITS = ("gap", "mean", "cls")  # reductions that leave one number for each channel


@dataclass(frozen=True, eq=False)
class Units:
    """What each minibatch of a layer gives.

    Attributes:
        features: of all samples.
        grams: inner products that are HSIC when multiplied, of each minibatch.
        own: HSIC of the layer with itself in each [k].
        sizes: samples of each [k].
    """

    features: FeatureSet
    grams: list[Tensor]
    own: Tensor
    sizes: Tensor


@dataclass(frozen=True)
class FeatureCorrectedCKA(Measure[Units]):
    """As `analyses.cka.feature_corrected_cka`, over minibatches that count by their samples."""

    title: ClassVar[str] = "feature-corrected CKA"
    largest: ClassVar[float | None] = None
    grouping: ClassVar[str] = "minibatches"
    batch_size: int = 64

    def refused(self, reduce: str) -> str:
        """Positions of one channel are not units of their own."""
        taken = [one for one in reduce.split(" and ") if one not in _UNITS]
        if not taken:
            return ""
        return (
            f"feature-corrected CKA needs units, such as channels averaged over positions, not {taken[0]}, whose "
            f"values are not a sample of units; give --reduce {', '.join(_UNITS[:-1])} or {_UNITS[-1]}"
        )

    def prepare(self, features: FeatureSet) -> Units:
        """The sums of each minibatch; one of fewer than 4 samples is left out."""
        if features.d < 2:
            raise AnalysisError(f"feature-corrected CKA needs at least 2 units, but got {features.d}")
        rows = features.rows.double() * features.scale
        parts = [part for part in torch.split(rows, self.batch_size) if len(part) >= MIN_SAMPLES]
        grams, own = zip(*map(corrected, parts), strict=True)
        sizes = torch.tensor([len(part) for part in parts], dtype=torch.float64)
        made = Units(features, list(grams), torch.tensor(own, dtype=torch.float64), sizes)
        total = float(made.own @ made.sizes)
        if reason := not_positive(total, total):
            raise Undefined(reason)
        return made

    def compare(self, one: Units, other: Units) -> float:
        """Mean HSIC of the pair over the root of both layers' own."""
        return _value(_shared(one, other), one.own, other.own, one.sizes)

    def left_out(
        self,
        rows: Sequence[tuple[FeatureSet, Units]],
        columns: Sequence[tuple[FeatureSet, Units]],
        groups: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values without each minibatch, from the sums of all."""
        sizes = rows[0][1].sizes if rows else torch.ones(0)
        found = np.full((len(sizes), len(rows), len(columns)), np.nan)
        for (row, (_, one)), (column, (_, other)) in product(enumerate(rows), enumerate(columns)):
            shared = _shared(one, other)
            for place in range(len(sizes)):
                kept = sizes * (torch.arange(len(sizes)) != place)
                found[place, row, column] = _value(shared, one.own, other.own, kept)
        return found, sizes.numpy()

    def reordered(self, prepared: Units, order: Tensor) -> Units:
        """Made again: a permutation puts other samples together."""
        return self.prepare(FeatureSet(prepared.features.rows[order], prepared.features.stored))


def _shared(one: Units, other: Units) -> Tensor:
    """HSIC of a pair of layers over all pairs of units, in each minibatch [k]."""
    products = torch.stack([(x * y).sum() for x, y in zip(one.grams, other.grams, strict=True)])
    return products.cpu() / (one.features.d * other.features.d)


def _value(shared: Tensor, own: Tensor, others: Tensor, sizes: Tensor) -> float:
    """Mean HSIC over the root of both layers' own; NaN where one of these is not positive."""
    scale = float(own @ sizes), float(others @ sizes)
    return float(shared @ sizes) / (scale[0] ** 0.5 * scale[1] ** 0.5) if min(scale) > 0 else math.nan
