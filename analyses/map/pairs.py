"""How alike two networks are: one number for a pair, from the layers that a rule chooses."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analyses.cka.intervals import ratio, without_each
from analyses.cka.sums import Grams, HSICSums
from analyses.jackknife import jackknife_t, too_few
from analyses.layer_pairs import match_layers
from analyses.similarity.measure import FeatureSet
from analyses.similarity.measures import MEASURES, find_measure
from analyses.stored_pair import StoredNetwork
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.gram import centred_gram
from kdprobe.features.shared_images import located

POOLED = "pooled"  # the name of the layer that holds the classifier's input
NO_INTERVAL = "a map has intervals of CKA alone"

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
    """

    title: str
    symmetric: bool = True
    grams: bool = False

    @abstractmethod
    def prepare(self, side: StoredNetwork, layers: Sequence[str], batch_size: int) -> Any:
        """What is compared of some layers of a network."""

    @abstractmethod
    def compare(self, one: Any, other: Any) -> PairValue:
        """The first network beside the second."""


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
        places = _matched(result.teacher_layers, result.student_layers)
        rows, columns = ([pair[side] for pair in places] for side in (0, 1))
        reasons = {(cell["teacher_layer"], cell["student_layer"]): cell["reason"] for cell in result.undefined}
        for row, column in places:
            if reason := reasons.get((result.teacher_layers[row], result.student_layers[column])):
                return PairValue(np.nan, reason=_of_either(reason))
        value = float(result.matrix[rows, columns].mean())
        sizes = np.array(list(sums.sizes.values()), np.float64)
        parts = result.hsic_xy[:, rows, columns], result.hsic_xx[:, rows], result.hsic_yy[:, columns]
        rest = ratio(*(without_each(sizes[:, None] * part) for part in parts)).mean(1)
        half = float(jackknife_t(rest, sizes))
        missing = too_few(len(sizes), "minibatches") or "without one of the minibatches, a layer is constant"
        return PairValue(value, value - half, value + half, reason="" if np.isfinite(half) else missing)


class _Measured(Comparison):
    """Another measure, over all samples at once."""

    def __init__(self, name: str) -> None:
        self._measure = find_measure(name)
        self.title, self.symmetric = self._measure.title, self._measure.symmetric

    def prepare(self, side: StoredNetwork, layers: Sequence[str], batch_size: int) -> dict[str, Any]:
        stored = torch.float16 if side.store.dtype == "float16" else None
        return {layer: self._prepared(side, layer, stored) for layer in layers}

    def _prepared(self, side: StoredNetwork, layer: str, stored: torch.dtype | None) -> Any:
        try:
            return self._measure.prepare(FeatureSet(side.reduced(layer, None), stored))
        except Undefined as error:
            return error

    def compare(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> PairValue:
        values, remarks, layers = list[float](), list[str](), (list(one.values()), list(other.values()))
        for row, column in _matched(list(one), list(other)):
            x, y = layers[0][row], layers[1][column]
            failed = next((str(side) for side in (x, y) if isinstance(side, AnalysisError)), "")
            if reason := failed or self._measure.undefined(x, y):
                return PairValue(np.nan, reason=reason)
            values.append(self._measure.compare(x, y))
            remarks.append(self._measure.remark(x, y))
        return PairValue(float(np.mean(values)), reason=NO_INTERVAL, remark=next(filter(None, remarks), ""))


def comparison(measure: str) -> Comparison:
    """The comparison by a measure: `cka`, or a name in `analyses.similarity.measures.MEASURES`.

    Raises:
        AnalysisError: for another name.
    """
    return _CKA() if measure == "cka" else _Measured(measure)


def measure_names() -> list[str]:
    """The names that `comparison` takes."""
    return ["cka", *MEASURES]


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
