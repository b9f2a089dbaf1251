"""How alike two networks are: one number for a pair, from the layers that a rule chooses."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyses.cka.intervals import ratio, without_each
from analyses.cka.sums import Grams, HSICSums
from analyses.jackknife import Array, jackknife_t, too_few
from analyses.layer_pairs import match_layers
from analyses.similarity.intervals import SAMPLE_GROUPS, PreparedLayer, group_samples
from analyses.similarity.measure import FeatureSet
from analyses.similarity.measures import find_measure
from analyses.similarity.null import random_order
from analyses.stored_pair import StoredNetwork
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.gram import centred_gram
from kdprobe.features.shared_images import located

POOLED = "pooled"  # the name of the layer that holds the classifier's input
NO_GROUPS = "they were not asked for"

#: which layers of two networks are compared, by the name of the rule
RULES = {
    "last": "the last stage",
    "pooled": "the classifier's input",
    "depth": "all stages, each beside the other network's at its relative depth, of which the mean counts",
}


@dataclass(frozen=True)
class PairValue:
    """How alike one network is to another.

    Attributes:
        value: NaN where `reason` says why.
        low: lower end of the interval, NaN where there is none.
        high: upper end.
        reason: why there is no value, or no interval; empty where there are both.
        remark: what the value must not be read without; empty for most.
    """

    value: float
    low: float = np.nan
    high: float = np.nan
    reason: str = ""
    remark: str = ""


class Comparison(ABC):
    """What is made of each network, once, and how two of them are compared.

    Attributes:
        title: name of the measure, for people.
        symmetric: whether both directions of a pair are the same.
        grams: whether dumps of Gram matrices will do.
        largest: value of equal networks; None if there is no bound.
    """

    title: str
    symmetric: bool = True
    grams: bool = False
    largest: float | None = 1.0

    @abstractmethod
    def prepare(self, side: StoredNetwork, layers: Sequence[str], batch_size: int) -> Any:
        """What is compared of some layers of a network."""

    @abstractmethod
    def compare(self, one: Any, other: Any) -> PairValue:
        """The first network beside the second."""

    @abstractmethod
    def orders(self, index: Tensor, batch_size: int, permutations: int, seed: int) -> Tensor:
        """Random orders of the images [permutations, n]; images of one index stay together."""

    @abstractmethod
    def null(self, one: Any, other: Any, orders: Tensor) -> Array:
        """The first network beside the second, whose images are in each of these orders [permutations]."""


class _CKA(Comparison):
    """Unbiased linear CKA over minibatches, with its jackknife interval."""

    title = "CKA"
    grams = True

    def prepare(self, side: StoredNetwork, layers: Sequence[str], batch_size: int) -> list[Grams]:
        starts = range(0, side.store.n_samples, batch_size)
        return [{layer: _gram(side, layer, start, batch_size) for layer in layers} for start in starts]

    def compare(self, one: list[Grams], other: list[Grams]) -> PairValue:
        sums = HSICSums()
        for grams, others in zip(one, other, strict=True):
            if sums.accepts(len(next(iter(grams.values())))):
                sums.add(grams, others)
        result = sums.result()
        rows, columns = zip(*_matched(result.teacher_layers, result.student_layers), strict=True)
        reasons = {(cell["teacher_layer"], cell["student_layer"]): cell["reason"] for cell in result.undefined}
        for row, column in zip(rows, columns, strict=True):
            if reason := reasons.get((result.teacher_layers[row], result.student_layers[column])):
                return PairValue(np.nan, reason=_of_either(reason))
        value = float(result.matrix[rows, columns].mean())
        sizes = np.array(list(sums.sizes.values()), np.float64)
        parts = result.hsic_xy[:, rows, columns], result.hsic_xx[:, rows], result.hsic_yy[:, columns]
        rest = ratio(*(without_each(sizes[:, None] * part) for part in parts)).mean(1)
        half = float(jackknife_t(rest, sizes))
        missing = too_few(len(sizes), "minibatches") or "without one of the minibatches, a layer is constant"
        return PairValue(value, value - half, value + half, reason="" if np.isfinite(half) else missing)

    def orders(self, index: Tensor, batch_size: int, permutations: int, seed: int) -> Tensor:
        """Within each minibatch, as its sums are permuted."""
        generator, n = torch.Generator().manual_seed(seed), len(index)
        parts = [(start, index[start : start + batch_size]) for start in range(0, n, batch_size)]
        orders = [
            torch.cat([start + random_order(len(part), generator, part) for start, part in parts])
            for _ in range(permutations)
        ]
        return torch.stack(orders)

    def null(self, one: list[Grams], other: list[Grams], orders: Tensor) -> Array:
        sums, start = HSICSums(permutations=len(orders)), 0
        for grams, others in zip(one, other, strict=True):
            n = len(next(iter(grams.values())))
            if sums.accepts(n):
                sums.add(grams, others, orders=orders[:, start : start + n] - start)
            start += n
        values = sums.null()
        assert values is not None
        rows, columns = zip(*_matched(sums.teacher_layers, sums.student_layers), strict=True)
        found: Array = values[:, rows, columns].mean(1)
        return found


class _Prepared(NamedTuple):
    """A network's layers and, for the jackknife, the number of each image's group."""

    layers: dict[str, PreparedLayer]
    groups: NDArray[np.int64]


class _Measured(Comparison):
    """Another measure, over all samples at once.

    Args:
        name: of the measure.
        n_groups: of images, one left out at a time for the interval; 0 for none.
    """

    def __init__(self, name: str, n_groups: int) -> None:
        self._measure, self._n_groups = find_measure(name), n_groups
        self.title, self.symmetric, self.largest = self._measure.title, self._measure.symmetric, self._measure.largest

    def prepare(self, side: StoredNetwork, layers: Sequence[str], batch_size: int) -> _Prepared:
        stored = torch.float16 if side.store.dtype == "float16" else None
        groups = group_samples(side.store.index, max(self._n_groups, 1))
        return _Prepared({layer: self._prepared(side, layer, stored) for layer in layers}, groups)

    def _prepared(self, side: StoredNetwork, layer: str, stored: torch.dtype | None) -> PreparedLayer:
        try:
            features = FeatureSet(side.reduced(layer, None), stored)
            return PreparedLayer(features, self._measure.prepare(features))
        except Undefined as error:
            return PreparedLayer(None, error)

    def compare(self, one: _Prepared, other: _Prepared) -> PairValue:
        pairs, remarks = _pairs(one, other), list[str]()
        for x, y in pairs:
            failed = next((str(side.prepared) for side in (x, y) if side.failed), "")
            if reason := failed or self._measure.undefined(x.prepared, y.prepared):
                return PairValue(np.nan, reason=reason)
            remarks.append(self._measure.caution(x.prepared, y.prepared, len(one.groups)))
        value = float(np.mean([self._measure.compare(x.prepared, y.prepared) for x, y in pairs]))
        half, reason = self._half_width(pairs, one.groups)
        low, high = map(float, self._measure.ends(value, half))
        return PairValue(value, low, high, reason, next(filter(None, remarks), ""))

    def _half_width(self, pairs: "_Pairs", groups: NDArray[np.int64]) -> tuple[float, str]:
        """Half the width of the interval, or why there is none."""
        if reason := self._measure.no_interval or ("" if self._n_groups else NO_GROUPS):
            return np.nan, reason
        left = [self._measure.left_out([(x[0], x[1])], [(y[0], y[1])], groups) for x, y in pairs if x[0] and y[0]]
        weights = left[0][1]
        half = float(jackknife_t(np.mean([values[:, 0, 0] for values, _ in left], axis=0), weights))
        missing = f"without some of the {self._measure.grouping} the pair has no value"
        return half, "" if np.isfinite(half) else too_few(len(weights), self._measure.grouping) or missing

    def orders(self, index: Tensor, batch_size: int, permutations: int, seed: int) -> Tensor:
        """Of all images."""
        generator = torch.Generator().manual_seed(seed)
        return torch.stack([random_order(len(index), generator, index) for _ in range(permutations)])

    def null(self, one: _Prepared, other: _Prepared, orders: Tensor) -> Array:
        values = np.full((len(orders), len(pairs := _pairs(one, other))), np.nan)
        for place, (x, y) in enumerate(pairs):
            if x.failed or y.failed or self._measure.undefined(x.prepared, y.prepared):
                continue
            for draw, order in enumerate(orders):
                turned = self._measure.reordered(y.prepared, order)
                values[draw, place] = self._measure.compare(x.prepared, turned)
        found: Array = values.mean(1)
        return found


_Pairs = Sequence[tuple[PreparedLayer, PreparedLayer]]


def _pairs(one: _Prepared, other: _Prepared) -> _Pairs:
    """The layers that go together."""
    rows, columns = list(one.layers.values()), list(other.layers.values())
    return [(rows[row], columns[column]) for row, column in _matched(list(one.layers), list(other.layers))]


def comparison(measure: str, groups: int = SAMPLE_GROUPS) -> Comparison:
    """The comparison by a measure.

    Args:
        measure: `cka`, or a name in `analyses.similarity.measures.MEASURES`.
        groups: of images, one left out at a time for the intervals of other measures than CKA; 0 for none.

    Raises:
        AnalysisError: for another name.
    """
    return _CKA() if measure == "cka" else _Measured(measure, groups)


def layers_of(side: StoredNetwork, rule: str) -> list[str]:
    """The layers of a network that a rule chooses, shallow to deep.

    Args:
        side: the network.
        rule: a name in `RULES`.

    Raises:
        AnalysisError: if a dump does not hold them.
    """
    stages = side.store.stages(side.role)
    if rule == POOLED:
        if POOLED not in side.layers():
            raise AnalysisError(
                f"{side.store.path} does not hold the classifier's input as its layer {POOLED!r}; give the network "
                "itself instead of its dump, or --rule last"
            )
        return [POOLED]
    if not stages:
        raise AnalysisError(f"{side.store.path} holds no stages of its {side.role}; dump it with --layers stages")
    return stages if rule == "depth" else stages[-1:]


def _matched(one: Sequence[str], other: Sequence[str]) -> list[tuple[int, int]]:
    """Places of the layers that go together: each of the network with fewer goes with one of the other's."""
    if len(other) > len(one):
        return [(row, column) for column, row in _matched(other, one)]
    return [(one.index(row), other.index(column)) for row, column in match_layers(one, other)]


def _gram(side: StoredNetwork, layer: str, start: int, size: int) -> torch.Tensor:
    values = side.minibatch(layer, start, size)
    with located(f"samples from {start} on of {side.store.path}, layer {layer!r}"):
        return values if side.store.content == "grams" else centred_gram(values)


def _of_either(reason: str) -> str:
    """A reason in which neither network is called teacher or student."""
    return reason.removeprefix("teacher ").removeprefix("student ")
